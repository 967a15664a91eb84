"""Prepare the golden sets of gates with their scorers."""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

from transformers import PreTrainedTokenizerBase

from tunegate_api.cases.expectations import CustomExpectation, Leaf, leaves
from tunegate_api.cases.golden import GoldenCase
from tunegate_api.contract.request import GateRequest
from tunegate_api.verdict.tiers import counted_cases
from tunegate_trainer.evaluate.expected import Expectations, expected_outputs
from tunegate_trainer.evaluate.gate_sets import generated_set, read_set
from tunegate_trainer.evaluate.golden_references import golden_labels
from tunegate_trainer.evaluate.references import golden_reference
from tunegate_trainer.evaluate.sets import GeneratedSet
from tunegate_trainer.graders import Grader
from tunegate_trainer.graders.custom import CUSTOM, custom_grader, custom_version
from tunegate_trainer.graders.gate_servers import golden_graders
from tunegate_trainer.graders.table import GRADERS
from tunegate_trainer.process.context import Context


def golden_sets(
    context: Context, tokenizer: PreTrainedTokenizerBase, gates: Sequence[GateRequest]
) -> list[GeneratedSet]:
    """Return the golden sets of ``gates``, with the scorers of their expectations. The golden set of a gate
    in a dry run is left out if it cannot be used.

    Raises :class:`BadDataError` with the line of an invalid case, or if a golden set does not have the digest
    in the job's request, and :class:`UserError` if the chat template refuses a case.
    """
    found = []
    for gate in gates:
        with context.tolerating(gate):
            found.append(_golden_set(context, tokenizer, gate))
    return found


def open_golden_sets(
    context: Context, tokenizer: PreTrainedTokenizerBase, gates: Sequence[GateRequest]
) -> list[GeneratedSet]:
    """Return the golden sets of ``gates`` for starting models and checkpoints: sealed cases keep their place,
    but not their prompts, and are not evaluated. Raises what :func:`golden_sets` does."""
    return [_without_sealed(each, gate) for gate in gates for each in golden_sets(context, tokenizer, [gate])]


def _without_sealed(golden: GeneratedSet, gate: GateRequest) -> GeneratedSet:
    sealed = counted_cases(golden.case_set, gate.checkpoint_bar).sealed
    cases = [
        replace(case, shown="", prompt="", is_sealed=True) if position in sealed else case
        for position, case in enumerate(golden.cases)
    ]
    return replace(golden, cases=cases)


def _golden_set(context: Context, tokenizer: PreTrainedTokenizerBase, gate: GateRequest) -> GeneratedSet:
    golden = read_set(context, gate, GoldenCase)
    custom = _custom_scorers(gate.name, golden)
    servers = golden_graders(context, gate, golden)
    scorers = {**GRADERS, **custom, **servers}
    labels = golden_labels(golden)

    def expected(case: GoldenCase) -> Expectations:
        return expected_outputs(
            case.expect,
            lambda leaf: scorers[_scorer_name(leaf)],
            lambda leaf: golden_reference(tokenizer, case, leaf, labels),
        )

    settings = _settings(custom, servers, gate)
    generation = context.request.generation_of(gate)
    return generated_set(tokenizer, gate, golden, expected, settings=settings, generation=generation)


def _scorer_name(leaf: Leaf) -> str:
    return f"{CUSTOM} {leaf.entry_point}" if isinstance(leaf, CustomExpectation) else leaf.type


def _custom_scorers(gate: str, cases: Sequence[GoldenCase]) -> dict[str, Grader]:
    """Return the user's scorers that the cases name, each once. Raises :class:`UserError` if one is missing
    or cannot be loaded."""
    found: dict[str, Grader] = {}
    for case in cases:
        for leaf in leaves(case.expect):
            if isinstance(leaf, CustomExpectation) and _scorer_name(leaf) not in found:
                field = f"EvalGate {gate}, case {case.id}"
                found[_scorer_name(leaf)] = custom_grader(leaf.entry_point, field)
    return found


def _settings(custom: Mapping[str, Grader], servers: Mapping[str, Grader], gate: GateRequest) -> list[Any]:
    """Return the versions of the user's scorers and the settings of the judge and the guardrail, if cases
    need them, and whether they are asked without the job's proxy."""
    versions: list[Any] = sorted((name, custom_version(name.removeprefix(f"{CUSTOM} "))) for name in custom)
    settings = {"judge": gate.spec.settings_of(gate.spec.judge)}
    settings["guardrail"] = gate.spec.settings_of(gate.spec.guardrail)
    versions += [(name, settings[name]) for name in sorted(servers)]
    return versions + ([("direct", True)] if servers and gate.required else [])
