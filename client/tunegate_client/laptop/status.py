"""Read the status of the jobs in a runs folder. Another process may be running the jobs."""

import json
from collections.abc import Collection
from pathlib import Path
from typing import Any, cast

import yaml

from tunegate_api.v1alpha2 import FineTuneJobStatus
from tunegate_client.laptop.cluster import is_in_use
from tunegate_client.laptop.object_folder import from_yaml
from tunegate_operator.decisions import is_at_rest
from tunegate_operator.engine.cluster import ClusterError, Object

_STATUS = "status.yaml"


def cluster_folder(runs: Path) -> Path:
    return runs / ".cluster"


def read_status(job: Object) -> FineTuneJobStatus:
    return FineTuneJobStatus.model_validate(job.get("status", {}))


def status_files(runs: Path) -> list[Path]:
    """Return the status files of a runs folder, one for each FineTuneJob, sorted by name."""
    return sorted(runs.glob(f"*/{_STATUS}"))


def status_file(runs: Path, name: str) -> Path:
    """Return the path of a job's status file."""
    return runs / name / _STATUS


def volumes_folder(runs: Path) -> Path:
    """Return the folder with the volumes of a runs folder, one for each PersistentVolumeClaim."""
    return runs / "volumes"


def report_file(runs: Path, name: str) -> Path:
    """Return the path of a job's report, which exists after the job's first report."""
    return runs / name / "report.html"


def read_job(path: Path) -> Object:
    """Read a FineTuneJob from its status file. Raises FileNotFoundError, and ClusterError with the file's
    name if the file is not a FineTuneJob, for example because it is empty after a power failure."""
    try:
        job = from_yaml(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise
    except (OSError, UnicodeDecodeError, yaml.YAMLError) as error:
        raise ClusterError(f"{path} cannot be read: {error}") from error
    if not _is_job(job):
        raise ClusterError(f"{path} cannot be read: it is not a FineTuneJob")
    return cast("Object", job)


def _is_job(obj: Any) -> bool:
    """Return whether a parsed file has the fields that every stored FineTuneJob has."""
    if not isinstance(obj, dict):
        return False
    metadata, parts = obj.get("metadata"), (obj.get("spec"), obj.get("status", {}))
    return (
        isinstance(metadata, dict)
        and {"name", "uid"} <= metadata.keys()
        and all(isinstance(part, dict) for part in parts)
    )


def record_running_jobs(runs: Path, names: Collection[str]) -> None:
    """Record the names of the jobs that this process runs, for :func:`running_jobs`. Only the process that
    has locked the folder may call this function."""
    write_if_changed(_running_file(runs), json.dumps(sorted(names)))


def running_jobs(runs: Path) -> set[str]:
    """Return the names of the jobs that are being run by the process that has locked the folder. The set is
    empty if no process has locked it."""
    if not is_in_use(cluster_folder(runs)):
        return set()
    try:
        return set(json.loads(_running_file(runs).read_text(encoding="utf-8")))
    except FileNotFoundError:  # that process has just started
        return set()


def interrupted_jobs(runs: Path, jobs: Collection[Object]) -> set[str]:
    """Return the names of the jobs that are not at rest and that no process is running. A person has to run
    these jobs again."""
    running = running_jobs(runs)
    return {job["metadata"]["name"] for job in jobs if not is_at_rest(job)} - running


def write_if_changed(path: Path, text: str) -> None:
    """Write a file, unless it has this content already."""
    if path.exists() and path.read_text(encoding="utf-8") == text:
        return
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f".{path.name}")
    temporary.write_text(text, encoding="utf-8")
    temporary.replace(path)


def _running_file(runs: Path) -> Path:
    return cluster_folder(runs) / "running.json"
