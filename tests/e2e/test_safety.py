"""Of the models of the safety example, only the one that keeps to both limits is published."""

from pathlib import Path

import pytest

from support.node import Node
from support.safety_example import (
    COMPLYING,
    REFUSING,
    TOO_CAREFUL,
    WATCHED,
    check_complying,
    check_refusing,
    check_too_careful,
    check_watched,
    with_watched_job,
)

pytestmark = [pytest.mark.e2e_full, pytest.mark.timeout(6000)]


def test_models_that_got_worse_on_one_axis_fail(node: Node, namespace: str, tmp_path: Path) -> None:
    node.install()
    node.volume(namespace, "tuning")
    models = node.volume(namespace, "models")
    node.kubectl("apply", "-n", namespace, "-f", with_watched_job(tmp_path / "safety"))

    check_refusing(node.ended_job(REFUSING, namespace, seconds=2400)["status"])
    check_complying(node.ended_job(COMPLYING, namespace, seconds=2400)["status"])
    check_too_careful(node.ended_job(TOO_CAREFUL, namespace, seconds=2400)["status"])
    check_watched(node.ended_job(WATCHED, namespace, seconds=2400)["status"])
    assert {path.name for path in models.iterdir()} == {REFUSING}
    assert node.get("evalgate", "three-steps", namespace)["status"]["lastVerdict"] == "Failed"
