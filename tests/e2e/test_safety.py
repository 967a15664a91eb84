"""Of the models of the safety example, only the one that keeps to both limits is published."""

import pytest

from support.node import Node
from support.safety_example import (
    COMPLYING,
    EXAMPLE,
    REFUSING,
    TOO_CAREFUL,
    check_complying,
    check_refusing,
    check_too_careful,
)

pytestmark = [pytest.mark.e2e_full, pytest.mark.timeout(6000)]


def test_models_that_got_worse_on_one_axis_fail(node: Node, namespace: str) -> None:
    node.install()
    node.volume(namespace, "tuning")
    models = node.volume(namespace, "models")
    node.kubectl("apply", "-n", namespace, "-f", EXAMPLE)

    check_refusing(node.ended_job(REFUSING, namespace, seconds=2400)["status"])
    check_complying(node.ended_job(COMPLYING, namespace, seconds=2400)["status"])
    check_too_careful(node.ended_job(TOO_CAREFUL, namespace, seconds=2400)["status"])
    assert {path.name for path in models.iterdir()} == {REFUSING}
    assert node.get("evalgate", "three-steps", namespace)["status"]["lastVerdict"] == "Failed"
