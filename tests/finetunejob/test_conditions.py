"""Conditions are computed from the rest of status, the child Jobs and the results, never from earlier
conditions."""

from copy import deepcopy
from datetime import datetime
from typing import Any

import pytest

from support import world as simulated
from support.scenarios import SCENARIOS, new_world
from tunegate_api.v1alpha2 import FineTuneJobStatus
from tunegate_api.v1alpha2.reasons import Phase
from tunegate_operator.engine.cluster import Object
from tunegate_operator.engine.controller import Decision, View
from tunegate_operator.finetunejob.controller import FineTuneJobController

PLAYED = [name for name in SCENARIOS if not name.startswith("exit-")]
FINAL = [phase for phase in Phase if phase.is_final]


class TwiceDeciding(FineTuneJobController):
    """Makes each decision again for the same status without conditions, and compares the conditions."""

    compared = 0

    def decide(self, obj: Object, view: View, now: datetime) -> Decision | None:
        decision = super().decide(obj, view, now)
        before = obj.get("status", {})
        if decision is None or before.get("phase") in FINAL or "conditions" not in before:
            return decision
        if FineTuneJobStatus.model_validate(decision.status).is_held:  # nothing is observed
            return decision
        bare = deepcopy(obj)
        del bare["status"]["conditions"]
        again = super().decide(bare, view, now)
        assert again is not None
        assert without_times(again.status) == without_times(decision.status)
        TwiceDeciding.compared += 1
        return decision


def without_times(status: Object) -> dict[str, dict[str, Any]]:
    """Return the conditions in a status by type, without the times of their transitions."""
    return {
        condition["type"]: {k: v for k, v in condition.items() if k != "lastTransitionTime"}
        for condition in status["conditions"]
    }


@pytest.mark.parametrize("name", PLAYED)
def test_conditions_deleted_from_a_status_are_computed_again(
    name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(simulated, "FineTuneJobController", TwiceDeciding)
    monkeypatch.setattr(TwiceDeciding, "compared", 0)
    failures: list[str] = []
    play, world = new_world(name)
    world.count_failure = lambda _, reason: failures.append(reason)
    play(world)
    assert "InternalError" not in failures
    assert TwiceDeciding.compared or world.status().phase is Phase.FAILED
