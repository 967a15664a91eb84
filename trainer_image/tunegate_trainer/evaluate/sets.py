"""Prepare the sets of cases that a model is evaluated on: golden and safety sets, and held-out rows and
pairs."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from transformers import PreTrainedTokenizerBase

from tunegate_api.cases.golden import GoldenCase
from tunegate_api.contract.digests import sha256_text
from tunegate_api.contract.plan import SplitPlan
from tunegate_api.contract.request import GenerationSettings, Request
from tunegate_api.contract.results import HeldOutSplit, task_set
from tunegate_api.contract.workspace import PAIRS_PREFIX, pairs_file, rows_file
from tunegate_api.messages import Message
from tunegate_api.v1alpha2.finetunejob import TaskMetric
from tunegate_api.verdict.counts import Aggregate, aggregate_of
from tunegate_api.verdict.outcomes import MAX_CASES, CaseSet
from tunegate_trainer.data.token_ids import no_embedding
from tunegate_trainer.evaluate.config_map_files import planned_schema
from tunegate_trainer.evaluate.expected import Expectations, Expected
from tunegate_trainer.evaluate.references import task_references
from tunegate_trainer.graders import Grader
from tunegate_trainer.graders.custom import custom_grader, custom_version
from tunegate_trainer.graders.exact.labels import shown_labels
from tunegate_trainer.graders.table import METRICS
from tunegate_trainer.process.context import Context
from tunegate_trainer.process.errors import BadDataError, SourceNotFoundError, UserError
from tunegate_trainer.process.files import sha256_file
from tunegate_trainer.tokens.answers import example_tokens
from tunegate_trainer.tokens.chat import encode, render
from tunegate_trainer.tokens.examples import Example, example
from tunegate_trainer.tokens.rows import PREFERENCE, Row, read_pairs, read_rows, text_answer

GOLDEN = "golden"
"""The name of the measure in golden sets. Every golden set has only this measure."""
SAFETY = "safety"
"""The name of the measure in safety sets. Every safety set has only this measure."""
SCORING = 11
"""Version of the scorers and of generation. Increase it when a change to them can change outcomes, so that
older cached results are not used."""


@dataclass(frozen=True)
class Case:
    """One prompt, and what each measure expects of the model's output."""

    id: str
    tags: Sequence[str]
    shown: str
    """The prompt as it is shown to people: the content, or the role and content of each turn."""
    prompt: str
    """The prompt as the model gets it: the text that the chat template renders."""
    source: GoldenCase | Row
    """The golden case, safety case or held-out row of the prompt."""
    measures: Mapping[str, Expectations]
    """The expectations of each measure. The keys are ``golden``, ``safety``, or the names of task metrics."""
    counted: Mapping[str, Aggregate] = field(default_factory=dict)
    """The count-based measures, with how their values are computed. The others are pass rates."""
    is_sealed: bool = False
    """Whether the case is not evaluated now, because only the final gate evaluates it. Then ``shown`` and
    ``prompt`` are empty."""


@dataclass(frozen=True)
class TokenPair:
    """A tokenized pair."""

    id: str
    shown: str
    """The prompt as it is shown to people."""
    chosen: Example
    rejected: Example


@dataclass(frozen=True, kw_only=True)
class EvaluationSet:
    """Cases that are evaluated together, by one or more measures."""

    file: str
    """The name of the file with the results on this set, one case per line."""
    identity: str
    """A digest of the cases and measures. It is part of the key of cached results."""
    names: Mapping[str, str]
    """For each measure, the name of this set in :class:`tunegate_api.contract.results.Results`."""
    case_set: CaseSet
    labels: Mapping[str, Sequence[str]] = field(default_factory=dict)
    """The labels that the cases expect, by each measure that is computed from labels."""

    @property
    def case_sets(self) -> dict[str, CaseSet]:
        """The cases of this set, once under each name in ``names``, with the labels of its measure."""
        return {
            name: self.case_set.model_copy(update={"labels": shown_labels(self.labels[measure])})
            if measure in self.labels
            else self.case_set
            for measure, name in self.names.items()
        }

    @property
    def depends_on(self) -> dict[str, Any]:
        """Everything that the results on this set depend on, apart from the model."""
        return {"set": self.identity}


@dataclass(frozen=True, kw_only=True)
class GeneratedSet(EvaluationSet):
    """Cases for which the model generates outputs."""

    generation: GenerationSettings
    cases: Sequence[Case]

    @property
    def depends_on(self) -> dict[str, Any]:
        return {
            **super().depends_on,
            # The same cases give other prompts if the chat template or the way to render it changes.
            "prompts": sha256_text(json.dumps([case.prompt for case in self.cases])),
            "generation": self.generation.to_wire(),
            "scoring": SCORING,
        }


@dataclass(frozen=True, kw_only=True)
class PairSet(EvaluationSet):
    """Pairs of answers. The model's log-probabilities of the chosen and the rejected answer are compared, and
    nothing is generated."""

    pairs: Sequence[TokenPair]

    @property
    def depends_on(self) -> dict[str, Any]:
        tokens = [[pair.chosen["input_ids"], pair.rejected["input_ids"]] for pair in self.pairs]
        return {**super().depends_on, "tokens": sha256_text(json.dumps(tokens))}


def held_out_sets(
    context: Context, tokenizer: PreTrainedTokenizerBase, split: HeldOutSplit
) -> list[EvaluationSet]:
    """Return the evaluation sets for the job's task metrics on ``split``, which is ``dev`` or ``test``.

    Each set has at most the first ``MAX_CASES`` rows or pairs of the split. Raises :class:`BadDataError` if a
    file or a schema does not have the digest in the plan, :class:`SourceNotFoundError` if it is missing, and
    :class:`UserError` for a custom task metric whose scorer is missing.
    """
    metrics = context.request.spec.task_metrics
    of_rows = [metric for metric in metrics if metric.type != PREFERENCE]
    of_pairs = [metric for metric in metrics if metric.type == PREFERENCE]
    sets: list[EvaluationSet] = [_rows(context, tokenizer, split, of_rows)] if of_rows else []
    if of_pairs:
        sets.append(_pairs(context, tokenizer, split, of_pairs))
    return sets


def check_metrics(metrics: Sequence[TaskMetric]) -> None:
    """Raise :class:`UserError` for a custom task metric whose scorer is missing or cannot be loaded."""
    for metric in metrics:
        if metric.type == "Custom":
            custom_grader(str(metric.entry_point))


def _rows(
    context: Context,
    tokenizer: PreTrainedTokenizerBase,
    split: HeldOutSplit,
    metrics: Sequence[TaskMetric],
) -> GeneratedSet:
    plan: SplitPlan = getattr(context.plan.data, split)
    path = context.workspace / context.paths.data / f"{split}.jsonl"
    check_split(path, plan)
    rows = read_rows(path)[:MAX_CASES]
    schemas = {metric.name: planned_schema(context.root, metric, context.plan.data) for metric in metrics}
    expected: dict[str, list[Expected]] = {
        metric.name: [
            Expected(scorer, reference)
            for reference in task_references(tokenizer, rows, metric, schemas[metric.name])
        ]
        for metric, scorer in [(metric, _scorer(metric)) for metric in metrics]
    }
    aggregates = {metric.name: aggregate_of(metric.type, metric.average) for metric in metrics}
    counted = {name: aggregate for name, aggregate in aggregates.items() if aggregate}
    cases = [
        Case(
            id=row.id,
            tags=[],
            shown=shown_prompt(row.prompt),
            prompt=render(tokenizer, row.prompt, row.tools),
            source=row,
            measures={name: [of_rows[index]] for name, of_rows in expected.items()},
            counted=counted,
        )
        for index, row in enumerate(rows)
    ]
    options = [_options(metric) for metric in metrics]
    return GeneratedSet(
        file=rows_file(split),
        identity=sha256_text(json.dumps([plan.sha256, schemas, options], sort_keys=True)),
        generation=task_generation(context.request),
        cases=cases,
        names={metric.name: task_set(split, metric.name) for metric in metrics},
        case_set=CaseSet(sha256=plan.sha256, ids=[row.id for row in rows]),
        labels={
            metric.name: list(expected[metric.name][0].reference.labels)
            for metric in metrics
            if metric.type == "F1" and rows
        },
    )


def _scorer(metric: TaskMetric) -> Grader:
    return custom_grader(str(metric.entry_point)) if metric.type == "Custom" else METRICS[metric.type]


def _options(metric: TaskMetric) -> dict[str, Any]:
    """Return everything besides the schema that decides the scores of a task metric."""
    options = {k: v for k, v in metric.to_wire().items() if k not in ("min", "schema")}
    return options | ({"version": custom_version(str(metric.entry_point))} if metric.type == "Custom" else {})


def _pairs(
    context: Context, tokenizer: PreTrainedTokenizerBase, split: HeldOutSplit, metrics: Sequence[TaskMetric]
) -> PairSet:
    preference = context.plan.data.preference
    if preference is None:
        raise UserError(f"spec.taskMetrics: {PREFERENCE} needs a data source with use: Preference")
    plan: SplitPlan = getattr(preference, split)
    path = context.workspace / context.paths.data / f"{PAIRS_PREFIX}{split}.jsonl"
    check_split(path, plan)
    pairs = read_pairs(path)[:MAX_CASES]
    return PairSet(
        file=pairs_file(split),
        identity=plan.sha256,
        names={metric.name: task_set(split, metric.name) for metric in metrics},
        case_set=CaseSet(sha256=plan.sha256, ids=[pair.id for pair in pairs]),
        pairs=[
            TokenPair(
                id=pair.id,
                shown=shown_prompt(pair.prompt),
                chosen=example(*example_tokens(tokenizer, pair.prompt, text_answer(pair.chosen))),
                rejected=example(*example_tokens(tokenizer, pair.prompt, text_answer(pair.rejected))),
            )
            for pair in pairs
        ],
    )


def task_generation(request: Request) -> GenerationSettings:
    """Return the generation settings for held-out rows: the settings of the first gate, but with the largest
    ``maxNewTokens`` of all gates, and greedy."""
    gates = request.final_gates
    longest = max(gate.spec.generation.max_new_tokens for gate in gates)
    return request.generation_of(gates[0]).model_copy(update={"max_new_tokens": longest, "samples": None})


def check_split(path: Path, plan: SplitPlan) -> None:
    """Check the file at ``path``. Raises :class:`SourceNotFoundError` if it is missing, and
    :class:`BadDataError` if it does not have the digest in the plan."""
    if not path.exists():
        raise SourceNotFoundError(
            f"data/{path.name} is missing in the job's folder on the volume",
            "check whether the volume was emptied",
        )
    if sha256_file(path) != plan.sha256:
        raise BadDataError(
            f"data/{path.name} was changed after the plan was made: it has sha256 {sha256_file(path)}, but "
            "the "
            f"plan has {plan.sha256}",
            "create a new job, because the plan of this job no longer describes its data",
        )


def check_prompts(
    tokenizer: PreTrainedTokenizerBase, sets: Sequence[GeneratedSet], longest: int, embeddings: int
) -> None:
    """Raise :class:`UserError` for a prompt after which there is no room for an answer in the context of a
    model, which has ``longest`` tokens, and :class:`BadDataError` for a prompt with a token for which the
    model has no embedding."""
    for each in sets:
        for case in each.cases:
            ids = encode(tokenizer, case.prompt)
            place = f"{', '.join(each.names.values())}, case {case.id}"
            if max(ids, default=0) >= embeddings:
                raise no_embedding(place, tokenizer, max(ids), embeddings)
            if len(ids) >= longest:
                raise UserError(
                    f"{place}: the prompt has {len(ids)} tokens, but the model's context has {longest}",
                    "shorten the prompt in a new EvalGate, or use a model with a longer context",
                )


def shown_prompt(turns: Sequence[Message]) -> str:
    """Return a prompt as it is shown to people."""
    if len(turns) == 1:
        return turns[0].content
    return "\n".join(f"{turn.role}: {turn.content or _calls(turn)}" for turn in turns)


def _calls(turn: Message) -> str:
    functions = [call.function for call in turn.tool_calls or ()]
    return ", ".join(f"{one.name} {json.dumps(one.arguments, ensure_ascii=False)}" for one in functions)
