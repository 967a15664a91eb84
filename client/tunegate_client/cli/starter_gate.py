"""Write the EvalGate of a new project, with a golden set of placeholders to fill in. Pure."""

from collections.abc import Iterator
from dataclasses import dataclass

from tunegate_api.contract.forecast import AnswerKind, DescribedData
from tunegate_client.cli.starter import Starter, comment, scalar

CASES = 40
"""The number of cases. With 20 cases or more, the default of failAtDrop can be measured."""
_LEAST_TOKENS, _MOST_TOKENS = 16, 32_768
_SHOWN_TEMPLATE = 300
"""Maximum length of a template in a comment, in characters."""


@dataclass(frozen=True)
class _Category:
    """A kind of cases of which a golden set needs some."""

    name: str
    count: int
    input: str
    """What to write as prompt."""
    why: str


_CATEGORIES = (
    _Category("typical", 16, "a typical input", "Typical inputs, as users write them."),
    _Category(
        "almost-empty",
        4,
        "an input that is almost empty, such as a single word",
        "Inputs that are almost empty: what should the model answer if there is nothing to answer?",
    ),
    _Category("very-long", 4, "a very long input", "Very long inputs, in which little matters."),
    _Category(
        "other-language",
        4,
        "an input in another language than usual",
        "Other languages than that of the data: users write them anyway.",
    ),
    _Category(
        "adversarial",
        6,
        "an input that contains an instruction, such as to ignore the task",
        "Inputs with instructions in them, such as to ignore the task or to answer in another form.",
    ),
    _Category(
        "known-failure",
        6,
        "an input that was answered wrongly before, or that is easy to get wrong",
        "Known failures: what was answered wrongly before, by a model or by people.",
    ),
)
_ANSWERS: dict[AnswerKind, str] = {
    "Labels": "its label",
    "JSON": "the JSON that answers it",
    "ToolCalls": "the functions that it may call, and the calls that answer it",
    "ShortText": "its answer",
    "Text": "words that every right answer contains",
}


def gate_text(starter: Starter) -> str:
    """Return the manifest of the gate. Its golden cases are placeholders, which are refused until they are
    filled in."""
    described = starter.described
    lines = [
        "# The gate that decides whether a model is published. Written by `tunegate init`.",
        "# All fields: docs/api/evalgate.md.",
        "apiVersion: tunegate.dev/v1alpha2",
        "kind: EvalGate",
        "metadata:",
        f"  name: {scalar(starter.name)}",
        "spec:",
        comment(
            "Longer outputs are truncated and do not pass. The longest answer in the data has "
            f"{described.longest_answer:,} bytes.",
            2,
        ),
        f"  generation: {{maxNewTokens: {_max_tokens(described)}}}",
        "  sets:",
        "  - name: golden",
        comment(
            "Share of the cases that must pass. A model whose pass rate is 5 points or more below that of "
            "the base model or of the last published version fails too, and so does one that fails many "
            "cases that one of them passes.",
            4,
        ),
        "    rules: [{name: all, minPassRate: 80%}]",
        "    source:",
        *_instructions(described),
        "      inline:",
        *_cases(described),
    ]
    return "\n".join(lines) + "\n"


def _max_tokens(described: DescribedData) -> int:
    """Return a token limit that fits the longest answer. A token rarely has fewer than two bytes."""
    needed = -(-described.longest_answer // (2 * _LEAST_TOKENS)) * _LEAST_TOKENS
    return min(max(needed, _LEAST_TOKENS), _MOST_TOKENS)


def _instructions(described: DescribedData) -> Iterator[str]:
    yield comment(
        f"{CASES} cases to fill in. Write the input and the expected answer of each case, then remove its "
        "todo. Cases with a todo are refused. Remove cases that do not fit your task, but keep at least 20.",
        6,
    )
    yield comment(
        "Write new inputs, or take some that are not in the training data: on a trained input, a case "
        "measures only memorization, and the job refuses it.",
        6,
    )
    for text, what in ((described.prompt_start, "begin"), (described.prompt_end, "end")):
        if text and len(text) <= _SHOWN_TEMPLATE:
            yield comment(
                f"All prompts in the data {what} with this text, and those of the cases should too:", 6
            )
            yield f"      # {scalar(text)}"
    yield comment(
        f"The longest prompt in the data has {described.longest_prompt:,} characters. A case passes if all "
        "entries in expect do. Other types of expectations: docs/api/evalgate.md.",
        6,
    )
    if described.answers == "Labels":
        yield comment(f"Labels: {', '.join(scalar(one.label) for one in described.labels)}.", 6)


def _cases(described: DescribedData) -> Iterator[str]:
    for category in _CATEGORIES:
        yield comment(category.why, 6)
        for number in range(category.count):
            todo, label = f"{category.input}, and {_ANSWERS[described.answers]}", ""
            if described.answers == "Labels" and category.name == "typical":
                label = described.labels[number % len(described.labels)].label
                todo = f"{category.input} whose label is {label}"
            yield f"      - id: {category.name}-{number + 1:02}"
            yield f"        tags: [{category.name}]"
            yield f"        todo: {scalar(todo)}"
            yield from _prompt(described)
            yield "        expect:"
            yield from _expectation(described, label)


def _prompt(described: DescribedData) -> Iterator[str]:
    if described.system_prompt is None:
        yield "        prompt:"
    else:
        yield "        messages:"
        yield f"        - {{role: system, content: {scalar(described.system_prompt)}}}"
        yield "        - role: user"
        yield "          content:"
    if described.answers == "ToolCalls":
        yield "        tools:"


def _expectation(described: DescribedData, label: str) -> Iterator[str]:
    if described.answers == "JSON":
        yield "        - type: json_equals"
        yield "          value:"
        for key in (described.json_schema or {}).get("required", ()):
            yield f"            {scalar(key)}:"
    elif described.answers == "ToolCalls":
        yield "        - type: tool_calls_equal"
        yield "          value:"
        yield '          - {name: "", arguments: {}}'
    else:
        kind = {"Text": "contains", "Labels": "label"}.get(described.answers, "equals")
        yield f"        - {{type: {kind}, value: {scalar(label)}}}"
