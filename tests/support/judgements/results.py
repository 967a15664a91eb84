"""Describe judgements without product objects: states, numbers and ids. Messages are :class:`Words`."""

from collections.abc import Iterator
from fractions import Fraction
from typing import Any

from support.judgements import taken
from tunegate_api.judging.judgement import GateJudgement, Judgement, TaskJudgement
from tunegate_api.v1alpha2.error_rate_status import ErrorRate
from tunegate_api.verdict.best import Candidate
from tunegate_api.verdict.outcomes import RuleFinding, Verdict
from tunegate_api.verdict.safety import Axis, SafetyVerdict
from tunegate_api.verdict.stop_rule import Assessment

RECORDED = {"errorRate": "calibration", **taken.RECORDED}
"""The names of rules and baselines in the recorded judgements, where they differ from those of today."""


class Words(str):
    """A message. It is compared apart from states and numbers."""

    __slots__ = ()


def recorded(name: str) -> str:
    return "mustPass" if name.startswith("critical") else RECORDED.get(name, name)


def text(value: Fraction | None) -> str | None:
    return None if value is None else str(value)


def percent(value: float) -> str:
    """Format a computed probability. Sums of floating-point numbers differ in the last digits."""
    return f"{value:.7f}"


def finding(found: RuleFinding) -> list[Any]:
    return [recorded(found.rule), str(found.state), Words(found.message)]


def verdict(found: Verdict) -> dict[str, Any]:
    return {
        "state": str(found.state),
        "findings": [finding(each) for each in found.findings],
        "passed": found.passed,
        "total": found.total,
        "deltas": {recorded(name): text(delta) for name, delta in (found.delta_points or {}).items()},
    }


def safety(found: SafetyVerdict) -> dict[str, Any]:
    return {
        "findings": [finding(each) for each in found.findings],
        "unsafe": _axis(found.unsafe),
        "overRefused": _axis(found.over_refused),
    }


def _axis(axis: Axis | None) -> list[Any] | None:
    if axis is None:
        return None
    changes = [list(axis.newly_bad), list(axis.no_longer_bad)]
    return [axis.total, axis.bad, axis.base_bad, axis.unmeasured, axis.base_unmeasured, *changes]


def assessment(found: Assessment) -> list[Any]:
    return [
        str(found.action),
        found.must_pass,
        found.best_step,
        found.best_passed,
        list(found.regressed),
        Words(found.message),
    ]


def best(found: Candidate | None) -> list[Any] | None:
    return found and [found.step, text(found.golden), text(found.dev)]


def judgement(found: Judgement) -> dict[str, Any]:
    return {
        "state": str(found.state),
        "gateState": str(found.gate_state),
        "taskState": str(found.task_state),
        "gates": {each.name: _gate(each) for each in found.gates},
        "tasks": [_task(each) for each in found.tasks],
        "message": Words(found.message),
    }


def _gate(found: GateJudgement) -> dict[str, Any]:
    parts, measured = found.parts, found.error_rate and found.error_rate.error_rate
    described = verdict(found.verdict) | {
        "baselines": {recorded(name): passed for name, passed in found.baselines.items()},
        "skipped": sorted(recorded(name) for name in found.skipped),
        "dryRun": found.dry_run,
        "failed": found.failed_cases,
    }
    if parts:
        described["parts"] = [
            *(parts.open_passed, parts.open_total),
            *(parts.sealed_passed, parts.sealed_total),
        ]
    if found.safety:
        described["safety"] = safety(found.safety.verdict)
    if measured:
        described["errorRate"] = _error_rate(measured)
    return described


def _error_rate(found: ErrorRate) -> dict[str, Any]:
    return {
        "falseAlarm": found.false_alarm.to_wire(),
        "detection": [one.to_wire() for one in found.detection],
        "flaky": found.flaky,
    }


def _task(found: TaskJudgement) -> dict[str, Any]:
    return {
        "name": found.name,
        "split": found.split,
        "finding": finding(found.finding),
        "counts": [found.passed, found.total, found.base_passed],
        "values": [text(found.value), text(found.base_value)],
    }


def without_words(found: Any) -> Any:
    """Return a description without its messages."""
    if isinstance(found, dict):
        return {key: without_words(each) for key, each in found.items() if not isinstance(each, Words)}
    if isinstance(found, list):
        return [without_words(each) for each in found if not isinstance(each, Words)]
    return found


def words(found: Any, place: str = "") -> Iterator[tuple[str, str]]:
    """Yield the messages of a description with their places in it."""
    if isinstance(found, Words) and found:
        yield place, str(found)
    elif isinstance(found, dict):
        for key, each in found.items():
            yield from words(each, f"{place}/{key}")
    elif isinstance(found, list):
        for number, each in enumerate(found):
            yield from words(each, f"{place}/{number}")
