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


def differences(found: Any, expected: Any, path: str = "status") -> list[str]:
    """Return a line for each field that differs, with the value that was found and the expected one."""
    if isinstance(found, dict) and isinstance(expected, dict):
        pairs = {f"{path}.{key}": (found.get(key), expected.get(key)) for key in found | expected}
    elif isinstance(found, list) and isinstance(expected, list) and len(found) == len(expected):
        pairs = {f"{path}[{i}]": pair for i, pair in enumerate(zip(found, expected, strict=True))}
    else:
        return [] if found == expected else [f"{path}: {found!r}, expected {expected!r}"]
    return [line for at, (one, other) in pairs.items() for line in differences(one, other, at)]


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
