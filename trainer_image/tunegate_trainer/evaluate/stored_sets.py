"""Copy golden sets and safety sets that are at an address to the storage volume. The pods that train and
judge read them there, without the claims and the credentials of the addresses."""

import shutil
from dataclasses import dataclass
from pathlib import PurePosixPath
from typing import Literal

from tunegate_api.cases.golden import unreachable, without_server
from tunegate_api.cases.safety_cases import too_few
from tunegate_api.contract.bar import limits_of
from tunegate_api.contract.request import GateRequest
from tunegate_api.v1alpha1.data import Source
from tunegate_api.v1alpha1.safety import Safety
from tunegate_trainer.evaluate.golden_sets import golden_cases, golden_text
from tunegate_trainer.evaluate.safety_sets import safety_cases
from tunegate_trainer.fetch import SCHEMES, Schemes
from tunegate_trainer.fetch.sources import open_source
from tunegate_trainer.process.context import Context
from tunegate_trainer.process.errors import BadDataError, UserError
from tunegate_trainer.process.files import atomic_file, sha256_file

MAX_BYTES = 16 * 1024 * 1024
"""The largest set that is copied. A set of 1,000 cases with 10 KB each fits."""
_CHANGED = {
    "golden": "a golden set is immutable: put changed cases into a new file and a new EvalGate",
    "safety": "restore the file, or put changed cases into a new file, and set safety.source.uri and "
    "safety.sha256 of the EvalGate",
}


@dataclass(frozen=True)
class _Pinned:
    """A set at an address, the digest that the file must have, and the place of its copy in the workspace."""

    gate: str
    kind: Literal["golden", "safety"]
    source: Source
    sha256: str
    copy: PurePosixPath


def store_sets(context: Context, schemes: Schemes = SCHEMES) -> None:
    """Copy each golden set and safety set of the job that is at an address to the storage volume, unless it
    is there.

    The cases of these sets, and the thresholds or limits that they are for, are checked too, because the
    operator cannot read the sets. Faults of a gate in a dry run are warnings.
    Raises the errors of :func:`open_source`, :class:`BadDataError` for a set that is too large, was changed
    or has invalid cases, or too few safety cases for the limits, and :class:`UserError` for a folder and for
    thresholds that no model can reach.
    """
    for gate in context.request.gates:
        with context.tolerating(gate):
            golden, safety = gate.spec.golden.source, gate.spec.safety
            if golden.uri is not None:
                source = Source(uri=golden.uri, secret_name=golden.secret_name)
                copy = context.paths.golden_set(gate.name)
                _store(context, _Pinned(gate.name, "golden", source, gate.golden_sha256, copy), schemes)
                _check_golden(context, gate)
            if gate in context.request.safety_gates and safety and safety.source.uri is not None:
                source = Source(uri=safety.source.uri, secret_name=safety.source.secret_name)
                copy, sha256 = context.paths.safety_set(gate.name), gate.safety_sha256 or ""
                _store(context, _Pinned(gate.name, "safety", source, sha256, copy), schemes)
                _check_safety(context, gate.name, safety)


def _store(context: Context, pinned: _Pinned, schemes: Schemes) -> None:
    target, kind, uri = context.workspace / pinned.copy, pinned.kind, pinned.source.uri
    if target.is_file() and sha256_file(target) == pinned.sha256:
        return
    field = f"EvalGate {pinned.gate}: spec.{kind}.source"
    with open_source(context, pinned.source, field, schemes) as found:
        if found.path.is_dir():
            raise UserError(f"{field}: {uri} is a folder", "name the file with the cases")
        size = found.path.stat().st_size
        if size > MAX_BYTES:
            raise BadDataError(
                f"{field}: {uri} has {size} bytes, but a {kind} set has at most {MAX_BYTES}",
                f"check that the address names a {kind} set in JSON Lines format",
            )
        if found.sha256 != pinned.sha256:
            raise BadDataError(
                f"EvalGate {pinned.gate}: the {kind} set was changed: {uri} has sha256 {found.sha256}, "
                f"but {kind}.sha256 pins {pinned.sha256}",
                _CHANGED[kind],
            )
        with found.path.open("rb") as content, atomic_file(target) as copy:
            shutil.copyfileobj(content, copy)


def _check_golden(context: Context, gate: GateRequest) -> None:
    cases = golden_cases(gate.name, golden_text(context, gate.name, gate.spec.golden.source))
    missing = without_server(gate.spec.to_wire(), cases)
    if missing:
        raise UserError(
            f"EvalGate {gate.name}: {'; '.join(map(str, missing))}",
            "add these fields to the gate, or remove the expectations in a new EvalGate",
        )
    problems = unreachable(gate.checkpoint_bar, cases, gate.spec.compared_with, gate.golden_sha256)
    if problems:
        raise UserError(
            f"EvalGate {gate.name}: {'; '.join(map(str, problems))}",
            "correct the thresholds, or add cases in a new EvalGate",
        )


def _check_safety(context: Context, gate: str, safety: Safety) -> None:
    few = too_few(safety_cases(context, gate, safety.source), limits_of(safety))
    if few:
        raise BadDataError(
            f"EvalGate {gate}: safety set: {few}", "add cases, or change the limits of the EvalGate"
        )
