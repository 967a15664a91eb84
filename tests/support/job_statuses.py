"""Statuses of jobs and gates as the operator writes them, for tests of what shows them."""

from typing import Any

from support.places import STOP
from tunegate_api.verdict.outcomes import rate, rate_text

Fields = dict[str, Any]

CASES = 20
"""The number of golden cases."""
TIME = "2026-01-01T00:00:00Z"
DIGEST = "d" * 64


def gate_result(passed: int, *, gate: str = "golden", verdict: str = "Passed", **fields: Any) -> Fields:
    """Return the result of a gate for a model that passed so many cases."""
    golden = {"passed": passed, "total": CASES, "rate": rate_text(rate(passed, CASES))}
    return {"name": gate, "golden": golden, "verdict": verdict, **fields}


def checkpoint(step: int, passed: int, *, stage: str = "sft", **result: Any) -> Fields:
    """Return the evaluation of a checkpoint, or of the starting model at step 0."""
    task = {"exact_match": "0.50"}
    found = {"stage": stage, "step": step, "task": task, "gates": [gate_result(passed, **result)]}
    return found | ({"loss": "0.5"} if step else {})


def not_ready(reason: str) -> list[Fields]:
    """Return the conditions of a job that is not ready for this reason."""
    return [{"type": "Ready", "status": "False", "reason": reason, "lastTransitionTime": TIME}]


def training(step: int = 20, **fields: Any) -> Fields:
    """Return the status of a job that trains, at this step of 100."""
    return {
        "phase": "Training",
        "message": f"training sft, step {step}/100",
        "display": {"stage": "sft 1/1", "progress": f"{step}%", "golden": "0.90", "gate": "Pending"},
        "progress": {
            "stage": "sft",
            "step": step,
            "totalSteps": 100,
            "percent": step,
            "loss": "0.5",
            "tokensPerSecond": "250",
            "estimatedEnd": "2026-01-01T00:03:20Z",
            "updated": TIME,
        },
        "start": [checkpoint(0, 5)],
        "checkpoints": [checkpoint(10, 18)],
        **fields,
    }


def stopped(**fields: Any) -> Fields:
    """Return the status of a job that a gate stopped at step 30, after its best checkpoint at step 20."""
    message = "golden 15/20 at step 30, best 19/20 at step 20: -20.0 points, limit -5.0"
    waiting: Fields = {
        "phase": "Stopped",
        "message": f"golden: {message}",
        "checkpoints": [
            checkpoint(10, 18),
            checkpoint(20, 19),
            checkpoint(30, 15, verdict="Failed", message=message),
        ],
        "bestCheckpoint": {"stage": "sft", "step": 20},
        "stop": STOP
        | {
            "id": "sft-1-30",
            "step": 30,
            "message": message,
            "regressedCases": ["case-1", "case-2"],
            "regressedCount": 4,
            "bestStep": 20,
            "stepsSaved": 70,
            "secondsSaved": 200,
        },
    }
    return training(30, **waiting | fields)


def failed(**fields: Any) -> Fields:
    """Return the status of a job that failed because of its data."""
    failure = {"reason": "BadData", "message": "line 3: no prompt", "hint": "correct line 3"}
    ended: Fields = {"phase": "Failed", "message": failure["message"], "completionTime": TIME}
    return {**ended, "failure": failure, **fields}


def succeeded(**fields: Any) -> Fields:
    """Return the status of a job whose model passed the final gate and was published."""
    arithmetic = "golden 19/20 = 0.95, required 0.80; golden 19/20, BaseModel 5/20: +70.0 points, limit -5.0"
    final = {
        "modelDigest": DIGEST,
        "task": {"exact_match": "0.80"},
        "taskVerdict": "Passed",
        "taskMessage": "exact_match 8/10 = 0.80, required 0.50",
        "gates": [gate_result(19, message=arithmetic, failedCases=["case-7"], skipped=["LastPublished"])],
        "verdict": "Passed",
    }
    ended: Fields = {
        "phase": "Succeeded",
        "message": "passed (golden 0.95), published to pvc://models/orders/1",
        "completionTime": TIME,
        "bestCheckpoint": {"stage": "sft", "step": 10},
        "final": final,
        "published": [{"uri": "pvc://models/orders/1", "digest": DIGEST, "time": TIME}],
    }
    return training(100, **ended | fields)


def awaiting_approval(verdict: str = "Passed", **fields: Any) -> Fields:
    """Return the status of a job whose final verdict a person must approve, override or reject."""
    waiting = succeeded()
    for ended in ("completionTime", "published"):
        del waiting[ended]
    waiting["final"] |= {"verdict": verdict, "verdictDigest": DIGEST}
    return waiting | {"phase": "AwaitingApproval", "message": f"the verdict is {verdict}", **fields}


def record(number: int, passed: int, **fields: Any) -> Fields:
    """Return a gate's record of the model that the job ``version-NUMBER`` trained."""
    return {
        "job": f"version-{number}",
        "jobUid": f"uid-{number}",
        "step": 40,
        "modelDigest": DIGEST,
        "goldenSha256": DIGEST,
        "passed": passed,
        "total": CASES,
        "basePassed": 5,
        "verdict": "Passed",
        "publishedUris": [f"pvc://models/orders/{number}"],
        "time": f"2026-01-{number:02}T00:00:00Z",
        **fields,
    }


def judging(*records: Fields, **fields: Any) -> Fields:
    """Return the status of a gate with records, which are listed newest first."""
    ready = {"type": "Ready", "status": "True", "reason": "GoldenRead", "message": "20 cases"}
    return {
        "conditions": [ready | {"lastTransitionTime": TIME}],
        "cases": CASES,
        "digest": DIGEST,
        "last": "version-2/step-40",
        "lastVerdict": "Passed",
        "passRate": "0.95",
        "baseRate": "0.25",
        "records": list(records),
        **fields,
    }
