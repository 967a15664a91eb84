"""The cases of golden sets, which pass or fail. There are no ratings."""

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from typing import Annotated, Any, ClassVar

from pydantic import AfterValidator, Field, model_validator

from tunegate_api.cases.expectations import Expectation, judgeable, leaves
from tunegate_api.contract.bar import checkpoint_bar, final_bar
from tunegate_api.messages import Message, Tools
from tunegate_api.meta import ApiModel, summarize
from tunegate_api.v1alpha2.case_source import SetName
from tunegate_api.v1alpha2.evalgate import EvalGateSpec
from tunegate_api.v1alpha2.sets import CaseId, GateSet
from tunegate_api.validation.partial import Path, Problem
from tunegate_api.verdict.bar import Bar
from tunegate_api.verdict.outcomes import CaseSet, DropPolicy, group_numbers
from tunegate_api.verdict.rules.drop import Drop
from tunegate_api.verdict.sealed import sealed_positions
from tunegate_api.verdict.tiers import counted_cases


class GoldenCase(ApiModel):
    """A prompt, and the expectations of its output. The case passes if all expectations pass."""

    SET: ClassVar[SetName] = "golden"
    """The kind of sets that have such cases."""

    id: CaseId
    """Id of the case in status and reports. It must be unique in its set."""
    tags: list[CaseId] = []
    """Tags that group cases. Rules can refer to them."""
    group: CaseId | None = None
    """The group of cases that are similar, such as variants of one prompt, or questions about one document.
    Cases of a group are not counted as independent of each other, see `policy: NonInferior` and
    `maxNewFailures`. Cases with equal prompts are a group without it."""
    prompt: str | None = None
    """A single user message. Either `prompt` or `messages` must be set."""
    messages: Annotated[list[Message] | None, Field(min_length=1)] = None
    """A chat that the model continues. Either `prompt` or `messages` must be set."""
    tools: Tools | None = None
    """Functions that the model may call, in OpenAI's format: {type: function, function: {name, description,
    parameters}}."""
    expect: Annotated[list[Annotated[Expectation, AfterValidator(judgeable)]], Field(min_length=1)]
    """Expectations of the output."""
    allow_empty: bool = False
    """If true, an empty output may pass. By default it fails, because a model that answers nothing is
    broken."""
    todo: str | None = None
    """What to write in this case, which is a placeholder until the field is removed. `tunegate init` writes
    placeholders. A golden set that has one is refused."""

    @model_validator(mode="after")
    def _one_input(self) -> "GoldenCase":
        if (self.prompt is None) == (self.messages is None):
            raise ValueError("give either prompt or messages, not both")
        return self

    @property
    def turns(self) -> list[Message]:
        """The chat to answer: ``messages``, or ``prompt`` as one user message."""
        return self.messages or [Message(role="user", content=self.prompt or "")]

    @property
    def label(self) -> str:
        """The case in messages."""
        return f"case {self.id}"

    @property
    def reported_tags(self) -> list[str]:
        """The tags of the case in results."""
        return list(self.tags)


def counting(bar: Bar, cases: Sequence[GoldenCase]) -> list[GoldenCase]:
    """Return the cases that are not advisory. Sealed cases count."""
    counted = counted_cases(case_set(cases, ""), replace(bar, sealed=None))
    return [cases[i] for i in counted.positions]


def unreachable(spec: EvalGateSpec, cases: Sequence[GoldenCase], sha256: str) -> list[Problem]:
    """Return the reasons why no model could meet the rules of the golden set at checkpoints: a rule names
    cases that do not exist or do not count, or has too few cases to detect a drop. Each reason has the path
    of a field from the root of the EvalGate.

    With the test NonInferior, a model that fixes enough cases can pass with any number of cases.
    LastPublished cannot make a rule unreachable, because it is skipped if no version was published. If cases
    of the set with the digest ``sha256`` are sealed, the open cases must be enough for checkpoints.
    """
    bar = checkpoint_bar(spec.golden)
    problems, share = _unreachable(spec, cases), bar.sealed
    if problems or share is None:
        return problems
    path = (*spec.path_of(spec.golden), "sealed")
    positions = sealed_positions(case_set(cases, sha256), share, bar.must_pass)
    if not positions:
        message = (
            f"no golden case can be sealed: {float(share):g} of {len(cases)} is less than one case, or less "
            "than the smallest group of cases without a rule of 100%. Add cases, or raise the share"
        )
        return [Problem(path, message)]
    opened = [case for i, case in enumerate(cases) if i not in positions]
    return [
        Problem(
            path,
            f"checkpoints are evaluated on the {len(opened)} cases that are not sealed, and {each.message}. "
            "Lower the share, or add cases",
        )
        for each in _unreachable(spec, opened)
    ]


_ALL_ADVISORY = "every golden case is advisory, so no case counts"


def _unreachable(spec: EvalGateSpec, cases: Sequence[GoldenCase]) -> list[Problem]:
    golden = spec.golden
    path = spec.path_of(golden)
    counted = counting(final_bar(golden), cases)
    problems = [] if counted else [Problem((*path, "advisory"), _ALL_ADVISORY)]
    problems += [
        Problem((*path, "rules", i, "cases", j), f"no golden case that counts has the id or the tag {name}")
        for i, rule in enumerate(golden.rules)
        for j, name in enumerate(rule.cases)
        if not _named([name], counted)
    ]
    if {*spec.compared_types} - {"LastPublished"}:
        problems += _too_few(golden, counted, path)
    return problems


def _named(names: Sequence[str], cases: Sequence[GoldenCase]) -> list[GoldenCase]:
    """Return the cases with one of these ids or tags. No names: all cases."""
    return [case for case in cases if not names or {case.id, *case.tags} & set(names)]


def _too_few(golden: GateSet, counted: Sequence[GoldenCase], path: Path) -> Iterator[Problem]:
    """Yield a problem for each rule whose cases are too few to measure a drop that is smaller than its
    limit."""
    for drop in final_bar(golden).rules:
        total = len(_named(drop.cases, counted))
        if not isinstance(drop, Drop) or drop.policy is not DropPolicy.POINTS or not total:
            continue
        if not drop.is_of_cases and total * drop.limit < 100:
            needed = -int(-100 // drop.limit)
            message = (
                f"{total} golden cases are too few to detect a drop of {float(drop.limit):g} points, "
                f"so no model can pass: have at least {needed} cases, or raise failAtDrop"
            )
            at = [i for i, rule in enumerate(golden.rules) if tuple(rule.cases) == drop.cases]
            yield Problem((*path, "rules", *at[:1], "failAtDrop") if at else (*path, "rules"), message)


def with_expectation(type_: str, cases: Sequence[GoldenCase]) -> list[GoldenCase]:
    """Return the cases that have an expectation of this type, also in a group."""
    return [case for case in cases if any(leaf.type == type_ for leaf in leaves(case.expect))]


def without_server(spec: Mapping[str, Any], cases: Sequence[GoldenCase]) -> list[Problem]:
    """Return a problem for each server, a judge model or a guardrail, that scores some of the cases and is
    missing in the graders of the gate's ``spec``, which may have errors."""
    graders = spec.get("graders")
    given = [each for each in graders if isinstance(each, Mapping)] if isinstance(graders, list) else []
    found = {
        "judge": any(each.get("type") == "Model" and each.get("agreement") for each in given),
        "guardrail": any(each.get("type") == "Guardrail" for each in given),
    }
    needed = {"judge": "type: Model and agreement", "guardrail": "type: Guardrail"}
    problems = []
    for expectation, is_there in found.items():
        users = [case.id for case in with_expectation(expectation, cases)]
        if users and not is_there:
            message = (
                f"the expectation {expectation} of the golden cases {summarize(users, 3)} requires a grader "
                f"with {needed[expectation]}"
            )
            problems.append(Problem(("spec", "graders"), message))
    return problems


def prompt_key(case: GoldenCase) -> str:
    """Return a text that is equal for cases with the same messages and tools, apart from white space."""
    turns = [[turn.role, " ".join(turn.content.split())] for turn in case.turns]
    calls = [turn.model_dump(include={"tool_calls", "tool_call_id"}) for turn in case.turns]
    return json.dumps([turns, calls, case.tools], default=str)


def case_groups(cases: Sequence[GoldenCase]) -> list[int]:
    """Return the number of each case's group. Cases with equal prompts are in one group, because a model
    gives each the same answer."""
    return group_numbers([c.group for c in cases], [prompt_key(c) for c in cases])


def case_set(cases: Sequence[GoldenCase], sha256: str) -> CaseSet:
    """Return the ids, tags and groups of the cases. Their order is that of the letters in outcome strings."""
    return CaseSet(
        sha256=sha256,
        ids=[c.id for c in cases],
        tags=[c.reported_tags for c in cases],
        groups=case_groups(cases),
    )
