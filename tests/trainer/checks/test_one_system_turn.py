"""A copy of a golden prompt is found if only the row or only the case has a system turn."""

import json
from dataclasses import replace

import pytest

from support.usable_rows import NO_CONTEXT, chat_of, usable_rows
from tunegate_api.cases.case_lines import parse_cases
from tunegate_api.cases.golden import GoldenCase
from tunegate_api.cases.safety_cases import SafetyCase
from tunegate_api.safety_sets import builtin_text
from tunegate_trainer.checks import golden_prompts, leaked_passages

SYSTEM = (
    "You are a careful assistant of the online shop and answer every message in at most three short sentences"
)
ORDINARY = [(None, f"order {i} of {i % 7} mugs", f"{i} mugs") for i in range(40)]
SUMMARIZE = "Summarize the document."


def chat(system: str | None, user: str, answer: str = "yes"):
    of_system = [("system", system)] if system else []
    return chat_of(*of_system, ("user", user), ("assistant", answer))


def case(name: str, system: str | None, user: str) -> str:
    messages = chat(system, user)["messages"][:-1]
    return json.dumps({"id": name, "messages": messages, "expect": [{"type": "equals", "value": "yes"}]})


def context_of(*cases: str, required=()):
    golden = {"gate": parse_cases("\n".join(cases), GoldenCase)}
    return replace(NO_CONTEXT, golden=golden, required_gates=frozenset(required))


def leaks(rows, *cases, required=()):
    """Return the examples of the checks golden_prompts and leaked_passages."""
    usable, context = usable_rows([chat(*row) for row in rows]), context_of(*cases, required=required)
    found = [list(one.run(usable, context)) for one in (golden_prompts, leaked_passages)]
    return [example for findings in found for finding in findings for example in finding.examples]


def test_safety_set_requests_are_found_under_a_system_turn():
    cases = parse_cases(builtin_text("refusals-v1"), SafetyCase)
    usable = usable_rows([chat(SYSTEM, one.prompt) for one in cases])
    (finding,) = golden_prompts.run(usable, replace(NO_CONTEXT, safety={"set": cases}))
    assert finding.count == len(cases)


@pytest.mark.parametrize(("of_row", "of_case"), [(None, SYSTEM), (SYSTEM, None)])
@pytest.mark.parametrize("required", [[], ["gate"]])
def test_golden_prompt_with_or_without_a_system_turn_is_refused(of_row, of_case, required):
    rows = [*ORDINARY, (of_row, "Where is my parcel?", "here")]
    assert leaks(rows, case("parcel", of_case, "where is my  parcel?"), required=required) == [
        "line 41 is case parcel of EvalGate gate, apart from the system turn"
    ]


@pytest.mark.parametrize(("of_row", "of_case"), [(None, SYSTEM), (SYSTEM, None)])
@pytest.mark.parametrize("required", [[], ["gate"]])
def test_reworded_prompt_with_or_without_a_system_turn_is_refused(of_row, of_case, required):
    rows = [*ORDINARY, (of_row, "My blue lamp arrived on Monday with a cracked lid today", "sorry")]
    golden = case("lid", of_case, "My blue lamp arrived on Monday with a broken lid today")
    assert leaks(rows, golden, required=required) == [
        "line 41 has the prompt of case lid of EvalGate gate except for the words cracked, "
        "apart from the system turn"
    ]


def test_pair_under_a_system_turn_is_refused():
    turns = [{"role": "system", "content": SYSTEM}, {"role": "user", "content": "Hello"}]
    answers = {name: [{"role": "assistant", "content": name}] for name in ("chosen", "rejected")}
    usable = usable_rows([chat(*row) for row in ORDINARY], [{"prompt": turns, **answers}])
    (finding,) = golden_prompts.run(usable, context_of(case("a", None, "Hello")))
    assert finding.examples == ["line 1 of preference is case a of EvalGate gate, apart from the system turn"]


def test_earlier_chat_turns_under_a_system_turn_are_refused():
    asked = [("system", SYSTEM), ("user", "Hi"), ("assistant", "Hello"), ("user", "Go"), ("assistant", "ok")]
    (finding,) = golden_prompts.run(usable_rows([chat_of(*asked)]), context_of(case("a", None, "Hi")))
    assert finding.count == 1


def test_copies_are_found_however_often_they_are_repeated():
    rows = [*ORDINARY, *((f"{SYSTEM} to customer {i}", "Where is my parcel?", "here") for i in range(30))]
    assert len(leaks(rows, case("parcel", None, "Where is my parcel?"))) == 10, "those that are shown"


def test_instruction_for_other_documents_in_system_turns_is_no_leak():
    rows = [(f"The document {i} is about mugs number {i * 7}.", SUMMARIZE, f"mugs {i}") for i in range(30)]
    cases = [case(f"case-{i}", f"The text {i} describes lamps of type {i + 3}.", SUMMARIZE) for i in range(4)]
    assert leaks(rows, *cases) == []
    assert leaks(rows, *cases, required=["gate"]) == []


def test_other_inputs_in_the_same_template_are_no_leak():
    inputs = [f"{i} mugs for table {i * 3}" for i in range(60)]
    rows = [(SYSTEM, f"Extract the order from this message as JSON: {text}", "{}") for text in inputs]
    golden = case("order", None, "Extract the order from this message as JSON: seven lamps for Ana")
    assert leaks(rows, golden) == []
