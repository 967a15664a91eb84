"""The baselines that only the final gate measures, so that only the artifact is compared with them, and the
last published version, of which the final gate reads more than is known before."""

from tunegate_api.contract.published import PublishedVersion
from tunegate_api.contract.request import GateRequest
from tunegate_api.contract.results import Results, Subject, golden_set
from tunegate_api.verdict.outcomes import Baseline


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


def last_published(gate: GateRequest, results: Results, subject: Subject) -> PublishedVersion | None:
    """Return the published version that is the baseline of ``gate`` for ``subject``. Returns None if no
    version was published through the gate.

    Checkpoints are compared with the version that was known when the job started, so that all checkpoints
    have the same baseline. The artifact is compared with the version that was found when the publish targets
    were last read. If none was found, the artifact is compared with the same version as the checkpoints.
    """
    read = results.last_published if subject is Subject.FINAL else None
    return (read.versions.get(gate.name) if read else None) or gate.last_published


def shown_version(last: PublishedVersion) -> str:
    """Return the name of a published version in messages. Empty if the version is not known."""
    name = (last.version or "").rpartition("/")[2]
    return f"{name}, judged again" if last.rejudged else name
