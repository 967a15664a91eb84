"""The status of a job shows the results on open and on sealed golden cases."""

from support.builders import make_gate
from support.world import World
from tunegate_api.v1alpha2.reasons import Phase
from tunegate_api.verdict.outcomes import VerdictState


def test_status_judges_checkpoints_by_open_cases_and_shows_both_parts() -> None:
    world = World()
    gate = make_gate()
    gate.spec["sets"][0]["sealed"] = "30%"
    world.apply_all(gate=gate.obj())
    status = world.run()
    assert status.phase is Phase.SUCCEEDED
    totals = [g.golden.total for c in (*status.start, *status.checkpoints) for g in c.gates if g.golden]
    assert totals == [70] * 6
    assert all(g.golden.sealed_total is None for c in status.checkpoints for g in c.gates if g.golden)
    assert status.final is not None
    (found,) = status.final.gates
    golden = found.golden
    assert golden is not None
    assert (found.verdict, golden.passed, golden.total) == (VerdictState.PASSED, 94, 100)
    assert golden.sealed_total == 30
    assert golden.sealed_passed is not None
    opened = 94 - golden.sealed_passed
    assert f"open {opened}/70 = 0." in found.message
    assert f"sealed {golden.sealed_passed}/30 = 0." in found.message
    assert status.message.endswith("; the sealed cases are not affected")
