"""``kubectl apply -f examples/quickstart/`` on a cluster publishes the same model as on a laptop."""

import os
import re
from pathlib import Path

import pytest

from support.command import Command
from support.helm import ROOT
from support.masking import masked_status
from support.node import Node

pytestmark = [pytest.mark.e2e_full, pytest.mark.timeout(3600)]
QUICKSTART = ROOT / "examples" / "quickstart"
NAME = "order-extractor"


def columns(table: str) -> dict[str, str]:
    """Return the only row of a ``kubectl get`` table as a mapping from column heading to value."""
    heading, line = (re.split(r"\s{2,}", text.strip()) for text in table.strip().splitlines())
    return dict(zip(heading, line, strict=False))


def test_quickstart_has_the_same_status_as_on_a_laptop(node: Node, namespace: str, tmp_path: Path) -> None:
    node.install()
    node.volume(namespace, "tuning")
    models = node.volume(namespace, "models")
    node.kubectl("apply", "-n", namespace, "-f", QUICKSTART)

    job = node.ended_job(NAME, namespace, seconds=1500)
    status = job["status"]
    assert status["phase"] == "Succeeded", status["message"]
    assert [gate["golden"]["total"] for point in status["checkpoints"] for gate in point["gates"]] == [64] * 5
    published = models / status["published"][0]["uri"].removeprefix("pvc://models/")
    assert (published / "adapter_model.safetensors").exists()
    shown = columns(node.kubectl("get", "ftj", NAME, "-n", namespace))
    display = status["display"]
    assert (shown["NAME"], shown["PHASE"], shown["GATE"]) == (NAME, "Succeeded", "Passed")
    assert (shown["GOLDEN"], shown["BEST"]) == (display["golden"], display["best"])
    shown = columns(node.kubectl("get", "eg", "order-golden", "-n", namespace))
    assert (shown["CASES"], shown["VERDICT"]) == ("64", "Passed")
    assert node.get("evalgate", "order-golden", namespace)["status"]["lastVerdict"] == "Passed"

    # Use as many threads as the pods, because their number decides how sums are rounded.
    laptop = Command(tmp_path, {"OMP_NUM_THREADS": str(os.cpu_count())})
    done = laptop("run", str(QUICKSTART), seconds=1500)
    assert done.returncode == 0, done.stdout
    assert masked_status(job) == masked_status(laptop.object(NAME))
