"""Whether a job waits for a person, or the operator has yet to act on what the person decided."""

import json

import pytest

from tunegate_operator.finetunejob.decisions import is_at_rest
from tunegate_operator.names import APPROVE_ANNOTATION, CONTINUE_ANNOTATION, DISCARD_ANNOTATION


@pytest.mark.parametrize(
    ("phase", "expected"),
    [(None, False), ("Training", False), ("Succeeded", True), ("Failed", True), ("Dreaming", True)],
)
def test_job_is_at_rest_once_it_has_ended(phase: str | None, expected: bool) -> None:
    assert is_at_rest({"metadata": {}, "spec": {}, "status": {"phase": phase}}) is expected


def test_job_without_a_status_is_not_at_rest() -> None:
    assert not is_at_rest({"metadata": {}, "spec": {}})


@pytest.mark.parametrize(("suspend", "expected"), [(True, True), (False, False), (None, False)])
def test_suspended_job_is_at_rest_until_it_is_resumed(suspend: bool | None, expected: bool) -> None:
    assert (
        is_at_rest({"metadata": {}, "spec": {"suspend": suspend}, "status": {"phase": "Suspended"}})
        is expected
    )


@pytest.mark.parametrize("annotation", [CONTINUE_ANNOTATION, DISCARD_ANNOTATION])
@pytest.mark.parametrize(
    ("stop", "reason", "expected"),
    [("sft-1-20", "fine", False), ("sft-1-10", "fine", True), ("sft-1-20", " ", True)],
    ids=["decided", "about another stop", "without a reason"],
)
def test_stopped_job_is_at_rest_until_a_person_decides(
    annotation: str, stop: str, reason: str, expected: bool
) -> None:
    annotations = {annotation: json.dumps({"stop": stop, "reason": reason})}
    job = {"metadata": {}, "spec": {}, "status": {"phase": "Stopped", "stop": {"id": "sft-1-20"}}}
    assert is_at_rest(job)
    assert is_at_rest(job | {"metadata": {"annotations": annotations}}) is expected


@pytest.mark.parametrize("written", ["5", "true", "null", "[]", "{}"])
def test_job_with_a_malformed_approval_still_waits(written: str) -> None:
    final = {"verdict": "Passed", "verdictDigest": "d" * 64}
    metadata = {"annotations": {APPROVE_ANNOTATION: written}}
    assert is_at_rest(
        {"metadata": metadata, "spec": {}, "status": {"phase": "AwaitingApproval", "final": final}}
    )
