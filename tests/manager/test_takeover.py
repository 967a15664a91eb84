"""Which kinds a new leader lists again before its first decision."""

from typing import Any

from tunegate_operator.engine.reflector import Reflector
from tunegate_operator.manager import FRESH_SECONDS, kinds_to_list


def listed(kind: str, at: float) -> Reflector:
    cluster: Any = None
    reflector = Reflector(cluster, kind, None, lambda: None)
    reflector.listed_at = at
    return reflector


def test_new_process_does_not_repeat_fresh_lists():
    reflectors = [listed(kind, 100.0) for kind in ("Job", "Pod", "ConfigMap")]
    assert kinds_to_list(reflectors, 100 + FRESH_SECONDS) == ["FineTuneJob", "EvalGate"]


def test_process_that_waited_lists_children_first():
    """Its watches may hang on a dead connection and miss the last writes of the earlier leader."""
    reflectors = [listed("ConfigMap", 100.0), listed("Job", 50.0), listed("Job", 100.0), listed("Pod", 99.0)]
    assert kinds_to_list(reflectors, 100 + FRESH_SECONDS) == ["Job", "Pod", "FineTuneJob", "EvalGate"]
