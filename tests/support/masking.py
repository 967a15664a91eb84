"""Mask the fields of a status that differ between two runs of the same job, such as times, speeds and
uids."""

from typing import Any

_DIFFERS = frozenset(
    {
        *(
            "completionTime",
            "estimatedEnd",
            "finished",
            "image",
            "lastTransitionTime",
            "started",
            "startTime",
            "time",
            "updated",
        ),
        "requestSha256",  # the request contains the uid
        *("gpuSeconds", "gpuSecondsSaved", "runningSeconds", "secondsSaved", "tokensPerSecond"),
        *("trainingSeconds", "evaluationSeconds", "evaluationShare", "peakProcessMemory", "peakGpuMemory"),
    }
)


def masked_status(job: dict[str, Any]) -> Any:
    """Return the masked status of a FineTuneJob, for comparison with another run's."""
    return _masked(job["status"], job["metadata"]["uid"])


def _masked(value: Any, uid: str) -> Any:
    if isinstance(value, dict):
        kept = {key: item for key, item in value.items() if key not in _DIFFERS}
        if "configMap" in kept:  # the plan, whose digest differs because the plan contains the uid
            kept.pop("sha256", None)
        if "sha256" in kept:  # a cached baseline, whose key depends on the environment
            kept.pop("key", None)
        return {key: _masked(item, uid) for key, item in kept.items()}
    if isinstance(value, list):
        return [_masked(item, uid) for item in value]
    if isinstance(value, str):
        return value.replace(uid, "UID").replace(uid[:5], "UID")
    return value
