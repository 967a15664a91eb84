"""Copy golden sets and safety sets that are at an address to the storage volume. The pods that train and
judge read them there, without the claims and the credentials of the addresses."""

import shutil

from tunegate_api.cases.golden import GoldenCase, unreachable, without_server
from tunegate_api.cases.safety_cases import SafetyCase, too_few
from tunegate_api.contract.bar import bar_of_safety_set
from tunegate_api.contract.request import GateRequest
from tunegate_api.v1alpha2.case_source import SetName
from tunegate_api.v1alpha2.data import Source
from tunegate_api.v1alpha2.sets import GateSet
from tunegate_trainer.evaluate.gate_sets import CHANGE, read_set, set_digest
from tunegate_trainer.fetch.sources import open_source
from tunegate_trainer.process.context import Context
from tunegate_trainer.process.errors import BadDataError, UserError
from tunegate_trainer.process.files import atomic_file, sha256_file

MAX_BYTES = 16 * 1024 * 1024
"""The largest set that is copied. A set of 1,000 cases with 10 KB each fits."""


def store_sets(context: Context) -> None:
    """Copy each golden set and safety set of the job that is at an address to the storage volume, unless it
    is there.

    The cases of these sets, and the rules that they are for, are checked too, because the
    operator cannot read the sets. Faults of a gate in a dry run are warnings.
    Raises the errors of :func:`open_source`, :class:`BadDataError` for a set that is too large, was changed
    or has invalid cases, or too few safety cases for the limits, and :class:`UserError` for a folder and for
    rules that no model can meet.
    """
    for gate in context.request.gates:
        with context.tolerating(gate):
            golden, safety = gate.spec.golden, gate.spec.safety
            if golden.source.uri is not None:
                _store(context, gate, "golden", golden)
                _check_golden(context, gate)
            if gate in context.request.safety_gates and safety and safety.source.uri is not None:
                _store(context, gate, "safety", safety)
                _check_safety(context, gate, safety)


def _store(context: Context, gate: GateRequest, name: SetName, part: GateSet) -> None:
    target, sha256 = context.workspace / context.paths.case_set(name, gate.name), set_digest(gate, name)
    if target.is_file() and sha256_file(target) == sha256:
        return
    field, uri = f"EvalGate {gate.name}: spec.sets[{part.name}].source", part.source.uri
    with open_source(context, Source(uri=uri, secret_name=part.source.secret_name), field) as found:
        if found.path.is_dir():
            raise UserError(f"{field}: {uri} is a folder", "name the file with the cases")
        size = found.path.stat().st_size
        if size > MAX_BYTES:
            raise BadDataError(
                f"{field}: {uri} has {size} bytes, but a {name} set has at most {MAX_BYTES}",
                f"check that the address names a {name} set in JSON Lines format",
            )
        if found.sha256 != sha256:
            raise BadDataError(
                f"EvalGate {gate.name}: the {name} set was changed: {uri} has sha256 {found.sha256}, "
                f"but spec.sets[{part.name}].sha256 pins {sha256}",
                f"restore the file; {CHANGE[name]}",
            )
        with found.path.open("rb") as content, atomic_file(target) as copy:
            shutil.copyfileobj(content, copy)


def _check_golden(context: Context, gate: GateRequest) -> None:
    cases = read_set(context, gate, GoldenCase)
    missing = without_server(gate.spec.to_wire(), cases)
    if missing:
        raise UserError(
            f"EvalGate {gate.name}: {'; '.join(map(str, missing))}",
            "add these fields to the gate, or remove the expectations in a new EvalGate",
        )
    problems = unreachable(gate.spec, cases, gate.golden_sha256)
    if problems:
        raise UserError(
            f"EvalGate {gate.name}: {'; '.join(map(str, problems))}",
            "correct the rules, or add cases in a new EvalGate",
        )


def _check_safety(context: Context, gate: GateRequest, safety: GateSet) -> None:
    few = too_few(read_set(context, gate, SafetyCase), bar_of_safety_set(safety))
    if few:
        raise BadDataError(
            f"EvalGate {gate.name}: safety set: {few}", "add cases, or change the limits of the EvalGate"
        )
