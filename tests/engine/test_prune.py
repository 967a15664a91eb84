"""Pruning limits the size of an object, whatever a user wrote into it."""

from typing import Any

import pytest

from support.manifests import changed, evalgate, finetunejob
from tunegate_api.validation.problems import find_problems
from tunegate_api.validation.spec_size import MAX_SPEC_BYTES
from tunegate_operator.engine.cluster import Object
from tunegate_operator.engine.objects import write_json
from tunegate_operator.engine.prune import MAX_ANNOTATION, MAX_STATUS, prune
from tunegate_operator.names import CONTINUE_ANNOTATION, DISCARD_ANNOTATION, FILES_FINALIZER

MB = 1_000_000
TEXT = "x" * MB
LONG = {"x": TEXT}
FREE_FORM = [
    {"spec.podTemplate.affinity": {"nodeAffinity": LONG}},
    {"spec.podTemplate.tolerations.0": LONG},
    {"spec.podTemplate.env.0.valueFrom": LONG},
    {"spec.podTemplate.volumes.0.configMap": LONG},
    {"spec.podTemplate.annotations": {"example.com/note": TEXT}},
    {"spec.taskMetrics.0.schema.inline": {"title": TEXT}},
    {"spec.unknown": LONG},
]
GOLDEN = {"spec.sets.0.sha256": None, "spec.sets.0.source": {"inline": [{"id": "one", "prompt": TEXT}]}}
SAFETY = {
    "spec.sets.1": {
        "name": "safety",
        "kind": "Safety",
        "source": {"inline": [{"id": "one", "prompt": TEXT}]},
    }
}


def size(obj: Object) -> int:
    return len(write_json(obj))


def pruned(obj: Object) -> Object:
    small, text = prune(obj)
    assert text == write_json(small)
    return small


def test_only_finalizers_that_decisions_read_are_cached() -> None:
    job = finetunejob()
    known = ["foregroundDeletion", FILES_FINALIZER]
    job["metadata"]["finalizers"] = [f"example.com/{TEXT}", *known[::-1] * 1000]
    held = pruned(job)
    assert held["metadata"]["finalizers"] == known
    assert "finalizers" not in pruned(finetunejob())["metadata"]


@pytest.mark.parametrize(
    "manifest",
    [
        *(changed(finetunejob(), changes) for changes in FREE_FORM),
        changed(evalgate(), GOLDEN),
        changed(evalgate(), SAFETY),
    ],
    ids=[
        *(next(iter(changes)) for changes in FREE_FORM),
        "golden.source.inline",
        "safety.source.inline",
    ],
)
def test_oversized_spec_is_not_cached_but_reported_as_a_problem(manifest: Object) -> None:
    held = pruned(manifest)
    assert size(held) < 1024
    (problem,) = find_problems(manifest)
    assert problem.where == "spec"
    assert "larger than" in problem.message
    assert find_problems(held) == [problem]


@pytest.mark.parametrize("manifest", [finetunejob(), evalgate()], ids=["FineTuneJob", "EvalGate"])
def test_spec_is_kept_up_to_the_size_limit(manifest: Object) -> None:
    def with_bytes(total: int) -> Object:
        rest = size(changed(manifest, {"spec.note": ""})["spec"])
        return changed(manifest, {"spec.note": "x" * (total - rest)})

    limit = MAX_SPEC_BYTES[manifest["kind"]]
    assert pruned(with_bytes(limit)) == with_bytes(limit)
    assert pruned(with_bytes(limit + 1))["spec"] != with_bytes(limit + 1)["spec"]


@pytest.mark.parametrize("name", [CONTINUE_ANNOTATION, DISCARD_ANNOTATION])
def test_long_annotation_is_replaced_by_an_empty_text(name: str) -> None:
    def annotated(text: str) -> Object:
        return changed(finetunejob(), {"metadata.annotations": {name: text}})

    short = annotated("x" * (MAX_ANNOTATION - 2))
    assert pruned(short) == short
    assert pruned(annotated("x" * (MAX_ANNOTATION - 1))) == annotated("")


@pytest.mark.parametrize("kind", ["FineTuneJob", "EvalGate", "Job", "Pod"])
def test_oversized_status_is_dropped(kind: str) -> None:
    def reporting(message: str) -> dict[str, Any]:
        metadata = {"name": "orders", "namespace": "default"}
        return {"apiVersion": "v1", "kind": kind, "metadata": metadata, "status": {"message": message}}

    assert pruned(reporting("x")) == reporting("x")
    assert size(pruned(reporting("x" * MAX_STATUS))) < 1024
