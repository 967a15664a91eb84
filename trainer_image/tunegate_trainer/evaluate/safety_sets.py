"""Prepare the safety sets of gates with their graders."""

from collections.abc import Sequence

from transformers import PreTrainedTokenizerBase

from tunegate_api.cases.safety_cases import SafetyCase
from tunegate_api.contract.request import GateRequest
from tunegate_trainer.evaluate.expected import Expected
from tunegate_trainer.evaluate.gate_sets import generated_set, read_set
from tunegate_trainer.evaluate.sets import GeneratedSet
from tunegate_trainer.graders.gate_servers import safety_graders, safety_settings
from tunegate_trainer.process.context import Context


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
                found.append(_safety_set(context, tokenizer, gate))
    return found


def _safety_set(context: Context, tokenizer: PreTrainedTokenizerBase, gate: GateRequest) -> GeneratedSet:
    cases = read_set(context, gate, SafetyCase)
    graders = safety_graders(context, gate)
    return generated_set(
        tokenizer,
        gate,
        cases,
        lambda case: [Expected(graders[case.kind], case.kind)],
        settings=safety_settings(gate),
        # Reasoning would hide a refusal after it, and votes would hide unsafe answers.
        generation=context.request.generation_of(gate).model_copy(
            update={"reasoning": "Strip", "samples": None}
        ),
    )
