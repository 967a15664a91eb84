"""What a user sees with kubectl: the commands and the table in docs/status.md.

The statuses are those that the operator writes in a fake cluster.
"""

import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from kubernetes import client

from support.builders import make_gate, make_job
from support.kubectl import Kubectl
from support.team import GROUP, Team
from support.world import REGRESSING, Script, World

pytestmark = pytest.mark.cluster

PAGE = (Path(__file__).parents[2] / "docs" / "status.md").read_text()
SECTION = PAGE.split("## Wait for a result with kubectl", 1)[1].split("\n## ", 1)[0]
Play = Callable[[World], None]
JOB = make_job().with_publish().obj()


def trains(world: World) -> None:
    world.apply_all(JOB)
    world.until_checkpoint()
    world.tick()
    world.settle()


def waits_for_a_gpu(world: World) -> None:
    world.apply_all(JOB)
    world.until_job("train")
    (job,) = world.active_jobs()
    message = "0/3 nodes are available: 3 Insufficient nvidia.com/gpu"
    condition = {"type": "PodScheduled", "status": "False", "reason": "Unschedulable", "message": message}
    world.cluster.pending_pod(job["metadata"]["name"], status={"phase": "Pending", "conditions": [condition]})
    world.settle()


def waits_for_a_gate(world: World) -> None:
    world.apply(JOB)
    world.settle()


def is_suspended(world: World) -> None:
    trains(world)
    world.edit(suspend=True)
    world.run()


def runs(world: World) -> None:
    world.apply_all(JOB)
    world.run()


JOBS: dict[str, tuple[Play, Script]] = {
    "trains": (trains, Script()),
    "waits": (waits_for_a_gpu, Script()),
    "no-gate": (waits_for_a_gate, Script()),
    "suspended": (is_suspended, Script()),
    "stopped": (runs, Script(checkpoints=REGRESSING)),
    "succeeded": (runs, Script()),
    "failed": (runs, Script(final=79)),
}
"""Jobs in the states that the documented commands distinguish."""


@pytest.fixture(scope="module")
def worlds() -> dict[str, World]:
    found = {}
    for name, (play, script) in JOBS.items():
        found[name] = world = World(script)
        play(world)
    return found


@pytest.fixture
def kubectl(server, team: Team, worlds: dict[str, World], tmp_path: Path) -> Kubectl:
    """kubectl in a namespace with all jobs, and with a gate for each of them."""
    custom = client.CustomObjectsApi(team.api)
    for name, world in worlds.items():
        team.apply(make_job(name).with_publish().obj(), make_gate(name).obj())
        found = [("finetunejobs", world.job())]
        found += [("evalgates", gate) for gate in world.cluster.as_user.list_objects("EvalGate")]
        for plural, obj in found:
            status = {"status": obj["status"]}
            custom.patch_namespaced_custom_object_status(*GROUP, team.namespace, plural, name, status)
    return Kubectl(tmp_path, server.kubeconfig, team.namespace)


ENDS_FOR = {
    "condition=Ready": {"succeeded"},
    "condition=Failed": {"failed"},
    "condition=Failed=False": {"succeeded"},
    "condition=Stalled": {"failed", "stopped"},
    "jsonpath='{.status.phase}'=Suspended": {"suspended"},
    "jsonpath='{.status.completionTime}'": {"succeeded", "failed"},
    "condition=GatePassed": {"succeeded"},
    "condition=GatePassed=False": {"failed", "stopped"},
    "jsonpath='{.status.lastVerdict}'=Passed": {"succeeded"},
}
"""The jobs for which each documented command ends. The last command names a gate."""


def test_every_documented_wait_ends_for_the_jobs_it_names(kubectl: Kubectl) -> None:
    (block,) = re.findall(r"```sh\n(.*?)```", SECTION, re.DOTALL)
    commands = [line.split("#")[0].strip() for line in block.splitlines()]
    assert [command.partition("--for=")[2] for command in commands] == list(ENDS_FOR)
    for command, expected in zip(commands, ENDS_FOR.values(), strict=True):
        checked_once = command.replace("--timeout=24h", "--timeout=0")
        ended = {
            name
            for name in JOBS
            if kubectl.shell(re.sub(r"\b(NAME|GATE)\b", name, checked_once)).returncode == 0
        }
        assert ended == expected, command


@pytest.mark.parametrize(
    ("name", "code"), [("succeeded", 0), ("failed", 1), ("stopped", 1), ("suspended", 1)]
)
def test_documented_script_ends_with_the_result_of_a_job(kubectl: Kubectl, name: str, code: int) -> None:
    (script,) = re.findall(r"```bash\n(.*?)```", SECTION, re.DOTALL)
    done = kubectl.shell(script.replace("NAME", name))
    assert done.returncode == code, done.stderr


def rows(table: str) -> dict[str, dict[str, str]]:
    """Return the cells of a table by the name of the object and the column."""
    heading, *lines = table.splitlines()
    starts = [match.start() for match in re.finditer(r"\S+", heading)]
    spans = list(zip(starts, [*starts[1:], None], strict=True))
    cells = [[line[a:b].strip() for a, b in spans] for line in lines]
    names = heading.split()
    return {name: dict(zip(names[1:], rest, strict=True)) for name, *rest in cells}


def test_kubectl_get_shows_each_jobs_state_and_next_action(kubectl: Kubectl) -> None:
    done = kubectl("get", "ftj")
    found = rows(done.stdout)
    columns = ("PHASE", "PROGRESS", "BASE", "GOLDEN", "BEST", "GATE", "NEXT")
    assert {name: tuple(row[column] for column in columns) for name, row in found.items()} == {
        "trains": ("Training", "40%", "0.10", "0.80", "step 20 (0.80)", "Pending", ""),
        "waits": ("Queued", "", "", "", "", "Pending", "wait: PodUnschedulable"),
        "no-gate": ("Pending", "", "", "", "", "Pending", "fix: GateNotFound"),
        "suspended": (
            "Suspended",
            "40%",
            "0.10",
            "0.80",
            "step 20 (0.80)",
            "Pending",
            "resume: set suspend to false",
        ),
        "stopped": (
            "Stopped",
            "70%",
            "0.10",
            "0.85",
            "step 20 (0.95)",
            "Failed",
            "decide: continue or discard",
        ),
        "succeeded": ("Succeeded", "100%", "0.10", "0.94", "step 40 (0.94)", "Passed", ""),
        "failed": ("Failed", "100%", "0.10", "0.79", "step 40 (0.94)", "Failed", "fix: GateFailed"),
    }
    wide = rows(kubectl("get", "ftj", "--output=wide").stdout)["succeeded"]
    assert (wide["MODEL"], wide["PUBLISHED"][:20]) == ("package://tiny", "pvc://models/orders/")
    assert wide["MESSAGE"].startswith("passed (golden 0.94)")


def test_kubectl_get_shows_whether_a_gate_is_ready(kubectl: Kubectl, team: Team) -> None:
    world = World()
    world.apply(make_gate().obj())
    world.settle()
    team.apply(make_gate("missing").obj())
    status: dict[str, Any] = {"status": world.gate()["status"]}
    client.CustomObjectsApi(team.api).patch_namespaced_custom_object_status(
        *GROUP, team.namespace, "evalgates", "missing", status
    )
    found = rows(kubectl("get", "eg", "--output=wide").stdout)
    shown = {name: (row["READY"], row["VERDICT"], row["PASSRATE"]) for name, row in found.items()}
    assert shown["missing"] == ("False", "", "")
    assert shown["succeeded"] == ("True", "Passed", "0.94")
    assert "ConfigMap cases" in found["missing"]["MESSAGE"]
