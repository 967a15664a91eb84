"""Judge a record of the corpus with the code of today, and describe the result without product objects.

A record has a ``kind``, which is a key of :data:`KINDS`. Each kind is a seam of the product: a function, or a
few functions with the same input, whose results depend on nothing else.

============== ==========================================================================================
Job            a request and the measured results: the verdict of the artifact and of each checkpoint,
               the best checkpoint, the stop rules, and what a person may decide
Golden         outcomes of one golden set, with rules and baselines
Safety         outcomes of one safety set, with limits
Stop           the stop rule of a golden set
SafetyStop     the stop rule of a safety set
Values         the stop rule of a task metric
Task           a task metric that is a pass rate
Counted        a count-based task metric
ErrorRate      the error rate of a gate from repeated evaluations and planted regressions
Best           the best of several checkpoints
Published      the strictest of several published versions
Agreement      whether a judge model or a guardrail agrees with known answers
============== ==========================================================================================
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from fractions import Fraction
from typing import Any

from support.judgements import objects
from support.judgements.jobs import judged_job
from support.judgements.results import (
    Words,
    assessment,
    best,
    finding,
    percent,
    safety,
    text,
    verdict,
    without_words,
    words,
)
from tunegate_api.cases.probes import ProbeCounts, RefusalProbeCounts
from tunegate_api.contract.plan import CalibrationCounts
from tunegate_api.judging.error_rate import error_rates
from tunegate_api.judging.judge_model import assess_calibration
from tunegate_api.v1alpha2.graders import RequiredAgreement
from tunegate_api.verdict.best import Candidate, select_best
from tunegate_api.verdict.counts import aggregate_of, counted_metric
from tunegate_api.verdict.golden import judge_golden, judge_task
from tunegate_api.verdict.measured import Letters
from tunegate_api.verdict.outcomes import VerdictState
from tunegate_api.verdict.rules.drop import Drop
from tunegate_api.verdict.safety import judge_safety
from tunegate_api.verdict.safety_stop_rule import assess_safety
from tunegate_api.verdict.stop_rule import StepOutcomes, StepValue, assess_checkpoint, assess_values
from tunegate_trainer.artifacts.history import strictest

Record = Mapping[str, Any]


def golden(record: Record) -> Any:
    baselines = {objects.NAMES.get(name, name): objects.baseline(each) for name, each in record["baselines"]}
    cases, rules = objects.case_set(record["cases"]), objects.bar(record["rules"])
    return verdict(judge_golden(cases, record["outcomes"], rules, baselines))


def safety_set(record: Record) -> Any:
    cases, limits = objects.case_set(record["cases"]), objects.limits(record["limits"])
    return safety(judge_safety(cases, record["outcomes"], record["baseOutcomes"], limits))


def history(record: Record) -> Sequence[StepOutcomes]:
    return [StepOutcomes(step, outcomes) for step, outcomes in record["history"]]


def stop(record: Record) -> Any:
    cases, rules = objects.case_set(record["cases"]), objects.bar(record["rules"])
    return assessment(assess_checkpoint(cases, rules, history(record)))


def safety_stop(record: Record) -> Any:
    cases, limits = objects.case_set(record["cases"]), objects.limits(record["limits"])
    return assessment(assess_safety(cases, limits, history(record), confirm=record["confirm"]))


@dataclass(frozen=True)
class RecordedScore:
    """A score of which only two values were recorded."""

    value: Fraction
    highest: Fraction
    total: int = 0
    reported: int = 0
    missing: int = 0
    text: str = ""


def values(record: Record) -> Any:
    found = [
        StepValue(step, RecordedScore(Fraction(value), Fraction(highest)), shown, at_most)
        for step, value, highest, shown, at_most in record["history"]
    ]
    rule, confirm = Drop(Fraction(record["limit"])), record["confirm"]
    return assessment(assess_values(record["name"], found, rule, confirm=confirm))


def task(record: Record) -> Any:
    rows, minimum = objects.case_set(record["cases"]), Fraction(record["min"])
    return finding(judge_task(record["name"], rows, Letters(record["outcomes"], len(rows.ids)), minimum))


def counted(record: Record) -> Any:
    rows, letters = objects.case_set(record["cases"]), record["outcomes"]
    aggregate = aggregate_of(objects.METRIC_TYPES[record["name"]], record["average"])
    assert aggregate is not None
    found = counted_metric(rows, letters, record["entries"], aggregate)
    minima = sorted({found.value, found.highest, Fraction(1, 2)})
    return {
        "value": text(found.value),
        "highest": text(found.highest),
        "complete": found.is_complete,
        "at": {str(m): finding(judge_task(record["name"], rows, found, m, record["name"])) for m in minima},
    }


def error_rate(record: Record) -> Any:
    cases, rules = objects.case_set(record["cases"]), objects.bar(record["rules"])
    measured = objects.calibration(record["measured"], "same")
    also = tuple(Fraction(points) for points in record["also"])
    found = error_rates(cases, rules, measured, also)
    alarm = found.false_alarm
    return {
        "measured": not found.problem,
        "problem": Words(found.problem),
        "falseAlarm": [percent(alarm.share), percent(alarm.high)],
        "detection": {
            str(one.points): [percent(one.share), percent(one.low), percent(one.high)]
            for one in found.detection
        },
        "flaky": list(found.flaky),
        "largest": text(found.largest),
    }


def best_of(record: Record) -> Any:
    candidates = [
        Candidate(step, VerdictState(state), Fraction(golden), Fraction(dev))
        for step, state, golden, dev in record["candidates"]
    ]
    return best(select_best(candidates))


def published(record: Record) -> Any:
    gates = [objects.gate(name, each) for name, each in record["gates"].items()]
    results = objects.results({"sets": record["sets"], "evaluations": []}, objects.request(_job_of(record)))
    found = [
        {gate: [objects.published(one) for one in versions] for gate, versions in each.items()}
        for each in record["found"]
    ]
    chosen = strictest(found, gates, results)
    return {
        gate: [one.version, one.outcomes, one.by_case, one.problem is not None]
        for gate, one in chosen.items()
    }


def _job_of(record: Record) -> Record:
    return {"gates": record["gates"], "taskMetrics": [], "stages": [], "finalGates": []}


def agreement(record: Record) -> Any:
    counts = record["counts"]
    if record["of"] == "Judge":
        recall, specificity = (f"{100 * float(record[name]):g}%" for name in ("minRecall", "minSpecificity"))
        wanted = RequiredAgreement(set="people", min_recall=recall, min_specificity=specificity)
        judge = assess_calibration(CalibrationCounts(source_sha256="0" * 64, **counts), wanted)
        return {"passed": judge.has_passed, "message": Words(judge.message)}
    kind = ProbeCounts if record["of"] == "Guardrail" else RefusalProbeCounts
    found = kind(**counts).assessment
    return {"passed": found.has_passed, "message": Words(found.message)}


KINDS: Mapping[str, Callable[[Record], Any]] = {
    "Job": judged_job,
    "Golden": golden,
    "Safety": safety_set,
    "Stop": stop,
    "SafetyStop": safety_stop,
    "Values": values,
    "Task": task,
    "Counted": counted,
    "ErrorRate": error_rate,
    "Best": best_of,
    "Published": published,
    "Agreement": agreement,
}


def judged(record: Record) -> tuple[Any, dict[str, str]]:
    """Return what the product decides about a record, and its messages by their place in the decision."""
    found = KINDS[record["kind"]](record)
    return without_words(found), dict(words(found))
