"""The ranks of a node verify the files of a model once, together."""

import json
from pathlib import Path
from typing import Any

import pytest

from support.rank_pods import Pods
from support.trainer_root import TrainerRoot, dpo_plan
from tunegate_api.contract.process import NODE_VARIABLE, ExitCode
from tunegate_api.v1alpha2.reasons import Reason
from tunegate_trainer.distributed.topology import LOCAL_RANK_VARIABLE

pytestmark = [pytest.mark.timeout(600), pytest.mark.usefixtures("warm_roles")]

BASE = "models/"
WITHOUT_DROPOUT = {"lora_dropout": 0.0}


def recording(file: Path) -> str:
    """Return code that appends the rank and the path of each file that is hashed to ``file``."""
    return f"""
import json, os
from tunegate_trainer.process import files
sha256_file = files.sha256_file

def recorded(path):
    rank = int(os.environ["RANK"]) if "RANK" in os.environ else None
    with open({str(file)!r}, "a") as file:
        file.write(json.dumps([rank, str(path)]) + "\\n")
    return sha256_file(path)

files.sha256_file = recorded
"""


def hashed(file: Path, part: str) -> list[tuple[int, str]]:
    """Return the rank and the name of each hashed file of weights whose path contains ``part``, in order."""
    found = [json.loads(line) for line in file.read_text().splitlines()]
    return sorted(
        (rank, Path(path).name) for rank, path in found if part in path and path.endswith(".safetensors")
    )


@pytest.mark.parametrize(
    ("number", "ranks"),
    [
        pytest.param(LOCAL_RANK_VARIABLE, [0], id="one node"),
        pytest.param(NODE_VARIABLE, [0, 1], id="two nodes"),
    ],
)
def test_base_model_is_hashed_once_per_node(make_distributed_root, tmp_path, number, ranks):
    root, log = make_distributed_root(parameters=WITHOUT_DROPOUT), tmp_path / "hashed"
    assert Pods(root, before=recording(log), number=number).end() == [ExitCode.OK] * 2
    assert hashed(log, BASE) == [(rank, "model.safetensors") for rank in ranks]


@pytest.mark.slow
def test_checkpoint_of_the_previous_stage_is_hashed_once_per_node(make_distributed_root, tmp_path):
    root = make_distributed_root(parameters=WITHOUT_DROPOUT, later=[dpo_plan()])
    assert Pods(root, number=LOCAL_RANK_VARIABLE).end() == [ExitCode.OK] * 2
    log = tmp_path / "hashed"
    pods = Pods(root, "--start-step", "6", stage="dpo", before=recording(log), number=LOCAL_RANK_VARIABLE)
    assert pods.end() == [ExitCode.OK] * 2
    assert hashed(log, "stages/sft/step-000006") == [(0, "adapter_model.safetensors")]


def tamper(root: TrainerRoot) -> None:
    weights = root.base_model / "model.safetensors"
    damaged = bytearray(weights.read_bytes())
    damaged[-1] ^= 1
    weights.write_bytes(damaged)


@pytest.mark.parametrize("number", [LOCAL_RANK_VARIABLE, NODE_VARIABLE], ids=["one node", "two nodes"])
def test_tampered_base_model_ends_all_ranks_with_the_same_failure(make_distributed_root, number):
    root: Any = make_distributed_root(parameters=WITHOUT_DROPOUT)
    tamper(root)
    pods = Pods(root, number=number)
    assert pods.end() == [ExitCode.STORAGE] * 2
    failures = [pods.termination(node).failure for node in range(2)]
    assert [failure and failure.reason for failure in failures] == [Reason.STORAGE] * 2
    assert all("model.safetensors does not match its digest" in str(failure) for failure in failures)
    assert all("create the job again" in str(failure) for failure in failures)
