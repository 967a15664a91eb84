"""The baselines of a gate: what is known about each entry of ``compareWith``.

:data:`COMPARED` has a function for each type, which returns the outcomes that a model is compared with.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass

from tunegate_api.contract.published import PublishedVersion
from tunegate_api.contract.request import GateRequest, Request
from tunegate_api.contract.results import Evaluation, Results, Subject, golden_set
from tunegate_api.v1alpha2.compared import ComparedSubject, ComparedType
from tunegate_api.verdict.outcomes import Baseline


@dataclass(frozen=True)
class ComparedResults:
    """What is known when a model is judged by a gate."""

    gate: GateRequest
    request: Request
    results: Results
    subject: Subject
    """The model that is judged."""

    @property
    def is_final(self) -> bool:
        return self.subject is Subject.FINAL


def baselines_of(known: ComparedResults) -> tuple[dict[str, Baseline], list[str]]:
    """Return the baselines of a gate by their types, and the types that are skipped, for example because no
    version was published. The order is that of :data:`COMPARED`, whatever order the gate has."""
    named = {each.type: each for each in known.gate.spec.compare_with}
    found = {type_: of(known, named[type_]) for type_, of in COMPARED.items() if type_ in named}
    baselines: dict[str, Baseline] = {type_: each for type_, each in found.items() if each}
    return baselines, [type_ for type_ in found if type_ not in baselines]


def base_evaluation(request: Request, results: Results, name: str, subject: Subject) -> Evaluation | None:
    """Return the evaluation of the base model that is the baseline for ``subject`` on the set ``name``.
    Returns None if the base model was not evaluated on this set.

    The base model may have been evaluated twice: by the first stage, as its starting model, and by the final
    gate. A checkpoint is compared with the evaluation by the first stage, and an artifact with the evaluation
    by the final gate, because the two may load the base model in different data types. If the preferred
    evaluation does not include the set, the other evaluation is used.
    """
    trained = results.find(Subject.START, request.spec.stages[0].name)
    judged = results.find(Subject.BASE)
    measured = judged + trained if subject is Subject.FINAL else trained + judged
    return next((e for e in measured if name in e.outcomes), None)


def _base_model(known: ComparedResults, _: ComparedSubject) -> Baseline | None:
    name = golden_set(known.gate.name)
    base = base_evaluation(known.request, known.results, name, known.subject)
    return Baseline(known.gate.golden_sha256, base.outcomes[name] if base else None)


def _last_published(known: ComparedResults, _: ComparedSubject) -> Baseline | None:
    """Return the published version that is the baseline of a gate.

    Checkpoints are compared with the version that was known when the job started, so that all checkpoints
    have the same baseline. The artifact is compared with the version that was found when the publish targets
    were last read. If none was found, the artifact is compared with the same version as the checkpoints.
    """
    gate, is_final = known.gate, known.is_final
    read = known.results.last_published if is_final else None
    last = (read.versions.get(gate.name) if read else None) or gate.last_published
    bar = gate.bar if is_final else gate.checkpoint_bar
    if last is None or (bar.sealed and not last.by_case):
        # If only the number of passed cases is known, that of the open cases is not.
        return None
    return Baseline(
        last.golden_sha256,
        last.outcomes,
        by_case=last.by_case,
        by_case_later=not is_final,
        version=_shown_version(last),
        problem=last.problem or "",
    )


def _shown_version(last: PublishedVersion) -> str:
    """Return the name of a published version in messages. Empty if the version is not known."""
    name = (last.version or "").rpartition("/")[2]
    return f"{name}, judged again" if last.rejudged else name


def _measured_by_gate(known: ComparedResults, compared: ComparedSubject) -> Baseline | None:
    """Return the outcomes of a model that the final gate measures, whose evaluations have the type as their
    subject. Only the artifact is compared with it."""
    if not known.is_final:
        return None
    name, evaluations = golden_set(known.gate.name), known.results.find(Subject(compared.type))
    measured = next((e.outcomes[name] for e in evaluations if name in e.outcomes), None)
    problem = next((p[name] for e in evaluations if name in (p := e.problems or {})), "")
    return Baseline(known.gate.golden_sha256, measured, version=compared.shown, problem=problem)


COMPARED: Mapping[ComparedType, Callable[[ComparedResults, ComparedSubject], Baseline | None]] = {
    "BaseModel": _base_model,
    "LastPublished": _last_published,
    "Version": _measured_by_gate,
    "Endpoint": _measured_by_gate,
}
"""Maps each type in ``compareWith`` to a function that returns the outcomes of this model. The function
returns None if the judged model is not compared with it."""
