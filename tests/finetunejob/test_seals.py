"""Checkpoints are not evaluated with a gate that shows the cases that another gate of the job seals."""

from typing import Any

import pytest

from support.builders import GateBuilder, make_gate, make_job
from support.world import Script, World
from tunegate_api.v1alpha2.reasons import Phase, Reason

SHOWN = (
    "EvalGates golden and other have the same golden set, but do not seal the same cases, so checkpoints "
    "would be evaluated on cases that one of them seals"
)


def sealing(name: str = "golden", share: str | None = "30%") -> GateBuilder:
    gate = make_gate(name)
    if share:
        gate.spec["sets"][0]["sealed"] = share
    return gate


def run(*gates: GateBuilder, stage: str | None = None) -> World:
    """Run a job with the gates golden and other, whose only stage may have one gate of its own."""
    world = World(Script(also=("other",)))
    for gate in gates[1:]:
        world.apply(gate.obj())
    job: Any = make_job().with_gates("golden", "other")
    if stage:
        job.spec["stages"][0]["gates"] = [{"name": stage}]
    world.apply_all(job.obj(), gates[0].obj())
    world.run()
    return world


@pytest.mark.parametrize(
    ("what", "other"),
    [
        ("no sealed cases", sealing("other", None)),
        ("a smaller share", sealing("other", "20%")),
        ("another critical case, which is never sealed", sealing("other").with_critical("case-1")),
    ],
)
def test_gates_of_one_set_that_seal_other_cases_are_refused(what, other):
    failure = run(sealing(), other).status().failure
    assert failure is not None, what
    assert (failure.reason, failure.message) == (Reason.INVALID_SPEC, SHOWN)
    assert "the same sealed share and critical cases" in (failure.hint or "")


def test_gates_that_seal_the_same_cases_are_accepted():
    assert run(sealing(), sealing("other").with_limits(minPassRate="90%")).status().phase is (Phase.SUCCEEDED)


def test_gate_that_only_judges_final_models_may_seal_no_cases():
    assert run(sealing(), sealing("other", None), stage="golden").status().phase is Phase.SUCCEEDED


def test_final_only_gate_may_not_seal_other_cases():
    failure = run(sealing(), sealing("other", "20%"), stage="golden").status().failure
    assert failure is not None
    assert failure.message == SHOWN


@pytest.mark.parametrize("dry", ["golden", "other"])
def test_dry_run_gate_that_shows_or_seals_is_excluded(dry):
    gates = [sealing(), sealing("other", None)]
    world = run(
        *(
            gate.with_spec(enforcement="DryRun" if gate.obj()["metadata"]["name"] == dry else "Enforce")
            for gate in gates
        )
    )
    status = world.status()
    assert status.phase is Phase.SUCCEEDED
    assert status.data is not None
    assert status.data.warnings[0] == f"EvalGate {dry} is in a dry run and was left out: {SHOWN}"
