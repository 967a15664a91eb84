"""Select the pod of a job whose log a user wants, and follow the logs of its pods one after the other."""

import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass

from tunegate_api.contract.process import Role
from tunegate_client.places.client import Client, ClientError, ClusterUnreachableError, has_log, status_of
from tunegate_client.places.retry import Retry
from tunegate_operator.children.job import INDEX_LABEL
from tunegate_operator.decisions import is_at_rest
from tunegate_operator.engine.cluster import Object
from tunegate_operator.engine.objects import uid_of
from tunegate_operator.names import ROLE_LABEL, STAGE_LABEL

POLL_SECONDS = 1.0
"""Seconds between two looks for a new pod."""


@dataclass(frozen=True)
class LogSelection:
    """The pods of a job whose logs are shown."""

    role: Role | None = None
    """None stands for all roles except chores, such as cleanup."""
    stage: str | None = None
    """None stands for all stages, and for the steps that have no stage."""
    pod: int = 0
    """The index of the pod in a multi-pod Job. The first pod has rank 0, which reports for all."""

    def includes(self, pod: Object) -> bool:
        """Return whether a pod is selected."""
        labels = pod["metadata"].get("labels", {})
        role, stage = labels.get(ROLE_LABEL), labels.get(STAGE_LABEL)
        is_wanted = role == self.role if self.role else role not in [each for each in Role if each.is_chore]
        return (
            is_wanted
            and self.stage in (None, stage)
            and (int(labels.get(INDEX_LABEL, 0)) == self.pod or INDEX_LABEL not in labels)
        )

    def __str__(self) -> str:
        parts = [f"role {self.role}" if self.role else "", f"stage {self.stage}" if self.stage else ""]
        parts.append(f"index {self.pod}" if self.pod else "")
        return " and ".join(part for part in parts if part)


def newest_log(client: Client, name: str, selection: LogSelection) -> Iterator[str]:
    """Return the lines of the log of a job's newest selected pod. Raises ClientError if there is no pod."""
    job = client.get("FineTuneJob", name)
    pods = _pods_with_logs(client, job, selection)
    if not pods:
        status = status_of(job)
        raise ClientError(
            f"FineTuneJob {name} in {client.place} has no pod with a log{_of(selection)}; its phase is "
            f"{status.phase or 'Pending'}: {status.message}"
        )
    return client.read_log(pods[-1])


def follow_logs(
    client: Client, name: str, selection: LogSelection, notice: Callable[[str], None]
) -> Iterator[str]:
    """Yield the lines of the log of a job's newest selected pod, and then of each next pod, until the job has
    ended or waits for a person.

    ``notice`` is called with the name of each pod, and with what the job waits for. Raises ClientError.
    """
    seen: set[str] | None = None
    noticed, retry = "", Retry(notice)
    while True:
        try:
            job = client.get("FineTuneJob", name)
            pods = _pods_with_logs(client, job, selection)
            is_interrupted = name in client.interrupted([job])
            retry.succeeded()
        except ClusterUnreachableError as error:
            retry.wait(error)
            continue
        if seen is None:
            seen = {uid_of(pod) for pod in pods[:-1]}
        new = [pod for pod in pods if uid_of(pod) not in seen]
        if new:
            notice(f"==> {new[0]['metadata']['name']} <==")
            yield from client.read_log(new[0], follow=True)
            seen.add(uid_of(new[0]))
            continue
        status = status_of(job)
        if is_interrupted or is_at_rest(job) or status.is_held:
            notice(_end(name, f"{status.phase}: {status.message}", is_interrupted=is_interrupted))
            return
        waits_for = f"waiting for a pod{_of(selection)}: {status.phase or 'Pending'}: {status.message}"
        if waits_for != noticed:
            notice(waits_for)
            noticed = waits_for
        time.sleep(POLL_SECONDS)


def _pods_with_logs(client: Client, job: Object, selection: LogSelection) -> list[Object]:
    return [pod for pod in client.list_pods(job) if selection.includes(pod) and has_log(pod)]


def _of(selection: LogSelection) -> str:
    return f" of {selection}" if str(selection) else ""


def _end(name: str, state: str, *, is_interrupted: bool) -> str:
    return f"{name} is interrupted: no process runs it" if is_interrupted else f"{name}  {state}"
