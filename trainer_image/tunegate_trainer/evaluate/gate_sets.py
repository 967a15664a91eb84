"""Read the golden sets and the safety sets of gates, and prepare their cases."""

import json
from collections.abc import Callable, Sequence
from typing import Any

from transformers import PreTrainedTokenizerBase

from tunegate_api.cases.case_lines import CaseSetError, CaseT, parse_cases, written_text
from tunegate_api.cases.golden import case_set
from tunegate_api.contract.digests import sha256_text
from tunegate_api.contract.request import GateRequest, GenerationSettings
from tunegate_api.contract.results import golden_set
from tunegate_api.contract.workspace import golden_file, safety_file
from tunegate_api.meta import Sha256
from tunegate_api.v1alpha2.case_source import CaseSource, SetName
from tunegate_api.v1alpha2.evalgate import EvalGateSpec
from tunegate_api.verdict.safety import safety_set
from tunegate_trainer.evaluate.config_map_files import NO_FILE, config_map_file
from tunegate_trainer.evaluate.expected import Expectations
from tunegate_trainer.evaluate.sets import GOLDEN, SAFETY, Case, GeneratedSet, shown_prompt
from tunegate_trainer.process.context import Context
from tunegate_trainer.process.errors import BadDataError, SourceNotFoundError, UserError, unreadable
from tunegate_trainer.tokens.chat import render

CHANGE: dict[SetName, str] = {
    "golden": "a golden set is immutable: put changed cases into a new file or ConfigMap, and a new EvalGate",
    "safety": "put changed cases into a new file or ConfigMap, and set source and sha256 of the safety "
    "set in the EvalGate",
}
"""How a user changes a set."""
_NAMES = {GOLDEN: golden_set, SAFETY: safety_set}
_FILES = {GOLDEN: golden_file, SAFETY: safety_file}


def set_text(context: Context, gate: str, spec: EvalGateSpec, name: SetName) -> str:
    """Read the text of a gate's golden set or safety set. If the set is at an address, read its copy on the
    storage volume, which :func:`~tunegate_trainer.evaluate.stored_sets.store_sets` makes.

    Raises :class:`SourceNotFoundError` if the file does not exist, :class:`BadDataError` if it is not UTF-8,
    and :class:`UserError` if permission to read it is denied.
    """
    part = spec.case_sets[name]
    source = part.source
    written = written_text(source)
    if written is not None:
        return written
    if source.config_map is not None:
        field = f"EvalGate {gate}: spec.sets[{part.name}].source"
        path = config_map_file(context.root, field, source.config_map, source.key)
    else:
        path = context.workspace / context.paths.case_set(name, gate)
    shown = path.relative_to(context.root)
    try:
        return path.read_bytes().decode()
    except NO_FILE as error:
        raise SourceNotFoundError(
            f"EvalGate {gate}: there is no {name} set at {shown}",
            f"check spec.sets[{part.name}].source of the EvalGate",
        ) from error
    except PermissionError as error:
        raise unreadable(f"EvalGate {gate}: the {name} set at {shown}") from error
    except UnicodeDecodeError as error:
        raise BadDataError(
            f"EvalGate {gate}: the {name} set is not UTF-8 at byte {error.start}", "save the file as UTF-8"
        ) from error


def set_digest(gate: GateRequest, name: SetName) -> Sha256:
    """Return the digest that a set has in the job's request."""
    return gate.golden_sha256 if name == GOLDEN else gate.safety_sha256 or ""


def read_set(context: Context, gate: GateRequest, kind: type[CaseT]) -> list[CaseT]:
    """Return the cases of a gate's golden set or safety set.

    Raises :class:`BadDataError` with the line of an invalid case, or if the set does not have the digest in
    the job's request, and the errors of :func:`set_text`.
    """
    text = set_text(context, gate.name, gate.spec, kind.SET)
    found, wanted = sha256_text(text), set_digest(gate, kind.SET)
    if found != wanted:
        raise BadDataError(
            f"EvalGate {gate.name}: the {kind.SET} set has sha256 {found}, but the job was started with "
            f"{wanted}",
            _how_to_fix(gate.spec.case_sets[kind.SET].source, kind.SET),
        )
    try:
        return parse_cases(text, kind)
    except CaseSetError as error:
        hint = "correct these cases" + (" in a new EvalGate" if kind.SET == GOLDEN else "")
        raise BadDataError(f"EvalGate {gate.name}: {kind.SET} set: {error}", hint) from error


def _how_to_fix(source: CaseSource, name: SetName) -> str:
    """Return what to do if a set has another digest than the one that the job was started with."""
    if source.config_map is not None:
        return CHANGE[name]
    if source.uri is not None:
        return "the copy of the set on the storage volume is damaged: create the job again"
    return "use the same release of Tunegate for the operator and the trainer image"


def read_sets(context: Context, gates: Sequence[GateRequest], kind: type[CaseT]) -> dict[str, list[CaseT]]:
    """Return the cases of the gates that have such a set, by the names of the gates. Gates in a dry run whose
    cases cannot be read are left out. Raises the errors of :func:`read_set`."""
    found = {}
    for gate in gates:
        if kind.SET in gate.spec.case_sets:
            with context.tolerating(gate):
                found[gate.name] = read_set(context, gate, kind)
    return found


def generated_set(
    tokenizer: PreTrainedTokenizerBase,
    gate: GateRequest,
    cases: Sequence[CaseT],
    expected: Callable[[CaseT], Expectations],
    *,
    settings: Sequence[Any],
    generation: GenerationSettings,
) -> GeneratedSet:
    """Return the cases of a gate's golden set or safety set, with rendered prompts, and what is ``expected``
    of each output. ``settings`` has everything besides the cases that scores depend on.

    Raises :class:`UserError` with the name of the case if the chat template refuses it.
    """
    name = cases[0].SET
    digest = set_digest(gate, name)
    return GeneratedSet(
        file=_FILES[name](gate.name),
        identity=sha256_text(json.dumps([digest, settings], sort_keys=True)) if settings else digest,
        generation=generation,
        cases=[_prepared(tokenizer, gate.name, case, expected) for case in cases],
        names={name: _NAMES[name](gate.name)},
        case_set=case_set(cases, digest),
    )


def _prepared(
    tokenizer: PreTrainedTokenizerBase, gate: str, case: CaseT, expected: Callable[[CaseT], Expectations]
) -> Case:
    try:
        return Case(
            id=case.id,
            tags=case.reported_tags,
            shown=shown_prompt(case.turns),
            prompt=render(tokenizer, case.turns, case.tools),
            source=case,
            measures={case.SET: expected(case)},
        )
    except UserError as error:
        raise UserError(f"EvalGate {gate}, {case.label}: {error}", error.hint) from error
