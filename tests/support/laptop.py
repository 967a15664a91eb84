"""A LocalCluster with a FineTuneJob whose Jobs run the tiny trainer."""

import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeVar

from support.waiting import eventually
from tunegate_client.laptop.cluster import LocalCluster
from tunegate_operator.children import pod_status
from tunegate_operator.engine.cluster import Key, Object
from tunegate_operator.engine.objects import uid_of
from tunegate_operator.engine.owners import owner_reference

_Result = TypeVar("_Result")

TINY_TRAINER = [sys.executable, "-S", "-E", str(Path(__file__).with_name("tiny_trainer.py"))]
IGNORE_DISRUPTION = {"action": "Ignore", "onPodConditions": [{"type": "DisruptionTarget", "status": "True"}]}
FAIL_ON_10 = {"action": "FailJob", "onExitCodes": {"operator": "In", "values": [10, 11]}}


class Laptop:
    """A folder and the process that has locked it. :meth:`reopen` simulates a restart of the process."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self.volume = root / "volumes" / "runs"
        self.reports: list[Object] = []
        self.cluster = self._open()
        self.owner = self.cluster.get(Key("FineTuneJob", "default", "demo")) or self.cluster.create(
            {
                "apiVersion": "tunegate.dev/v1alpha2",
                "kind": "FineTuneJob",
                "metadata": {"name": "demo"},
                "spec": {},
            }
        )

    def _open(self) -> LocalCluster:
        cluster = LocalCluster(
            self.root / "state", lambda claim: self.root / "volumes" / claim, retry_seconds=0.01
        )
        cluster.watch_reports(self.reports.append)
        return cluster

    def reopen(self) -> None:
        """Simulate that the process was killed and another process started. Pods keep running."""
        self.cluster.close()
        self.cluster = self._open()

    def create_job(self, *args: str, name: str = "train", pod: Object | None = None, **spec: Any) -> Object:
        """Create a Job that runs ``tiny_trainer.py *args``. ``pod`` is merged into its pod's spec."""
        container: Object = {
            "name": "trainer",
            "command": TINY_TRAINER,
            "args": list(args),
            "env": [{"name": "OWNER_UID", "value": uid_of(self.owner)}],
            "terminationMessagePath": "/tunegate/termination.json",
            "terminationMessagePolicy": "FallbackToLogsOnError",
            "volumeMounts": [{"name": "workspace", "mountPath": "/tunegate/workspace"}],
        }
        template: Object = {
            "restartPolicy": "Never",
            "terminationGracePeriodSeconds": 30,
            "containers": [container],
            "volumes": [{"name": "workspace", "persistentVolumeClaim": {"claimName": "runs"}}],
            **(pod or {}),
        }
        return self.cluster.create(
            {
                "apiVersion": "batch/v1",
                "kind": "Job",
                "metadata": {"name": name, "ownerReferences": [owner_reference(self.owner)]},
                "spec": {
                    "backoffLimit": 0,
                    "podFailurePolicy": {"rules": [IGNORE_DISRUPTION, FAIL_ON_10]},
                    "template": {"metadata": {"labels": {"role": "train"}}, "spec": template},
                    **spec,
                },
            }
        )

    def until(self, look: Callable[[], _Result | None], what: str = "") -> _Result:
        """Call the cluster's ``step`` until ``look`` returns a true value."""

        def step_and_look() -> _Result | None:
            self.cluster.step()
            return look()

        return eventually(step_and_look, what=what)

    def job(self, name: str = "train") -> Object:
        job = self.cluster.get(Key("Job", "default", name))
        assert job is not None
        return job

    def pods(self) -> list[Object]:
        return self.cluster.list_objects("Pod")

    def pod(self) -> Object:
        (pod,) = self.pods()
        return pod

    def is_training(self) -> bool:
        """Return whether a pod runs and has sent its first report."""
        runs = any(pod_status.phase(pod) == "Running" for pod in self.pods())
        return runs and self.starts() != [] and self.reports != []

    def starts(self) -> list[int]:
        """Return the process ids of all trainers that started so far."""
        try:
            return [int(line) for line in (self.volume / "starts").read_text().split()]
        except FileNotFoundError:
            return []

    def until_training(self) -> int:
        """Step until a trainer trains. Returns its process id."""
        self.until(self.is_training, "a pod trains")
        return self.starts()[-1]

    def until_finished(self, name: str = "train") -> Object:
        """Step until the Job has a final condition. Returns that condition."""
        return self.until(lambda: final_condition(self.job(name)), f"Job {name} is finished")


def final_condition(job: Object) -> Object | None:
    """Return the Job's condition Complete or Failed, or None."""
    conditions = job.get("status", {}).get("conditions", ())
    return next((c for c in conditions if c["type"] in ("Complete", "Failed")), None)


def terminated(pod: Object) -> Object:
    """Return the terminated state of the pod's container."""
    state: Object = pod["status"]["containerStatuses"][0]["state"]["terminated"]
    return state
