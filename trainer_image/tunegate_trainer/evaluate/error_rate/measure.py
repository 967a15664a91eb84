"""Run the evaluations from which the error rates of gates are computed, after the final gate."""

import json
import logging
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from functools import partial
from pathlib import Path
from statistics import mean

from pydantic import ValidationError

from tunegate_api.contract.digests import sha256_text
from tunegate_api.contract.request import GateRequest
from tunegate_api.contract.results import ErrorRateOutcomes, PlantedRegression
from tunegate_api.contract.workspace import error_rate_file
from tunegate_api.meta import Sha256, StatusModel, shorten
from tunegate_api.verdict.tiers import counted_cases
from tunegate_trainer.artifacts.gate_result import GateRoleResult
from tunegate_trainer.evaluate.error_rate.answers import removed_refusals, shuffled_answers
from tunegate_trainer.evaluate.error_rate.artifact import Artifact
from tunegate_trainer.evaluate.error_rate.repeats import evaluate_again
from tunegate_trainer.evaluate.error_rate.strength import NotComparableError, at_strength
from tunegate_trainer.evaluate.evaluate import SetResult, evaluate, read_cases
from tunegate_trainer.evaluate.golden_sets import golden_sets
from tunegate_trainer.evaluate.sets import GOLDEN, GeneratedSet
from tunegate_trainer.process.context import Context
from tunegate_trainer.process.errors import SourceNotFoundError, TrainerError
from tunegate_trainer.process.files import write_model

logger = logging.getLogger(__name__)

STRENGTHS = (0.75, 0.5)
"""Shares of the change by training that models keep which are made worse on purpose."""
_SHOWN_NAME = 23
"""How many characters of a gate's name are in the text about its evaluations, which may have 64."""

ReportActivity = Callable[[str, datetime | None], None]
"""Reports what the process does, and when all evaluations are expected to end."""


class NotScoredError(Exception):
    """Cases could not be scored, for example because the server of a scorer did not answer."""


@dataclass
class MeasuredErrorRates:
    """What was measured, by the name of the gate."""

    outcomes: dict[str, ErrorRateOutcomes] = field(default_factory=dict)
    problems: dict[str, str] = field(default_factory=dict)
    """Why gates could not be measured."""


class StoredRun(StatusModel):
    """The result of an evaluation, which is not repeated after an interruption."""

    key: Sha256
    """The digest of everything that the result depends on."""
    result: SetResult


def measure_error_rates(
    context: Context,
    judged: GateRoleResult,
    repeats: Mapping[str, int],
    *,
    report: ReportActivity,
    check: Callable[[], None],
) -> MeasuredErrorRates:
    """Evaluate the artifact again on the golden sets of gates, and models that are worse. ``repeats`` has the
    number of repeated evaluations of the artifact by the name of the gate.

    ``judged`` and the outputs of the artifact are those of the final gate. A gate that cannot be measured has
    a problem instead of outcomes. ``check`` is called before each evaluation.
    """
    artifact, found = Artifact(context, judged), MeasuredErrorRates()
    progress = _EvaluationProgress(sum(map(_evaluations, repeats.values())), report, check)
    for name, count in repeats.items():
        try:
            gate = context.request.gate(name)
            found.outcomes[name] = _Measurement(context, gate, artifact, progress).measure(count)
        except Exception as error:  # noqa: BLE001 - the verdict is known, and must not be lost
            found.problems[name] = _problem(error)
            logger.warning("the error rate of gate %s is not known: %s", name, found.problems[name])
            artifact = Artifact(context, judged)  # the weights of a weaker model may still be loaded
        progress.first += _evaluations(count)
    return found


def _evaluations(repeats: int) -> int:
    return repeats + len(STRENGTHS)


def _problem(error: Exception) -> str:
    if isinstance(error, TrainerError):
        return f"{error}; {error.hint}" if error.hint else str(error)
    if isinstance(error, NotScoredError):
        return str(error)
    first = str(error).strip().splitlines()
    return f"{type(error).__name__}: {first[0] if first else ''}"


@dataclass
class _EvaluationProgress:
    """Reports the evaluations for which outputs are generated."""

    total: int
    report: ReportActivity
    check: Callable[[], None]
    first: int = 1
    """The number of the first evaluation of the current gate."""
    seconds: list[float] = field(default_factory=list)
    """The durations of the evaluations of this process."""

    def start(self, gate: str, index: int) -> None:
        """Report an evaluation, the one with this index of those of its gate."""
        self.check()
        number, end = self.first + index, None
        if self.seconds:
            left = mean(self.seconds) * (self.total - number + 1)
            end = datetime.now(UTC) + timedelta(seconds=left)
        name = shorten(gate, _SHOWN_NAME)
        self.report(f"measuring the error rate of {name}, {number}/{self.total}", end)


class _Measurement:
    """The evaluations for one gate."""

    def __init__(
        self, context: Context, gate: GateRequest, artifact: Artifact, progress: _EvaluationProgress
    ) -> None:
        self._context = context
        self._gate = gate
        self._artifact = artifact
        self._progress = progress
        # The golden set of a gate in a dry run would be left out if it cannot be used. Here it is an error.
        enforced = gate.model_copy(update={"spec": gate.spec.model_copy(update={"enforcement": "Enforce"})})
        (self._cases,) = golden_sets(context, artifact.tokenizer, [enforced])
        self._folder = context.workspace / context.paths.gate

    def measure(self, repeats: int) -> ErrorRateOutcomes:
        """Return the outcomes of all evaluations. Raises an error if one of them cannot be measured."""
        cases, gate = self._cases, self._gate
        reference = read_cases(self._folder / cases.file)
        if reference is None:
            raise SourceNotFoundError(f"gate/{cases.file} is missing in the job's folder on the volume")
        self._checked("the final gate", reference)

        again = [
            self._generated(f"repeat {number}", number - 1, partial(self._again, number))
            for number in range(1, repeats + 1)
        ]
        weaker: dict[str, SetResult] = {}
        try:
            for index, share in enumerate(STRENGTHS, start=repeats):
                name = f"strength {share}"
                weaker[name] = self._generated(name, index, partial(self._weaker, share))
        except NotComparableError as error:
            logger.warning("gate %s is not measured with weaker models: %s", gate.name, error)
        changed = {
            "shuffled answers": self._exchanged("shuffled answers", shuffled_answers, reference),
            "refusals removed": self._exchanged("refusals removed", removed_refusals, reference),
        }
        planted = {**weaker, **{name: each for name, each in changed.items() if each}}
        generated = [*again, *weaker.values()]
        return ErrorRateOutcomes(
            golden_sha256=gate.golden_sha256,
            base_digest=self._context.plan.model.digest,
            scoring=gate.spec.scoring,
            reference=reference.outcomes(GOLDEN),
            repeats=[each.outcomes(GOLDEN) for each in again],
            planted=[PlantedRegression(name=k, outcomes=v.outcomes(GOLDEN)) for k, v in planted.items()],
            evaluations=len(generated),
            seconds=round(sum(each.seconds for each in generated), 3),
        )

    def _again(self, number: int) -> SetResult:
        artifact = self._artifact
        return evaluate_again(artifact.model, artifact.tokenizer, self._cases, number, stops=artifact.stops)

    def _weaker(self, share: float) -> SetResult:
        artifact = self._artifact
        with at_strength(artifact.model, share, artifact.folder, artifact.base):
            (result,) = evaluate(artifact.model, artifact.tokenizer, [self._cases], stops=artifact.stops)
        return result

    def _generated(self, name: str, index: int, measure: Callable[[], SetResult]) -> SetResult:
        """Return the result of an evaluation, which is made unless its result is stored."""
        known = self._read(name)
        if known:
            return known
        self._progress.start(self._gate.name, index)
        result = self._checked(name, measure())
        self._progress.seconds.append(result.seconds)
        self._write(name, result)
        return result

    def _exchanged(
        self, name: str, exchange: Callable[[GeneratedSet, SetResult], SetResult | None], reference: SetResult
    ) -> SetResult | None:
        """Return the result with other outputs, which is stored for people; None if the set has no case for
        it."""
        result = exchange(self._cases, reference)
        if result:
            self._write(name, self._checked(name, result))
        return result

    def _checked(self, name: str, result: SetResult) -> SetResult:
        """Return the result. Raises :class:`NotScoredError` if a case that counts could not be scored."""
        counted = counted_cases(self._cases.case_set, self._gate.bar)
        errors = counted.missing(counted.of(result.outcomes(GOLDEN)))
        if errors:
            why = next((case.explanation for case in result.cases if case.has_error), "")
            raise NotScoredError(f"{errors} cases of {name} could not be scored: {why}")
        return result

    def _path(self, name: str) -> Path:
        return self._folder / error_rate_file(self._gate.name, name)

    def _key(self, name: str) -> Sha256:
        judged, plan = self._artifact.judged, self._context.plan
        depends_on = {
            **self._cases.depends_on,
            "run": name,
            "base": plan.model.digest,
            "artifact": judged.artifact,
            "dtype": judged.dtype,
            "quantization": judged.quantization,
            "device": judged.device,
            "versions": plan.versions,
        }
        return sha256_text(json.dumps(depends_on, sort_keys=True))

    def _read(self, name: str) -> SetResult | None:
        """Return the stored result of an evaluation; None if there is none, or if it has another key."""
        try:
            stored = StoredRun.model_validate_json(self._path(name).read_bytes())
        except (FileNotFoundError, ValidationError):  # another version may have written it
            return None
        return stored.result if stored.key == self._key(name) else None

    def _write(self, name: str, result: SetResult) -> None:
        self._progress.check()
        write_model(self._path(name), StoredRun(key=self._key(name), result=result))
