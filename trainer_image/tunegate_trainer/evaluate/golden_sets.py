"""Prepare the golden sets of gates: read the cases, render their prompts, and find their scorers."""

import json
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import replace
from typing import Any

from transformers import PreTrainedTokenizerBase

from tunegate_api.cases.case_lines import inline_text
from tunegate_api.cases.expectations import CustomExpectation, Leaf, leaves
from tunegate_api.cases.golden import GoldenCase, GoldenError, case_set, parse_golden
from tunegate_api.contract.digests import sha256_text
from tunegate_api.contract.request import GateRequest
from tunegate_api.contract.results import golden_set
from tunegate_api.contract.workspace import golden_file
from tunegate_api.v1alpha1.evalgate import GoldenSource
from tunegate_api.verdict.tiers import counted_cases
from tunegate_trainer.evaluate.config_map_files import config_map_file, read_case_file
from tunegate_trainer.evaluate.expected import Expectations, expected_outputs
from tunegate_trainer.evaluate.golden_references import golden_labels
from tunegate_trainer.evaluate.references import golden_reference
from tunegate_trainer.evaluate.sets import GOLDEN, Case, GeneratedSet, shown_prompt
from tunegate_trainer.graders import Grader
from tunegate_trainer.graders.custom import CUSTOM, custom_grader, custom_version
from tunegate_trainer.graders.gate_servers import golden_graders
from tunegate_trainer.graders.table import GRADERS
from tunegate_trainer.process.context import Context
from tunegate_trainer.process.errors import BadDataError, UserError
from tunegate_trainer.tokens.chat import render


def golden_sets(
    context: Context,
    tokenizer: PreTrainedTokenizerBase,
    gates: Sequence[GateRequest],
    scorers: Mapping[str, Grader] = GRADERS,
) -> list[GeneratedSet]:
    """Return the golden sets of ``gates``, with the scorers of their expectations. The golden set of a gate
    in a dry run is left out if it cannot be used.

    Raises :class:`BadDataError` with the line of an invalid case, or if a golden set does not have the digest
    in the job's request, and :class:`UserError` if the chat template refuses a case.
    """
    found = []
    for gate in gates:
        with context.tolerating(gate):
            found.append(_golden_set(context, tokenizer, gate, scorers))
    return found


def read_cases(context: Context, gates: Sequence[GateRequest]) -> dict[str, list[GoldenCase]]:
    """Return the golden cases of each gate by its name, without the gates in a dry run whose cases cannot be
    read. Raises the errors of :func:`golden_text` and :func:`golden_cases`."""
    found = {}
    for gate in gates:
        with context.tolerating(gate):
            found[gate.name] = golden_cases(
                gate.name, golden_text(context, gate.name, gate.spec.golden.source)
            )
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


def _golden_set(
    context: Context, tokenizer: PreTrainedTokenizerBase, gate: GateRequest, scorers: Mapping[str, Grader]
) -> GeneratedSet:
    text = golden_text(context, gate.name, gate.spec.golden.source)
    digest = sha256_text(text)
    if digest != gate.golden_sha256:
        raise BadDataError(
            f"EvalGate {gate.name}: the golden set has sha256 {digest}, but the job was started with "
            f"{gate.golden_sha256}",
            "a golden set is immutable: put changed cases into a new ConfigMap and a new EvalGate",
        )
    golden = golden_cases(gate.name, text)
    custom = _custom_scorers(gate.name, golden)
    servers = golden_graders(context, gate, golden)
    all_scorers = {**scorers, **custom, **servers}
    labels = golden_labels(golden)
    cases = [
        Case(
            id=case.id,
            tags=case.tags,
            shown=shown_prompt(case.turns),
            prompt=_prompt(tokenizer, gate.name, case),
            source=case,
            measures={GOLDEN: _expected(tokenizer, gate.name, case, labels, all_scorers)},
        )
        for case in golden
    ]
    return GeneratedSet(
        file=golden_file(gate.name),
        identity=_identity(digest, custom, servers, gate),
        generation=gate.spec.generation,
        cases=cases,
        names={GOLDEN: golden_set(gate.name)},
        case_set=case_set(golden, digest),
    )


def _prompt(tokenizer: PreTrainedTokenizerBase, gate: str, case: GoldenCase) -> str:
    with _errors_name(gate, case):
        return render(tokenizer, case.turns, case.tools)


def _expected(
    tokenizer: PreTrainedTokenizerBase,
    gate: str,
    case: GoldenCase,
    labels: Mapping[str, int],
    scorers: Mapping[str, Grader],
) -> Expectations:
    with _errors_name(gate, case):
        return expected_outputs(
            case.expect,
            lambda leaf: scorers[_scorer_name(leaf)],
            lambda leaf: golden_reference(tokenizer, case, leaf, labels),
        )


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


def _identity(
    digest: str, custom: Mapping[str, Grader], servers: Mapping[str, Grader], gate: GateRequest
) -> str:
    """Return the digest of a golden set. It includes the versions of the user's scorers and the settings of
    the judge and the guardrail, if cases need them, and whether they are asked without the job's proxy."""
    versions: list[Any] = sorted((name, custom_version(name.removeprefix(f"{CUSTOM} "))) for name in custom)
    spec = gate.spec.to_wire()
    versions += [(name, spec[name]) for name in sorted(servers)]
    versions += [("direct", True)] if servers and gate.required else []
    return sha256_text(json.dumps([digest, versions], sort_keys=True)) if versions else digest


@contextmanager
def _errors_name(gate: str, case: GoldenCase) -> Iterator[None]:
    """Add the names of the gate and the case to errors of the chat template."""
    try:
        yield
    except UserError as error:
        raise UserError(f"EvalGate {gate}, case {case.id}: {error}", error.hint) from error


def golden_cases(gate: str, text: str) -> list[GoldenCase]:
    """Parse the golden set of a gate. Raises :class:`BadDataError` with the line of each invalid case."""
    try:
        return parse_golden(text)
    except GoldenError as error:
        raise BadDataError(
            f"EvalGate {gate}: golden set: {error}", "correct these cases in a new EvalGate"
        ) from error


def golden_text(context: Context, gate: str, source: GoldenSource) -> str:
    """Read the text of a gate's golden set. If the set is at an address, read its copy on the storage volume,
    which :func:`store_sets` makes.

    Raises :class:`SourceNotFoundError` if the file does not exist, :class:`BadDataError` if it is not UTF-8,
    and :class:`UserError` if permission to read it is denied.
    """
    root = context.root
    if source.inline is not None:
        return inline_text(source.inline)
    if source.config_map is not None:
        path = config_map_file(root, f"EvalGate {gate}: spec.golden.source", source.config_map, source.key)
    else:
        path = context.workspace / context.paths.golden_set(gate)
    return read_case_file(root, path, gate, "golden")
