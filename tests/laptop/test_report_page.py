"""The report shows a person's decision about the final verdict, even if no pod of the job could write it."""

from datetime import UTC, datetime

from tunegate_api.v1alpha2 import FineTuneJobStatus
from tunegate_api.v1alpha2.evaluation_status import PersonDecision
from tunegate_api.v1alpha2.reasons import Phase
from tunegate_client.laptop.report_page import with_status

STATUS = FineTuneJobStatus(
    phase=Phase.SUCCEEDED,
    message="passed (golden 1.00), approved by ada: tone is <fine>",
    decisions=[
        PersonDecision(
            action="approve",
            about="1" * 64,
            by="ada",
            reason="tone is <fine>",
            time=datetime(2026, 1, 1, tzinfo=UTC),
        )
    ],
)


def page(text: str) -> str:
    return f"<title>Passed - orders</title><body><p>{text}</p></body>"


def test_decision_about_a_job_without_publish_targets_is_shown():
    shown = with_status(page("Every gate passed."), "orders", STATUS)
    assert "<title>Succeeded - orders</title>" in shown
    assert "<strong>Succeeded</strong> passed (golden 1.00), approved by ada: tone is &lt;fine&gt;" in shown


def test_decision_that_the_publish_pod_wrote_is_not_repeated():
    written = page("Every gate passed. ada approved the verdict: tone is &lt;fine&gt;")
    assert with_status(written, "orders", STATUS) == written
