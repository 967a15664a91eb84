"""Evaluate a model on sets of cases, and write its outputs, one case per line."""

import logging
import math
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import partial
from pathlib import Path
from typing import Any, Self

from pydantic import ValidationError
from transformers import PreTrainedTokenizerBase

from tunegate_api.cases.golden import GoldenCase
from tunegate_api.contract.results import Evaluation, Results, Subject
from tunegate_api.contract.workspace import RESULT
from tunegate_api.meta import StatusModel
from tunegate_api.v1alpha2.evalgate import Samples
from tunegate_api.verdict.counts import NOT_COUNTED
from tunegate_api.verdict.outcomes import ERROR, FAIL, PASS, SEALED
from tunegate_trainer.distributed.ranks import SINGLE_RANK, Ranks
from tunegate_trainer.evaluate.generate import generate, generate_samples, undisturbed
from tunegate_trainer.evaluate.merged import merged_adapter
from tunegate_trainer.evaluate.scoring import score_votes
from tunegate_trainer.evaluate.sets import Case, EvaluationSet, GeneratedSet, PairSet, TokenPair
from tunegate_trainer.graders import Output, Score
from tunegate_trainer.process.errors import StorageError, out_of_memory_explained
from tunegate_trainer.process.files import write_atomic, write_model
from tunegate_trainer.tokens.examples import completion_tokens
from tunegate_trainer.tokens.likelihood import log_probs

logger = logging.getLogger(__name__)


class StoredOutput(StatusModel):
    """An output of a case that could not be scored."""

    text: str
    truncated: bool
    settled: int
    """The length of the part of the text that no further token can change: of a complete text, all of it."""


class CaseResult(StatusModel):
    """One line of a results file: the prompt, the output and the scores of a case."""

    id: str
    tags: list[str]
    group: str | None = None
    prompt: str
    output: str
    truncated: bool
    passed: bool
    """Whether the case passed by every measure."""
    outcomes: dict[str, str]
    """The outcome letter of each measure. The keys are ``golden``, ``safety``, or the names of task
    metrics."""
    explanation: str = ""
    """Why the case did not pass. Empty if it passed."""
    counts: dict[str, str] | None = None
    """The counts of count-based measures, by measure, see :mod:`tunegate_api.verdict.counts`."""
    voted: list[StoredOutput] | None = None
    """All outputs of the case, if it could not be scored, so that they can be scored again. None if it was
    scored, or if it has one output that is complete."""

    @property
    def has_error(self) -> bool:
        """Whether the case could not be scored by a measure."""
        return ERROR in self.outcomes.values()

    @property
    def is_sealed(self) -> bool:
        """Whether the case was not evaluated, because it is sealed. Its prompt and output are empty."""
        return SEALED in self.outcomes.values()

    @property
    def outputs(self) -> list[Output]:
        """The outputs of a case that could not be scored."""
        if self.voted is None:
            return [Output(self.output, self.truncated)]
        return [Output(each.text, each.truncated, each.settled) for each in self.voted]


class SetResult(StatusModel):
    """The results of one model on one set of cases. The baseline cache stores these."""

    cases: list[CaseResult]
    seconds: float

    def outcomes(self, measure: str) -> str:
        """Return the outcomes of a measure, one letter per case, see :mod:`tunegate_api.verdict.outcomes`."""
        return "".join(case.outcomes[measure] for case in self.cases)

    def counts(self, measure: str) -> str:
        """Return the counts of all cases in the format of :class:`~tunegate_api.contract.results.Evaluation`.

        Empty for a measure without counts.
        """
        counted = [(case.counts or {}).get(measure) for case in self.cases]
        return " ".join(each or NOT_COUNTED for each in counted) if any(counted) else ""

    def with_cases(self, changed: Iterable[CaseResult]) -> Self:
        """Return the results with the ``changed`` ones instead of those with their ids."""
        by_id = {case.id: case for case in changed}
        return self.model_copy(update={"cases": [by_id.get(case.id, case) for case in self.cases]})

    @property
    def has_errors(self) -> bool:
        """Whether a case could not be scored. A result with errors is not cached, because a retry may
        succeed."""
        return any(case.has_error for case in self.cases)


@dataclass(frozen=True)
class Weights:
    """Identifies the model whose weights are evaluated: the base model, the starting model of a stage, a
    checkpoint or the artifact."""

    subject: Subject
    stage: str
    step: int
    digest: str | None
    loss: float | None = None


def evaluate(
    model: Any,
    tokenizer: PreTrainedTokenizerBase,
    sets: Sequence[EvaluationSet],
    ranks: Ranks = SINGLE_RANK,
    *,
    stops: Sequence[int] | None = None,
) -> list[SetResult]:
    """Return the result of each set, in order. The ranks share the work.

    Answers end at one of the token ids ``stops``, by default those of
    :func:`~tunegate_trainer.tokens.chat.stop_token_ids`. Each set has its own batches, because greedy outputs
    can differ with the batch. Two sets share the generated outputs only if they have the same prompts and
    settings.

    Raises :class:`CudaOutOfMemoryError` if a batch does not fit the GPU.
    """
    with merged_adapter(model):
        measured = _measure(model, tokenizer, sets, ranks, stops)
    # Only the primary rank scores outputs: scorers have a time limit, and may ask servers. The other ranks
    # wait in this broadcast, and not in a forward pass of the next set, which has a shorter timeout.
    return ranks.broadcast(lambda: [_score(*each) for each in zip(sets, measured, strict=True)])


@dataclass(frozen=True)
class _Measured:
    """What the model did on a set."""

    score: Callable[[], list[CaseResult]]
    """Returns the result of each case. It does not use the model."""
    seconds: float


def _measure(
    model: Any,
    tokenizer: PreTrainedTokenizerBase,
    sets: Sequence[EvaluationSet],
    ranks: Ranks,
    stops: Sequence[int] | None,
) -> list[_Measured]:
    generated: dict[tuple[Any, ...], list[tuple[Output, ...]]] = {}
    measured = []
    for evaluation_set in sets:
        start = time.monotonic()
        with out_of_memory_explained(partial(_less_memory, evaluation_set), "while evaluating"):
            if isinstance(evaluation_set, PairSet):
                pairs = evaluation_set.pairs
                score = partial(_compared, evaluation_set, _mean_log_probs(model, pairs, ranks))
            elif isinstance(evaluation_set, GeneratedSet):
                settings = evaluation_set.generation
                opened = [case for case in evaluation_set.cases if not case.is_sealed]
                prompts = tuple(dict.fromkeys(case.prompt for case in opened))
                key = (prompts, settings.model_dump_json())
                if key not in generated:
                    generated[key] = (
                        generate_samples(model, tokenizer, prompts, settings, ranks, stops=stops)
                        if settings.samples
                        else [(o,) for o in generate(model, tokenizer, prompts, settings, ranks, stops=stops)]
                    )
                by_prompt = dict(zip(prompts, generated[key], strict=True))
                outputs = [by_prompt[case.prompt] for case in opened]
                score = partial(judge_outputs, evaluation_set.cases, outputs, settings.samples)
            else:
                raise TypeError(f"no evaluator for {type(evaluation_set).__name__}")
        measured.append(_Measured(score, time.monotonic() - start))
    return measured


def _score(evaluation_set: EvaluationSet, measured: _Measured) -> SetResult:
    start = time.monotonic()
    cases = measured.score()
    seconds = round(measured.seconds + time.monotonic() - start, 3)
    passed, total = sum(case.passed for case in cases), sum(not case.is_sealed for case in cases)
    names = ", ".join(evaluation_set.names.values())
    logger.info("%s: %d/%d passed in %.1f s", names, passed, total, seconds)
    return SetResult(cases=cases, seconds=seconds)


def _less_memory(evaluation_set: EvaluationSet) -> str:
    """Return a hint on how the evaluation of this set can use less GPU memory. For pairs, the hint does not
    mention the batch size, because batches of pairs that do not fit are split anyway."""
    if isinstance(evaluation_set, PairSet):
        smaller = "lower training.maxLength of a DPO stage, which excludes longer pairs"
    else:
        smaller = "lower evaluation.batchSize"
    return f"{smaller}, or request a GPU with more memory"


def _mean_log_probs(model: Any, pairs: Sequence[TokenPair], ranks: Ranks) -> list[float]:
    """Return the mean log-probability per token of the chosen and of the rejected answer of each pair.

    The mean is used because a sum over the tokens would favor short answers.
    """
    examples = [example for pair in pairs for example in (pair.chosen, pair.rejected)]
    with undisturbed(model):
        model.eval()
        return [
            total / completion_tokens(example)
            for example, total in zip(examples, log_probs(model, examples, ranks), strict=True)
        ]


def _compared(evaluated: PairSet, means: Sequence[float]) -> list[CaseResult]:
    """Return the result of each pair. It passes if the chosen answer has the higher mean log-probability."""
    return [
        _preferred(pair, chosen, rejected, evaluated.names)
        for pair, chosen, rejected in zip(evaluated.pairs, means[::2], means[1::2], strict=True)
    ]


def _preferred(pair: TokenPair, chosen: float, rejected: float, measures: Iterable[str]) -> CaseResult:
    if math.isnan(chosen) or math.isnan(rejected):
        outcome, explanation = ERROR, "the log-probability is not a number"
    elif chosen > rejected:
        outcome, explanation = PASS, ""
    else:
        outcome, explanation = FAIL, "the rejected answer is at least as likely"
    return CaseResult(
        id=pair.id,
        tags=[],
        prompt=pair.shown,
        output=f"log-probability per token: chosen {chosen:.3f}, rejected {rejected:.3f}",
        truncated=False,
        passed=outcome == PASS,
        outcomes=dict.fromkeys(measures, outcome),
        explanation=explanation,
    )


def judge_outputs(
    cases: Sequence[Case], outputs: Sequence[Sequence[Output]], samples: Samples | None
) -> list[CaseResult]:
    """Return the result of each case. ``outputs`` has the outputs of each case that is not sealed, in the
    same order: one, or with ``samples`` those that vote."""
    opened = {index: case for index, case in enumerate(cases) if not case.is_sealed}
    voted = score_votes([*opened.values()], outputs, samples)
    judged = {
        index: _with_outputs(_case_result(case, *shown), each)
        for (index, case), shown, each in zip(opened.items(), voted, outputs, strict=True)
    }
    return [judged.get(index) or _sealed_result(case) for index, case in enumerate(cases)]


def score_errors_again(evaluation_set: EvaluationSet, result: SetResult) -> SetResult:
    """Return the result with its errors scored again, for example because a judge did not answer. The stored
    outputs are used, so the model is not needed. Pairs are not scored again."""
    if not isinstance(evaluation_set, GeneratedSet) or not result.has_errors:
        return result
    by_id = {case.id: case for case in evaluation_set.cases}
    errors = [case for case in result.cases if case.has_error]
    again = judge_outputs(
        [by_id[case.id] for case in errors],
        [case.outputs for case in errors],
        evaluation_set.generation.samples,
    )
    return result.with_cases(again)


def _with_outputs(result: CaseResult, outputs: Sequence[Output]) -> CaseResult:
    """Return the result with the outputs from which it can be scored again, if it could not be scored."""
    if not result.has_error or (len(outputs) == 1 and not result.truncated):
        return result
    stored = [
        StoredOutput(text=output.text, truncated=output.truncated, settled=len(output.start))
        for output in outputs
    ]
    return result.model_copy(update={"voted": stored})


def _sealed_result(case: Case) -> CaseResult:
    """Return the line of a case that is not evaluated. It keeps the place of the case in the set."""
    sealed = {measure: Score(SEALED, "sealed until the final gate") for measure in case.measures}
    return _case_result(case, Output("", truncated=False), sealed)


def _case_result(case: Case, output: Output, scores: Mapping[str, Score]) -> CaseResult:
    explanations = dict.fromkeys(s.explanation for s in scores.values() if s.explanation)
    return CaseResult(
        id=case.id,
        tags=list(case.tags),
        group=case.source.group if isinstance(case.source, GoldenCase) else None,
        prompt=case.shown,
        output=output.text,
        truncated=output.truncated,
        passed=all(s.outcome == PASS for s in scores.values()),
        outcomes={measure: s.outcome for measure, s in scores.items()},
        explanation="; ".join(explanations),
        counts={measure: str(s.counts) for measure, s in scores.items() if s.counts} or None,
    )


def as_evaluation(
    weights: Weights, sets: Sequence[EvaluationSet], results: Sequence[SetResult]
) -> Evaluation:
    """Return the outcomes and counts as the :class:`~tunegate_api.contract.results.Evaluation` that is
    reported, with the current time as the time at which the evaluation ended."""
    measured = [
        (name, measure, result)
        for evaluation_set, result in zip(sets, results, strict=True)
        for measure, name in evaluation_set.names.items()
    ]
    counts = {name: result.counts(measure) for name, measure, result in measured}
    return Evaluation(
        subject=weights.subject,
        stage=weights.stage,
        step=weights.step,
        loss=weights.loss,
        digest=weights.digest,
        outcomes=outcomes_of(sets, results),
        counts={name: each for name, each in counts.items() if each} or None,
        seconds=round(sum(result.seconds for result in results), 3),
        time=datetime.now(UTC).replace(microsecond=0),
    )


def outcomes_of(sets: Sequence[EvaluationSet], results: Sequence[SetResult]) -> dict[str, str]:
    """Return the outcomes of each set, by the set's name in
    :class:`~tunegate_api.contract.results.Evaluation`."""
    return {
        name: result.outcomes(measure)
        for evaluation_set, result in zip(sets, results, strict=True)
        for measure, name in evaluation_set.names.items()
    }


def as_results(sets: Sequence[EvaluationSet], evaluations: Sequence[Evaluation]) -> Results:
    """Return the evaluations together with the cases of their sets, in the format of reports."""
    case_sets = {name: cases for s in sets for name, cases in s.case_sets.items()}
    return Results(sets=case_sets, evaluations=list(evaluations))


def write_cases(path: Path, result: SetResult) -> None:
    """Write the results of a set, one case per line."""
    lines = (case.model_dump_json(by_alias=True, exclude_none=True) + "\n" for case in result.cases)
    write_atomic(path, "".join(lines))


def write_evaluation(
    folder: Path, sets: Sequence[EvaluationSet], results: Sequence[SetResult], evaluation: Evaluation
) -> None:
    """Write one file per set, and then ``result.json``, which marks the folder as complete."""
    for evaluation_set, result in zip(sets, results, strict=True):
        write_cases(folder / evaluation_set.file, result)
    write_model(folder / RESULT, evaluation)


def read_cases(path: Path) -> SetResult | None:
    """Read the results that :func:`write_cases` wrote to a file. The file does not contain ``seconds``, so it
    is set to 0. Returns None if the file does not exist."""
    try:
        with path.open(encoding="utf-8", newline="\n") as file:
            return SetResult(cases=[CaseResult.model_validate_json(line) for line in file], seconds=0)
    except FileNotFoundError:
        return None


def read_evaluation(folder: Path) -> Evaluation | None:
    """Read the evaluation that :func:`write_evaluation` wrote. Returns None if the folder has no
    ``result.json``.

    Raises :class:`StorageError` if ``result.json`` is damaged. The evaluation must not be repeated, because
    training decisions were already based on its result.
    """
    try:
        return Evaluation.model_validate_json((folder / RESULT).read_bytes())
    except FileNotFoundError:
        return None
    except ValidationError as error:
        raise StorageError(
            f"{'/'.join(folder.parts[-2:])}/{RESULT} is damaged: {str(error).splitlines()[0]}",
            "restore it from a copy of the volume, or create the job again",
        ) from error
