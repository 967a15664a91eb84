"""What two runs of one job have in common: their status, without times, speeds and names of their own."""

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
        *("gpuSeconds", "gpuSecondsSaved", "runningSeconds", "secondsSaved", "tokensPerSecond"),
        *("trainingSeconds", "evaluationSeconds", "evaluationShare", "peakProcessMemory", "peakGpuMemory"),
    }
)


def masked_status(job: dict[str, Any]) -> Any:
    """The status of a FineTuneJob, to be compared with another's."""
    return _masked(job["status"], job["metadata"]["uid"])


def _masked(value: Any, uid: str) -> Any:
    if isinstance(value, dict):
        kept = {key: item for key, item in value.items() if key not in _DIFFERS}
        if "configMap" in kept:  # the plan: it names the uid, and so its digest is another
            kept.pop("sha256", None)
        if "sha256" in kept:  # a cached baseline: what it depends on, as the version of Python, is in its key
            kept.pop("key", None)
        return {key: _masked(item, uid) for key, item in kept.items()}
    if isinstance(value, list):
        return [_masked(item, uid) for item in value]
    if isinstance(value, str):
        return value.replace(uid, "UID").replace(uid[:5], "UID")
    return value
