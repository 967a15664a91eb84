"""The results of the data checks, for the section about data."""

from collections.abc import Sequence
from dataclasses import dataclass

from tunegate_api.contract.process import Role
from tunegate_trainer.report.collect import CheckNote, Collected

_ORDER = ("Refused", "Warned", "Passed")


@dataclass(frozen=True)
class CheckResults:
    """The results of all data checks that ran so far."""

    found: Sequence[CheckNote]
    """The findings: first those for which the data was refused, then warnings, then those within a limit."""
    passed: Sequence[str]
    """The names of the checks that found nothing."""
    off: Sequence[str]
    """The names of the checks that the spec switches off."""


def check_results(job: Collected) -> CheckResults:
    """Return the findings in data/report.json, and the other checks from the report of the data role."""
    report = job.report_of(Role.DATA)
    results = report.data_checks if report else []
    found = sorted(job.notes.checks, key=lambda note: (*_ORDER, note.result).index(note.result))
    named = {note.check for note in found}
    return CheckResults(
        found=found,
        passed=[one.name for one in results if one.result == "Passed" and one.name not in named],
        off=[one.name for one in results if one.result == "Off"],
    )
