"""The kinds that a new leader lists again before its first decision."""

from typing import Any

from tunegate_operator.engine.reflector import Reflector
from tunegate_operator.manager import FRESH_SECONDS, kinds_to_list


def listed(kind: str, at: float) -> Reflector:
    cluster: Any = None
    reflector = Reflector(cluster, kind, None, lambda: None)
    reflector.listed_at = at
    return reflector


def test_takeover_does_not_relist_children_that_were_just_listed():
    reflectors = [listed(kind, 100.0) for kind in ("Job", "Pod", "ConfigMap")]
    assert kinds_to_list(reflectors, 100 + FRESH_SECONDS) == ["FineTuneJob", "EvalGate"]


def test_takeover_first_relists_kinds_that_were_not_listed_recently():
    """The watches of a process that waited to lead may hang on a dead connection, and so miss the last writes
    of the previous leader."""
    reflectors = [listed("ConfigMap", 100.0), listed("Job", 50.0), listed("Job", 100.0), listed("Pod", 99.0)]
    assert kinds_to_list(reflectors, 100 + FRESH_SECONDS) == ["Job", "Pod", "FineTuneJob", "EvalGate"]
