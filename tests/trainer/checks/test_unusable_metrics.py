"""The check unusable_metrics refuses task metrics that cannot measure anything on the data."""

import json
from collections.abc import Sequence
from dataclasses import replace

import pytest

from support.model_templates import model_templates, tokenizer_for
from tunegate_api.v1alpha2.finetunejob import TaskMetric
from tunegate_trainer.checks import unusable_metrics
from tunegate_trainer.checks.finding import Finding, Severity
from tunegate_trainer.data.split import Split
from tunegate_trainer.data.usable import Limit

ERROR, WARNING = Severity.ERROR, Severity.WARNING


def found(
    sound,
    metric: dict[str, object],
    train: Sequence[str],
    dev: Sequence[str],
    test: Sequence[str],
    **schemas: dict[str, object],
) -> list[Finding]:
    """Return the findings for rows with these answers, on lines 1, 2, ... of each split."""
    sides = []
    for side, texts in (("train", train), ("dev", dev), ("test", test)):
        lines = [json.dumps({"prompt": f"{side} {i}", "completion": text}) for i, text in enumerate(texts)]
        sides.append(replace(sound.source_of(*lines), longest=Limit(5000, "sft")).tokenized.kept)
    metrics = [TaskMetric.model_validate({"min": "50%", **metric})]
    spec = sound.context.request.spec.model_copy(update={"task_metrics": metrics})
    request = sound.context.request.model_copy(update={"spec": spec})
    context = replace(sound.context, request=request, schemas=schemas)
    return unusable_metrics.run(replace(sound.split, rows=Split(*sides)), context)


F1 = {"name": "f1", "type": "F1"}
MACRO = {"name": "f1", "type": "F1", "average": "Macro"}
BOTH = ["yes", "no"] * 4


@pytest.mark.parametrize(
    ("metric", "train", "dev", "test", "severity", "message"),
    [
        (
            F1,
            ["yes", "Yes "],
            ["YES"],
            ["yes"],
            ERROR,
            'taskMetrics f1: all 4 rows have the same label, "yes", but F1 needs at least two labels',
        ),
        (
            F1,
            [f"text {i}" for i in range(6)],
            ["text 0"],
            ["text 1"],
            ERROR,
            "taskMetrics f1: the 8 rows have 6 different answers, so the answers are not labels: at most 200 "
            "labels, and at most half as many labels as rows, are possible",
        ),
        (
            MACRO,
            BOTH,
            ["yes", "yes"],
            BOTH,
            ERROR,
            'taskMetrics f1: the dev split has no row with the label "no", so F1 does not measure them on '
            "this split",
        ),
        (
            F1,
            BOTH,
            BOTH,
            ["no"],
            WARNING,
            'taskMetrics f1: the test split has no row with the label "yes", so F1 does not measure them on '
            "this split",
        ),
        (
            MACRO,
            ["yes", "no"] * 4,
            ["yes", "no", "maybe"],
            ["yes", "no", "maybe"],
            ERROR,
            'taskMetrics f1: no training row has the label "maybe", so the model cannot learn them',
        ),
        (
            {"name": "numeric", "type": "Numeric"},
            ["1", "2 or 3"],
            ["many"],
            ["1,000.5 kg"],
            ERROR,
            "taskMetrics numeric: the labelled answers of 2 rows are not one number: line 2 has 2 numbers; "
            "line 1 has no numbers",
        ),
        (
            {"name": "tool_calls", "type": "ToolCalls"},
            ["a"],
            ["b"],
            [],
            ERROR,
            "taskMetrics tool_calls: no row of the dev split has tool calls",
        ),
        (
            {"name": "rouge_l", "type": "RougeL"},
            ["!"],
            ["a red mug", "?"],
            ["a blue mug"],
            ERROR,
            "taskMetrics rouge_l: the labelled answers of 1 held-out rows have no letters and digits, so "
            "their score is always 0: line 2",
        ),
        (
            {"name": "rouge_l", "type": "RougeL"},
            ["a red mug"],
            ["red", "a red mug"],
            ["blue"],
            WARNING,
            "taskMetrics rouge_l: 2 of 3 held-out answers have one word, on which ROUGE-L is not more than "
            "an exact match; ExactMatch or F1 may fit better",
        ),
        (
            {"name": "exact_match", "type": "ExactMatch", "normalize": ["Case", "Punctuation"]},
            ["!"],
            ["yes!"],
            ["?!"],
            ERROR,
            "taskMetrics exact_match: normalize Case, Punctuation leaves no text of the labelled answers of "
            "1 held-out rows: line 1",
        ),
    ],
)
def test_unusable_metric_is_reported_with_what_is_missing(sound, metric, train, dev, test, severity, message):
    (finding,) = found(sound, metric, train, dev, test)
    assert (finding.severity, finding.message) == (severity, message)


@pytest.mark.parametrize(
    ("metric", "answers"),
    [
        (F1, BOTH),
        (MACRO, BOTH),
        ({"name": "numeric", "type": "Numeric"}, ["1", "-2.5 kg", "1e3", "$1,000"]),
        ({"name": "rouge_l", "type": "RougeL"}, ["a red mug", "two lamps"]),
        ({"name": "exact_match", "type": "ExactMatch"}, ["!"]),
        ({"name": "exact_match", "type": "ExactMatch", "normalize": ["Punctuation"]}, ["yes!"]),
        ({"name": "custom", "type": "Custom", "entryPoint": "chrf"}, ["!"]),
    ],
)
def test_metric_that_fits_the_answers_has_no_finding(sound, metric, answers):
    assert found(sound, metric, answers, answers, answers) == []


def test_too_many_labels_are_no_labels(sound):
    labels = [f"label-{i}" for i in range(201)]
    (finding,) = found(sound, F1, labels, labels, labels)
    assert "the 603 rows have more than 200 different answers" in finding.message
    assert found(sound, F1, labels[1:], labels[1:], labels[1:]) == []


def test_labelled_answers_that_break_the_schema_are_named_by_line(sound):
    metric = {"name": "json_schema", "type": "JSONSchema", "schema": {"inline": {}}}
    schema = {"type": "object", "required": ["total"]}
    sides = (['{"total": 1}', "{}"], ["total 1"], ["[" * 4000])
    (finding,) = found(sound, metric, *sides, json_schema=schema)
    assert finding.severity is ERROR
    assert finding.count == 3
    assert finding.examples[0] == "line 2: $: 'total' is a required property"
    assert finding.examples[1].startswith("line 1: is not JSON")
    assert finding.examples[2] == "line 1: is nested too deeply"
    assert found(sound, metric, *[['{"total": 1}']] * 3, json_schema=schema) == []


CALLS = [{"type": "function", "function": {"name": "weather", "arguments": {"city": "Oslo"}}}]


def found_in_calls(sound, template: str, *answers: dict[str, object]) -> list[Finding]:
    """Return the findings for tool_calls on dev and test rows with these answers, on lines 1, 2, ...
    ``template`` is a chat template or the name of one."""
    context = replace(sound.context, tokenizer=tokenizer_for(model_templates().get(template, template)))
    question = {"role": "user", "content": "Is it cold?"}
    chats = [{"messages": [question, {"role": "assistant", **answer}]} for answer in answers]
    source = replace(sound, context=context).source_of(*map(json.dumps, chats))
    rows = replace(source, longest=Limit(5000, "sft")).tokenized.kept
    assert len(rows) == len(answers)
    spec = context.request.spec.model_copy(
        update={"task_metrics": [TaskMetric(name="tool_calls", type="ToolCalls", min="50%")]}
    )
    context = replace(context, request=context.request.model_copy(update={"spec": spec}))
    return unusable_metrics.run(replace(sound.split, rows=Split([], rows, rows)), context)


@pytest.mark.parametrize("template", ["qwen3", "llama3_1", "gptoss"])
def test_tool_calls_in_both_held_out_splits_have_no_finding(sound, template):
    prose = {"content": 'Send {"city": "Oslo"}, see [the manual](https://x.example).'}
    assert found_in_calls(sound, template, {"tool_calls": CALLS}, prose) == []


def test_labelled_answer_that_looks_like_a_tool_call_is_refused(sound):
    prose = {"content": 'Send {"parameters": "Oslo"}.'}
    (finding,) = found_in_calls(sound, "llama3_1", {"tool_calls": CALLS}, prose)
    assert finding.severity is ERROR
    assert finding.count == 2
    assert (
        finding.examples
        == ['line 2: has the tool call \'{"parameters": "Oslo"}.\', but none is expected'] * 2
    )
    assert "change this text" in str(finding.remedy)
    assert found_in_calls(sound, "qwen3", {"tool_calls": CALLS}, prose) == []


def test_labelled_tool_call_that_cannot_be_found_is_refused(sound):
    glued = (
        "{% for m in messages %}<|im_start|>{{ m.content }}"
        "{% for call in m.tool_calls or [] %}{{ call.function.name }}<|is|>{{ call.function.arguments.city }}"
        "{% endfor %}<|im_end|>{% endfor %}{% if add_generation_prompt %}<|im_start|>{% endif %}"
    )
    (finding,) = found_in_calls(sound, glued, {"tool_calls": CALLS}, {"content": "cold"})
    assert finding.examples == ["line 1: has no tool call, expected 'weatherOslo'"] * 2
    assert "use ExactMatch" in str(finding.remedy)


@pytest.mark.parametrize("schema", [{"type": "no-such-type"}, {"$ref": "https://example.com/schema"}])
def test_broken_schema_is_left_to_the_check_of_schemas(sound, schema):
    metric = {"name": "json_schema", "type": "JSONSchema", "schema": {"inline": {}}}
    assert found(sound, metric, *[["{}"]] * 3, json_schema=schema) == []
