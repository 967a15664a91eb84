"""Run data checks: apply their policies and limits, and collect results, warnings and errors."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, TypeVar

from tunegate_api.meta import printable
from tunegate_api.v1alpha2.data_checks import CheckSetting
from tunegate_api.v1alpha2.data_status import DataCheckResult
from tunegate_trainer.checks import OF_GATES, OF_GOLDEN_CASES
from tunegate_trainer.checks.finding import (
    ENFORCED,
    Check,
    CheckContext,
    Finding,
    Severity,
)
from tunegate_trainer.data.excerpts import masked_content, masked_text
from tunegate_trainer.process.errors import BadDataError

Note = Callable[[dict[str, Any]], None]
"""Adds keys to data/report.json."""
RowsT = TypeVar("RowsT")
_ORDER = ("Off", "Passed", "Warned", "Refused")
"""The results of a check, from the best to the worst."""


@dataclass
class CheckRunner:
    """Runs checks, and collects their results over all groups and sources."""

    context: CheckContext
    note: Note
    """Adds the findings of checks to data/report.json."""
    warnings: list[str] = field(default_factory=list)
    """The messages of all warnings so far."""
    errors: list[Finding] = field(default_factory=list)
    """The findings so far for which the data must be refused."""
    measured: dict[str, float] = field(default_factory=dict)
    """The last :attr:`Finding.measured` of each check that has one, by the check's name."""
    _results: dict[str, DataCheckResult] = field(default_factory=dict)
    _findings: list[dict[str, Any]] = field(default_factory=list)

    @property
    def results(self) -> list[DataCheckResult]:
        """The results of all checks so far, in the order in which they ran."""
        return list(self._results.values())

    def run(self, checks: Sequence[Check[RowsT]], rows: RowsT, note: Note | None = None) -> None:
        """Run ``checks`` on ``rows`` in order, and apply their policies and limits.

        ``note`` receives the keys that each finding adds to data/report.json.
        """
        for check in checks:
            report: dict[str, Any] = {}
            for context in _contexts(self.context, check.NAME):
                setting = context.setting(check.NAME)
                is_off = setting.policy == "Off"
                self._add(DataCheckResult(name=check.NAME, result="Off" if is_off else "Passed"))
                for finding in [] if is_off else check.run(rows, context):
                    self._handle(check.NAME, finding, setting, report)
            if report:
                (note or self.note)(report)
        self.note({"checks": [*self._findings]})

    def refuse_errors(self) -> None:
        """Raise the errors found so far, all in one exception. Does nothing if there are none."""
        if not self.errors:
            return
        if len(self.errors) == 1:
            raise self.errors[0].error(self.errors[0].message, self.errors[0].remedy)
        classes = {finding.error for finding in self.errors}
        raise (classes.pop() if len(classes) == 1 else BadDataError)(
            f"the data has {len(self.errors)} faults. {_numbered([one.message for one in self.errors])}",
            _numbered([one.remedy for one in self.errors]),
        )

    def _handle(self, check: str, finding: Finding, setting: CheckSetting, report: dict[str, Any]) -> None:
        """Record a finding, and add its entries to ``report``. Lists with the same key are joined."""
        finding = _presentable(finding)
        for key, entries in finding.report.items():
            report[key] = [*report[key], *entries] if key in report else entries
        if finding.measured is not None:
            self.measured[check] = finding.measured
        result = "Warned"
        if finding.severity is Severity.ERROR:
            if finding.share is not None and finding.share <= setting.limit:
                result = "Passed"
            elif setting.policy == "Enforce":
                result = "Refused"
        if result == "Refused":
            self.errors.append(finding)
        elif result == "Warned":
            self.warnings.append(finding.message)
        share = None if finding.share is None else f"{float(finding.share):.4g}"
        self._add(DataCheckResult(name=check, result=result, count=finding.count, share=share))
        self._findings.append(
            {
                "check": check,
                "result": result,
                "message": finding.message,
                "count": finding.count,
                "share": share,
                "examples": finding.examples,
                "remedy": finding.remedy,
            }
        )

    def _add(self, new: DataCheckResult) -> None:
        """Record a result. A check that already has one keeps the worst result, and its counts are added."""
        old = self._results.get(new.name, new)
        if old is new:
            self._results[new.name] = new
            return
        shares = [one.share for one in (old, new) if one.share is not None]
        self._results[new.name] = DataCheckResult(
            name=new.name,
            result=max(old.result, new.result, key=_ORDER.index),
            count=(old.count or 0) + (new.count or 0) or None,
            share=max(shares, key=float, default=None),
        )


def _contexts(context: CheckContext, check: str) -> list[CheckContext]:
    """Return the contexts in which a check runs: usually ``context``.

    A check that reads golden cases runs again for the gates in a dry run, whose faults are only warnings. If
    the settings loosen a comparison with golden cases, the check runs once for the other gates, and once for
    the required gates, for which it is enforced.
    """
    if check not in OF_GATES:
        return [context]
    dry_runs = {gate.name for gate in context.request.gates if gate.spec.dry_run}
    if dry_runs & {*context.golden, *context.safety}:
        setting = context.setting(check)
        setting = replace(setting, policy="Off" if setting.policy == "Off" else "Warn")
        warned = {**context.settings, check: setting}
        rehearsed = replace(_only(context, dry_runs.__contains__), settings=warned)
        return [*_contexts(_only(context, lambda gate: gate not in dry_runs), check), rehearsed]
    required = context.required_gates & context.golden.keys()
    if check not in OF_GOLDEN_CASES or not required or context.setting(check) == ENFORCED:
        return [context]
    enforced = replace(_only(context, required.__contains__), settings={**context.settings, check: ENFORCED})
    return [_only(context, lambda gate: gate not in required), enforced]


def _only(context: CheckContext, is_kept: Callable[[str], bool]) -> CheckContext:
    """Return the context with the golden cases and safety cases of some gates."""
    golden = {gate: cases for gate, cases in context.golden.items() if is_kept(gate)}
    safety = {gate: cases for gate, cases in context.safety.items() if is_kept(gate)}
    return replace(context, golden=golden, safety=safety)


def _presentable(finding: Finding) -> Finding:
    """Return a finding whose texts show no secrets, personal data or control characters, whatever the check
    quotes."""
    return replace(
        finding,
        message=printable(masked_text(finding.message)),
        remedy=printable(masked_text(finding.remedy)),
        examples=[printable(masked_text(example)) for example in finding.examples],
        report=masked_content(finding.report),
    )


def _numbered(sentences: Sequence[str]) -> str:
    return " ".join(f"({number}) {sentence}." for number, sentence in enumerate(sentences, start=1))
