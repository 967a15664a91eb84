"""Add a banner to the trainer's HTML report for what the trainer could not report.

The trainer writes the page while it runs, so the page lacks what happens afterwards: an exceeded deadline, a
killed process, a person's decision to discard the run, or a decision about the verdict of a job without
publish targets.
"""

import re
from html import escape, unescape

from tunegate_api.v1alpha2 import FineTuneJobStatus
from tunegate_api.v1alpha2.reasons import Phase

_SHOWN = (Phase.FAILED, Phase.SUSPENDED, Phase.AWAITING_APPROVAL)
"""Phases of which the reason may be missing on the page, because no pod of the job knows it."""
_STYLE = "margin:1em;padding:.6em 1em;border:2px solid {color};border-radius:6px"


def with_status(page: str, name: str, status: FineTuneJobStatus) -> str:
    """Return the page. If the job failed, was suspended or awaits an approval, and the page lacks the reason,
    or if the page lacks a person's decision about the verdict, add a banner with the job's status at the
    top."""
    needs_reason = status.phase in _SHOWN and not _has_failure(page, status)
    if not needs_reason and _has_decision(page, status):
        return page
    title, banner = f"<title>{status.phase} - {escape(name)}</title>", _banner(status)
    page = re.sub(r"<title>.*?</title>", lambda _: title, page, count=1, flags=re.DOTALL)
    page, count = re.subn(r"<body[^>]*>", lambda body: f"{body[0]}\n{banner}", page, count=1)
    return page if count else f"{banner}\n{page}"


def _has_failure(page: str, status: FineTuneJobStatus) -> bool:
    """Return whether the page contains the message of the job's failure."""
    return status.failure is not None and unescape(status.failure.message) in unescape(page)


def _has_decision(page: str, status: FineTuneJobStatus) -> bool:
    """Return whether the page contains the decision about the verdict, or the job ended without one."""
    if status.phase is not Phase.SUCCEEDED or status.verdict_decision is None:
        return True
    return f"the verdict: {status.verdict_decision.reason}" in unescape(page)


def _banner(status: FineTuneJobStatus) -> str:
    lines = [f"<strong>{status.phase}</strong> {escape(status.message)}"]
    if status.failure and status.failure.hint:
        lines.append(f"What to do: {escape(status.failure.hint)}")
    lines.append("<small>The trainer wrote the report below before this happened.</small>")
    style = _STYLE.format(color="#2e7d32" if status.phase is Phase.SUCCEEDED else "#b00020")
    return f'<p role="status" style="{style}">{"<br>".join(lines)}</p>'
