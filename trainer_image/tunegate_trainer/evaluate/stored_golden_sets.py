"""Copy golden sets that are at an address to the storage volume. The pods that train and judge read them
there, without the claims and the credentials of the addresses."""

import shutil

from tunegate_api.contract import GateRequest
from tunegate_api.judging.golden import unreachable, without_server
from tunegate_api.v1alpha1.data import Source
from tunegate_trainer.evaluate.golden_sets import golden_cases, golden_text
from tunegate_trainer.fetch import SCHEMES, Schemes
from tunegate_trainer.fetch.sources import open_source
from tunegate_trainer.process.context import Context
from tunegate_trainer.process.errors import BadDataError, UserError
from tunegate_trainer.process.files import atomic_file, sha256_file

MAX_BYTES = 16 * 1024 * 1024
"""The largest golden set that is copied. A set of 1,000 cases with 10 KB each fits."""


def store_golden_sets(context: Context, schemes: Schemes = SCHEMES) -> None:
    """Copy each golden set of the job that is at an address to the storage volume, unless it is there.

    The cases and the thresholds of these gates are checked too, because the operator cannot read the sets.
    Faults of a gate in a dry run are warnings.
    Raises the errors of :func:`open_source`, :class:`BadDataError` for a set that is too large, was changed
    or has invalid cases, and :class:`UserError` for a folder and for thresholds that no model can reach.
    """
    for gate in context.request.gates:
        if gate.spec.golden.source.uri is not None:
            with context.tolerating(gate):
                _store(context, gate, schemes)
                _check(context, gate)


def _store(context: Context, gate: GateRequest, schemes: Schemes) -> None:
    target = context.workspace / context.paths.golden_set(gate.name)
    if target.is_file() and sha256_file(target) == gate.golden_sha256:
        return
    field, address = f"EvalGate {gate.name}: spec.golden.source", gate.spec.golden.source
    source = Source(uri=address.uri, secret_name=address.secret_name)
    with open_source(context, source, field, schemes) as found:
        if found.path.is_dir():
            raise UserError(f"{field}: {address.uri} is a folder", "name the file with the cases")
        size = found.path.stat().st_size
        if size > MAX_BYTES:
            raise BadDataError(
                f"{field}: {address.uri} has {size} bytes, but a golden set has at most {MAX_BYTES}",
                "check that the address names a golden set in JSON Lines format",
            )
        if found.sha256 != gate.golden_sha256:
            raise BadDataError(
                f"EvalGate {gate.name}: the golden set was changed: {address.uri} has sha256 {found.sha256}, "
                f"but golden.sha256 pins {gate.golden_sha256}",
                "a golden set is immutable: put changed cases into a new file and a new EvalGate",
            )
        with found.path.open("rb") as content, atomic_file(target) as copy:
            shutil.copyfileobj(content, copy)


def _check(context: Context, gate: GateRequest) -> None:
    cases = golden_cases(gate.name, golden_text(context, gate.name, gate.spec.golden.source))
    missing = without_server(gate.spec.to_wire(), cases)
    if missing:
        raise UserError(
            f"EvalGate {gate.name}: {'; '.join(map(str, missing))}",
            "add these fields to the gate, or remove the expectations in a new EvalGate",
        )
    spec = gate.spec
    problems = unreachable(
        spec.thresholds, cases, spec.compared_with, sealed=spec.golden.sealed, sha256=gate.golden_sha256
    )
    if problems:
        raise UserError(
            f"EvalGate {gate.name}: {'; '.join(map(str, problems))}",
            "correct the thresholds, or add cases in a new EvalGate",
        )
