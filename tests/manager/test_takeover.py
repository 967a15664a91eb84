"""What an operator looks at again before it decides in another's place."""

from typing import Any

from tunegate_operator.engine.reflector import Reflector
from tunegate_operator.manager import FRESH_SECONDS, kinds_to_list


def listed(kind: str, at: float) -> Reflector:
    cluster: Any = None
    reflector = Reflector(cluster, kind, None, lambda: None)
    reflector.listed_at = at
    return reflector


def test_lists_of_a_process_that_just_started_are_not_asked_for_again():
    reflectors = [listed(kind, 100.0) for kind in ("Job", "Pod", "ConfigMap")]
    assert kinds_to_list(reflectors, 100 + FRESH_SECONDS) == ["FineTuneJob", "EvalGate"]


def test_one_that_waited_lists_children_first():
    """Its watches may hang on a server that is gone, and show what was before the other's last steps."""
    reflectors = [listed("ConfigMap", 100.0), listed("Job", 50.0), listed("Job", 100.0), listed("Pod", 99.0)]
    assert kinds_to_list(reflectors, 100 + FRESH_SECONDS) == ["Job", "Pod", "FineTuneJob", "EvalGate"]
