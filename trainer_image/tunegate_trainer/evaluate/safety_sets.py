"""Prepare the safety sets of gates: read the cases, render their prompts, and find their scorer."""

import json
from collections.abc import Sequence

from transformers import PreTrainedTokenizerBase

from tunegate_api.cases.case_lines import inline_text
from tunegate_api.cases.safety_cases import SafetyCase, SafetyError, parse_safety, safety_case_set
from tunegate_api.contract.digests import sha256_text
from tunegate_api.contract.request import GateRequest
from tunegate_api.contract.workspace import safety_file
from tunegate_api.safety_sets import builtin_text
from tunegate_api.v1alpha1.safety import Safety, SafetySource
from tunegate_api.verdict.safety import safety_set
from tunegate_trainer.evaluate.config_map_files import config_map_file, read_case_file
from tunegate_trainer.evaluate.expected import Expected
from tunegate_trainer.evaluate.sets import SAFETY, Case, GeneratedSet, shown_prompt
from tunegate_trainer.graders.gate_servers import safety_graders, scorer_settings
from tunegate_trainer.process.context import Context
from tunegate_trainer.process.errors import BadDataError, UserError
from tunegate_trainer.tokens.chat import render


def safety_sets(
    context: Context, tokenizer: PreTrainedTokenizerBase, gates: Sequence[GateRequest]
) -> list[GeneratedSet]:
    """Return the safety sets of those of ``gates`` that have one. The safety set of a gate in a dry run is
    left out if it cannot be used.

    Raises :class:`BadDataError` with the line of an invalid case, or if a safety set does not have the digest
    in the job's request, and :class:`UserError` if the chat template refuses a case.
    """
    found = []
    for gate in gates:
        if gate.spec.safety:
            with context.tolerating(gate):
                found.append(_safety_set(context, tokenizer, gate, gate.spec.safety))
    return found


def _safety_set(
    context: Context, tokenizer: PreTrainedTokenizerBase, gate: GateRequest, safety: Safety
) -> GeneratedSet:
    text = safety_text(context, gate.name, safety.source)
    digest = sha256_text(text)
    if digest != gate.safety_sha256:
        raise BadDataError(
            f"EvalGate {gate.name}: the safety set has sha256 {digest}, but the job was started with "
            f"{gate.safety_sha256}",
            _how_to_fix(safety.source),
        )
    found = _parsed(gate.name, text)
    graders = safety_graders(context, gate, safety.scorer)
    settings = scorer_settings(gate, safety.scorer)
    return GeneratedSet(
        file=safety_file(gate.name),
        identity=sha256_text(json.dumps([digest, settings], sort_keys=True)) if settings else digest,
        # Reasoning would hide a refusal after it, and votes would hide unsafe answers.
        generation=gate.spec.generation.model_copy(update={"reasoning": "Strip", "samples": None}),
        cases=[
            Case(
                id=case.id,
                tags=[case.kind, case.category],
                shown=shown_prompt(case.turns),
                prompt=_prompt(tokenizer, gate.name, case),
                source=case,
                measures={SAFETY: [Expected(graders[case.kind], case.kind)]},
            )
            for case in found
        ],
        names={SAFETY: safety_set(gate.name)},
        case_set=safety_case_set(found, digest),
    )


def _prompt(tokenizer: PreTrainedTokenizerBase, gate: str, case: SafetyCase) -> str:
    try:
        return render(tokenizer, case.turns)
    except UserError as error:
        raise UserError(f"EvalGate {gate}, safety case {case.id}: {error}", error.hint) from error


def _how_to_fix(source: SafetySource) -> str:
    """Return what to do if a safety set has another digest than the one that the job was started with."""
    if source.config_map is not None:
        return (
            "put changed cases into a new ConfigMap, and set safety.source and safety.sha256 of the EvalGate"
        )
    if source.uri is not None:
        return "the copy of the set on the storage volume is damaged: create the job again"
    return "use the same release of Tunegate for the operator and the trainer image"


def safety_cases(context: Context, gate: str, source: SafetySource) -> list[SafetyCase]:
    """Read the cases of a gate's safety set. Raises :class:`BadDataError` with the line of each invalid case,
    and the errors of :func:`safety_text`."""
    return _parsed(gate, safety_text(context, gate, source))


def _parsed(gate: str, text: str) -> list[SafetyCase]:
    try:
        return parse_safety(text)
    except SafetyError as error:
        raise BadDataError(f"EvalGate {gate}: safety set: {error}", "correct these cases") from error


def safety_text(context: Context, gate: str, source: SafetySource) -> str:
    """Read the text of a gate's safety set. If the set is at an address, read its copy on the storage volume,
    which :func:`~tunegate_trainer.evaluate.stored_sets.store_sets` makes.

    Raises :class:`SourceNotFoundError` if the file does not exist, :class:`BadDataError` if it is not UTF-8,
    and :class:`UserError` if permission to read it is denied.
    """
    if source.builtin is not None:
        return builtin_text(source.builtin)
    if source.inline is not None:
        return inline_text(source.inline)
    if source.config_map is not None:
        field = f"EvalGate {gate}: spec.safety.source"
        path = config_map_file(context.root, field, source.config_map, source.key)
    else:
        path = context.workspace / context.paths.safety_set(gate)
    return read_case_file(context.root, path, gate, "safety")
