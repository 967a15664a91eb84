"""Graders of gates, and the set of answers that people scored."""

from collections.abc import Mapping
from typing import Any

AGREEMENT = {"set": "people", "minRecall": "70%", "minSpecificity": "80%"}
PEOPLE: dict[str, Any] = {
    "name": "people",
    "kind": "Agreement",
    "source": {"configMap": "scored"},
    "sha256": "a" * 64,
}
JUDGE: dict[str, Any] = {
    "name": "judge",
    "type": "Model",
    "endpoint": {"url": "https://judge.internal/v1", "model": "judge-7b"},
    "agreement": AGREEMENT,
}
GUARDRAIL: dict[str, Any] = {
    "name": "guard",
    "type": "Guardrail",
    "endpoint": {"url": "https://guard.internal/v1", "model": "guard"},
    "protocol": "LlamaGuard",
}
REVIEW: dict[str, Any] = {"grader": {"gate": "golden", "name": "judge"}}
"""``data.quality`` with the judge of the gate ``golden``."""


def safety_judge(endpoint: Mapping[str, Any]) -> dict[str, Any]:
    """Return a grader that decides whether answers comply with the requests of a safety set."""
    return {"name": "compliance", "type": "Model", "endpoint": endpoint}


def with_graders(
    spec: dict[str, Any], *graders: dict[str, Any] | None, people: Mapping[str, Any] = PEOPLE
) -> dict[str, Any]:
    """Return the spec of a gate with these graders, except None, and with the set of answers that people
    scored if one of them needs it."""
    given = [grader for grader in graders if grader]
    needed = [people] if any("agreement" in grader for grader in given) else []
    return spec | {"graders": given, "sets": [*spec["sets"], *needed]}
