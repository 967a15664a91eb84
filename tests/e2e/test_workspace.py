"""A job cannot publish into the files of another job on the same claim, and its pods cannot write there."""

import re
from pathlib import Path

import pytest

from support.node import Node
from support.tiny_job import LONG, TinyJob
from tunegate_api.contract.workspace import Workspace

pytestmark = [pytest.mark.e2e, pytest.mark.timeout(1800)]
REFUSED = "the path must not lead into the folder tunegate of a claim"


def writable(pid: int) -> set[str]:
    """Return the folders below /tunegate that a process can write to, from its mounts."""
    lines = [line.split() for line in Path(f"/proc/{pid}/mountinfo").read_text().splitlines()]
    mounts = {fields[4]: fields[5].split(",") for fields in lines}
    return {path for path, options in mounts.items() if path.startswith("/tunegate/") and "rw" in options}


def test_publishing_into_the_files_of_another_job_is_refused(node: Node, namespace: str) -> None:
    node.install()
    victim = TinyJob(node, namespace)
    victim.apply(LONG, publish=[{"uri": "pvc://tuning/published"}])
    victim.wait_for_checkpoints(1)
    uid = victim.get()["metadata"]["uid"]
    (model,) = (path for path in (victim.storage / Workspace.models).iterdir() if path.name[0] != ".")

    attacker = TinyJob(node, namespace, "step-1")
    for path in (Workspace(uid).stage("sft"), Workspace.base_model(model.name), Path("TuneGate", "jobs")):
        with pytest.raises(AssertionError, match=re.escape(REFUSED)):
            attacker.apply(publish=[{"uri": f"pvc://tuning/{path}"}])
    assert writable(victim.process("train").pid) == {
        f"/tunegate/workspace/{Workspace(uid).job}",
        f"/tunegate/workspace/{Workspace.baselines}",
        "/tunegate/termination.json",
    }

    (victim.storage / "link").symlink_to(
        Workspace(uid).stage("sft")
    )  # by somebody who may write to the claim
    attacker.apply(publish=[{"uri": "pvc://tuning/link"}])
    status = attacker.ended()
    assert (status["phase"], status["failure"]["reason"]) == ("Failed", "UserError"), status["message"]
    assert "where Tunegate keeps the files of jobs" in status["failure"]["message"]

    ended = victim.ended()
    assert ended["phase"] == "Succeeded", ended["message"]
    assert ended["published"][0]["uri"].startswith("pvc://tuning/published/")
