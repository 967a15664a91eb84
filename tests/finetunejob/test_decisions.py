"""Whether a job waits for a person, or the operator has yet to act on what the person decided."""

import json

import pytest

from tunegate_operator.decisions import (
    ReasonTooLongError,
    is_at_rest,
    stop_decision,
    verdict_decision,
)
from tunegate_operator.engine.prune import MAX_ANNOTATION
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


@pytest.mark.parametrize(
    ("phase", "annotation", "decision"),
    [
        ("Stopped", CONTINUE_ANNOTATION, {"stop": "sft-1-20"}),
        ("AwaitingApproval", APPROVE_ANNOTATION, {"verdict": "d" * 64, "by": "ana"}),
    ],
)
def test_job_with_a_decision_that_the_operator_drops_still_waits(
    phase: str, annotation: str, decision: dict[str, str]
) -> None:
    final = {"verdict": "Passed", "verdictDigest": "d" * 64}
    status = {"phase": phase, "stop": {"id": "sft-1-20"}, "final": final}
    for length, expected in ((100, False), (MAX_ANNOTATION, True)):
        metadata = {"annotations": {annotation: json.dumps(decision | {"reason": "x" * length})}}
        assert is_at_rest({"metadata": metadata, "spec": {}, "status": status}) is expected


@pytest.mark.parametrize("letter", ["x", "理", '"', "\n"])
def test_decision_is_written_only_if_the_operator_reads_it_whole(letter: str) -> None:
    def written(length: int) -> tuple[str, str]:
        reason = "because" + letter * length
        return stop_decision("sft-1-20", reason), verdict_decision("d" * 64, "ana", reason)

    for text in written(600):
        assert "because" + letter * 600 == json.loads(text)["reason"]
        assert len(json.dumps(text, ensure_ascii=False).encode()) <= MAX_ANNOTATION
    with pytest.raises(ReasonTooLongError, match=f"at most {MAX_ANNOTATION} bytes"):
        written(MAX_ANNOTATION)
