"""The baselines that only the final gate measures, so that only the artifact is compared with them."""

from tunegate_api.contract import GateRequest, Results, Subject, golden_set
from tunegate_api.judging.outcomes import Baseline


def baselines_of_artifact(gate: GateRequest, results: Results) -> dict[str, Baseline]:
    """Return the anchor of a gate and the model that is live now, by the names of these baselines."""
    shown: dict[Subject, str] = {}
    if gate.spec.anchor:
        shown[Subject.ANCHOR] = gate.spec.anchor.uri.rstrip("/").rpartition("/")[2]
    if gate.spec.served:
        shown[Subject.SERVED] = gate.spec.served.model
    name, found = golden_set(gate.name), {}
    for subject, version in shown.items():
        measured = next((e.outcomes[name] for e in results.find(subject) if name in e.outcomes), None)
        problem = next((p[name] for e in results.find(subject) if name in (p := e.problems or {})), "")
        found[str(subject)] = Baseline(gate.golden_sha256, measured, version=version, problem=problem)
    return found
