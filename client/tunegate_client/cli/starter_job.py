"""Write the FineTuneJob of a new project. Pure."""

import textwrap
from collections.abc import Iterator, Mapping

from tunegate_api.contract.forecast import AnswerKind, DescribedData
from tunegate_api.data_sizes import MAX_UNREVIEWED_ROWS, MINIMUM_ROWS
from tunegate_api.file_uri import FILE
from tunegate_api.v1alpha2.finetunejob import MetricType
from tunegate_client.cli.starter import Starter, comment, scalar
from tunegate_client.laptop.object_folder import to_yaml

METRICS: Mapping[AnswerKind, MetricType] = {
    "Labels": "F1",
    "JSON": "JSONSchema",
    "ToolCalls": "ToolCalls",
    "ShortText": "ExactMatch",
    "Text": "RougeL",
}
"""The type of the first task metric that is proposed for each kind of answers."""
_NAMES: Mapping[MetricType, str] = {
    "F1": "f1",
    "JSONSchema": "json_schema",
    "ToolCalls": "tool_calls",
    "ExactMatch": "exact_match",
    "RougeL": "rouge_l",
}
_OF_TEXTS = {
    "ToolCalls": ("The answers are tool calls. ToolCalls: share of outputs with the same calls.", "80%"),
    "ExactMatch": (
        "The answers are short texts. ExactMatch: share of outputs that equal the answer.",
        "60%",
    ),
    "RougeL": (
        "The answers are longer texts. RougeL: how many words output and answer have in common, in the "
        "same order.",
        "30%",
    ),
}
"""For each type that has no setting, what it is and the first value of its minimum."""
_SHORT_JSON = 200
"""The longest JSON answer in bytes that is compared as a whole."""
_RARE_LABEL = 100
"""A label with fewer rows may be missing in a held-out split, where the macro average needs it."""


def job_text(starter: Starter) -> str:
    """Return the manifest of the job, with the reason for each field as a comment."""
    name, described = starter.name, starter.described
    lines = [
        "# Fine-tunes a model, and publishes it only if it passes its gate. Written by `tunegate init`.",
        "# All fields: docs/api/finetunejob.md.",
        "apiVersion: tunegate.dev/v1alpha2",
        "kind: FineTuneJob",
        "metadata:",
        f"  name: {scalar(name)}",
        "spec:",
        "  model:",
        comment("The model to start from. The gate compares the tuned model with it.", 4),
        f"    uri: {scalar(starter.model)}",
        *([f"    revision: {scalar(starter.revision)}"] if starter.revision else []),
        *_data(starter),
        comment(
            "Measured on held-out rows. min is the lowest value with which a model is useful: change it to "
            "what you need.",
            2,
        ),
        "  taskMetrics:",
        *_metrics(described),
        "  stages:",
        comment(
            "The adapter's rank, the learning rate and the number of epochs have defaults for this model "
            "and this data, see docs/parameters.md. `tunegate plan` shows them.",
            2,
        ),
        "  - {name: sft, method: SFT, adapter: {type: LoRA}}",
        comment("The golden set that every checkpoint and the final model must pass: evalgate.yaml.", 2),
        "  gates:",
        f"  - name: {scalar(name)}",
        comment("GPU or CPU. A CPU is enough for a model of up to a few hundred million parameters.", 2),
        f"  resources: {{accelerator: {starter.accelerator}}}",
        comment(
            "The PersistentVolumeClaim for checkpoints and evaluations. On one machine, `tunegate run` uses "
            "the folder runs/volumes/tuning instead.",
            2,
        ),
        "  storage: {persistentVolumeClaim: tuning}",
        comment(
            f"Where a model that passed is published. On one machine: runs/volumes/models/{name}.",
            2,
        ),
        "  publish:",
        f"  - uri: pvc://models/{name}",
    ]
    return "\n".join(lines) + "\n"


def _data(starter: Starter) -> Iterator[str]:
    minimum = MINIMUM_ROWS[starter.goal]
    yield "  data:"
    yield comment(f"The purpose. {starter.goal} needs at least {minimum:,} training rows.", 4)
    yield f"    goal: {starter.goal}"
    yield comment(
        "About 12 % of the rows are not trained on (heldOut.fraction): half of them score checkpoints, and "
        "the other half scores the final model.",
        4,
    )
    yield "    sources:"
    yield f"    - name: {scalar(starter.name)}"
    if starter.data.startswith(FILE):
        yield comment("file:// is for `tunegate run`. On a cluster, write pvc://CLAIM/PATH.", 6)
    yield f"      uri: {scalar(starter.data)}"
    columns = starter.columns.to_wire()
    if columns:
        yield comment("The fields of each row that hold the prompt and the completion.", 6)
        mapped = ", ".join(f"{name}: {scalar(field)}" for name, field in columns.items())
        yield f"      columns: {{{mapped}}}"
    if starter.described.rows > MAX_UNREVIEWED_ROWS:
        yield comment(
            f"Above {MAX_UNREVIEWED_ROWS:,} training rows, people must review a sample before training: "
            "nobody can read all rows.",
            4,
        )
        yield "    quality: {}"


def _metrics(described: DescribedData) -> Iterator[str]:
    kind = METRICS[described.answers]
    if kind == "F1":
        yield from _f1(described)
    elif kind == "JSONSchema":
        yield from _json(described)
    else:
        text, least = _OF_TEXTS[kind]
        yield comment(text, 2)
        yield from _metric(kind, least)


def _f1(described: DescribedData) -> Iterator[str]:
    """Propose the F1 score. Where one label is frequent, always giving this label must not be enough."""
    labels, rows = described.labels, described.rows
    frequent = labels[0].rows / rows
    macro = frequent > 1 / 2 and labels[-1].rows >= _RARE_LABEL
    average = "With Macro, every label counts the same." if macro else ""
    yield comment(
        f"The answers are {len(labels)} labels. A model that always gives the most frequent one is right in "
        f"{100 * frequent:.0f} % of the rows. {average}",
        2,
    )
    yield from _metric("F1", "80%" if macro else f"{max(0.8, (1 + frequent) / 2):.0%}")
    if macro:
        yield "    average: Macro"


def _json(described: DescribedData) -> Iterator[str]:
    yield comment(
        "The answers are JSON. JSONSchema: share of outputs that follow the schema, which was inferred from "
        "all answers. Correct it if other values are allowed.",
        2,
    )
    yield from _metric("JSONSchema", "95%")
    yield "    schema:"
    yield "      inline:"
    yield textwrap.indent(to_yaml(described.json_schema or {}).rstrip(), " " * 8)
    if described.longest_answer <= _SHORT_JSON:
        yield comment("The schema is only the form. ExactMatch: share of outputs that equal the answer.", 2)
        yield from _metric("ExactMatch", "60%")


def _metric(kind: MetricType, least: str) -> Iterator[str]:
    yield f"  - name: {_NAMES[kind]}"
    yield f"    type: {kind}"
    yield f"    min: {least}"
