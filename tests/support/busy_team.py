"""A team whose jobs are in different phases, on a real API server with a real operator."""

import itertools

from kubernetes import client

from support.builders import make_gate, make_job
from support.fake_kubelet import Address, FakeKubelet, FakePod
from support.helm import NAMESPACE
from support.operator_command import SERVICE
from support.team import Team
from support.waiting import eventually
from support.world import REGRESSING, Script
from tunegate_api.contract.process import Role
from tunegate_operator.names import JOB_LABEL

SCRIPTS = {
    "refunds": Script(checkpoints={k: v for k, v in REGRESSING.items() if k <= 35}, stops=True),
    "returns": Script(checkpoints={10: 60, 20: 80}),
    "billing": Script(final=80),
    "credits": Script(gate="approved"),
}
HANGING = {("returns", Role.TRAIN), ("checking", Role.DATA)}
"""The jobs and roles whose pods do not end."""
PHASES = {
    "orders": "Succeeded",
    "refunds": "Stopped",
    "returns": "Training",
    "billing": "Failed",
    "checking": "Validating",
    "waiting": "Pending",
    "credits": "AwaitingApproval",
}
SAFETY = {"unsafe": 2, "unsafeDelta": 1, "overRefused": 3}
"""The results of ``billing`` on a safety set."""
_GPU = {"accelerator": "GPU", "gpu": {"count": 1}}


class BusyKubelet(FakeKubelet):
    """Runs the pods of each job by the job's own script."""

    def __init__(self, api: client.ApiClient) -> None:
        super().__init__(api, Address(api, NAMESPACE, SERVICE))

    def script_of(self, pod: FakePod) -> Script:
        return SCRIPTS.get(pod.labels[JOB_LABEL], self._script)

    def run_pod(self, pod: FakePod) -> None:
        if (pod.labels[JOB_LABEL], pod.role) not in HANGING:
            super().run_pod(pod)
            return
        pod.start()
        if pod.role is Role.TRAIN:
            self.train(pod, itertools.count(1))


def start_jobs(team: Team) -> None:
    """Create the jobs of ``PHASES``, and wait until each is in its phase. A ``BusyKubelet`` must be
    running."""
    team.apply_all()
    team.wait_for("Succeeded", seconds=120)
    eventually(lambda: team.gate()["status"].get("publishedRate"), seconds=120, what="the gate's record")
    team.apply(
        make_gate("unread", config_map="none").obj(),
        make_job("waiting").with_gates("none").obj(),
        make_gate("approved").with_spec(approval="WhenPassed").obj(),
        make_job("credits").with_gates("approved").obj(),
        *(make_job(name).with_publish().obj() for name in ("returns", "checking")),
        *(make_job(n).with_publish().with_spec(resources=_GPU).obj() for n in ("refunds", "billing")),
    )
    for name, phase in PHASES.items():
        eventually(lambda n=name, p=phase: team.phase(n) == p, seconds=120, what=f"{name} is {phase}")
    (gate,) = team.job("billing")["status"]["final"]["gates"]
    team.set_status({"final": {"gates": [gate | {"safety": SAFETY}]}}, "billing")
