"""The columns of ``kubectl get``: where a job is, whether it gets better, and what to do next."""

import json
import re
from pathlib import Path

import pytest

from support.builders import make_job
from support.world import REGRESSING, Script, World, failed
from tunegate_api.contract.process import ExitCode
from tunegate_api.v1alpha2 import FineTuneJobStatus
from tunegate_api.v1alpha2.evaluation_status import (
    CheckpointReference,
    CheckpointStatus,
    GateResult,
    GoldenStatus,
)
from tunegate_api.v1alpha2.reasons import HELD, Phase, Reason, waits_for_a_person
from tunegate_api.verdict.outcomes import VerdictState
from tunegate_operator.finetunejob.columns import columns, next_text
from tunegate_operator.names import DISCARD_ANNOTATION

TO_DECIDE = {
    Reason.AWAITING_REVIEW: Phase.AWAITING_REVIEW,
    Reason.AWAITING_APPROVAL: Phase.AWAITING_APPROVAL,
    Reason.AWAITING_OVERRIDE: Phase.AWAITING_APPROVAL,
}
"""The reasons for which a job waits for a person, each with its phase."""
PAGE = (Path(__file__).parents[2] / "docs" / "status.md").read_text()
STAGES = [
    {"name": "sft", "method": "SFT", "adapter": {"type": "LoRA"}},
    {"name": "more", "method": "SFT", "adapter": {"from": "Previous"}},
]


def shown(world: World) -> dict[str, str | None]:
    return world.status().display.model_dump()


def test_succeeded_job_shows_how_much_better_it_became() -> None:
    world = World()
    world.apply_all()
    world.run()
    assert shown(world) == {
        "stage": "sft 1/1",
        "progress": "100%",
        "base": "0.10",
        "golden": "0.94",
        "best": "step 40 (0.94)",
        "gate": "Passed",
        "next": None,
    }


def test_training_job_shows_its_base_before_and_after_a_checkpoint() -> None:
    world = World()
    world.apply_all()
    while not world.status().start:
        world.settle()
        world.tick()
    assert shown(world) | {"base": "0.10", "golden": "", "best": ""} == shown(world)
    world.until_checkpoint()
    assert shown(world) | {"base": "0.10", "golden": "0.60", "best": "", "next": None} == shown(world)


def test_best_checkpoint_of_an_earlier_stage_shows_its_stage() -> None:
    world = World(Script(later={"more": {10: 91, 20: 96}}))
    world.apply_all(make_job().with_spec(stages=STAGES).obj())
    while len(world.status().start) < 2:
        world.settle()
        world.tick()
    display = world.status().display
    assert (display.stage, display.best, display.base) == ("more 2/2", "sft step 40 (0.94)", "0.10")
    world.run()
    assert world.status().display.best == "step 20 (0.96)"


def evaluated(step: int, **passed: int) -> CheckpointStatus:
    """Return the results of a checkpoint: for each gate, how many of its 100 golden cases passed."""
    gates = [
        GateResult(
            name=name,
            golden=GoldenStatus(passed=count, total=100, rate=f"{count / 100:.2f}"),
            verdict=VerdictState.PASSED,
        )
        for name, count in passed.items()
    ]
    return CheckpointStatus(stage="sft", step=step, gates=gates)


def test_columns_compare_the_rates_of_one_gate() -> None:
    best = CheckpointReference(stage="sft", step=10)
    status = FineTuneJobStatus(start=[evaluated(0, a=50, b=60)], best_checkpoint=best)
    for points, expected in (
        ([], ("0.50", "", "step 10")),
        ([evaluated(10, a=55, b=70), evaluated(20, b=65, a=52)], ("0.60", "0.65", "step 10 (0.70)")),
        ([evaluated(10, a=55), evaluated(20, c=65)], (None, "0.65", "step 10")),
    ):
        found = columns(status.model_copy(update={"checkpoints": points}), ["sft"], Reason.PROGRESSING)
        assert (found.base, found.golden, found.best) == expected


def test_stopped_job_asks_for_a_decision_until_it_is_discarded() -> None:
    world = World(Script(checkpoints=REGRESSING))
    world.apply_all()
    world.run()
    stop = world.status().stop
    assert stop is not None
    assert shown(world)["next"] == "decide: continue or discard"
    world.edit(annotations={DISCARD_ANNOTATION: json.dumps({"stop": stop.id, "reason": "bad data"})})
    world.run()
    assert (world.status().phase, shown(world)["next"]) == (Phase.FAILED, None)


def test_failed_job_names_the_reason_to_fix() -> None:
    world = World(Script(exits={"data": [failed(ExitCode.BAD_DATA, "BadData", "line 3: no prompt")]}))
    world.apply_all()
    world.run()
    assert shown(world)["next"] == "fix: BadData"


def test_refused_job_names_the_reason_to_fix() -> None:
    world = World()
    world.apply_all(make_job().with_spec(gates=[]).obj())
    world.settle()
    assert (shown(world)["gate"], shown(world)["next"]) == ("NotReached", "fix: InvalidSpec")


def test_waiting_job_names_what_is_missing() -> None:
    world = World()
    world.apply(make_job().obj())
    world.settle()
    assert shown(world)["next"] == "fix: GateNotFound"


def test_held_job_names_the_reason_until_released() -> None:
    world = World()
    world.apply_all()
    world.until_checkpoint()
    spec = world.job()["spec"]
    world.edit(mixing={})
    world.settle()
    assert shown(world)["next"] == "fix: SpecNotUnderstood"
    assert world.status().is_held
    assert waits_for_a_person(world.status().phase, world.status().ready_reason)
    world.cluster.as_user.replace(world.job() | {"spec": spec})
    world.settle()
    assert shown(world)["next"] is None


def test_suspended_job_shows_how_to_resume_it() -> None:
    world = World()
    world.apply_all(make_job().with_spec(suspend=True).obj())
    world.settle()
    assert shown(world)["next"] == "resume: set suspend to false"


@pytest.mark.parametrize("phase", [phase for phase in Phase if not phase.is_final])
def test_column_next_says_wait_only_if_no_person_is_needed(phase: Phase) -> None:
    for reason in set(Reason) - set(HELD):  # the column of a held job is set when the hold begins
        text = next_text(phase, reason) or "wait"
        assert waits_for_a_person(phase, reason) == (not text.startswith("wait")), reason


def test_every_documented_reason_to_wait_shows_what_to_do() -> None:
    rows = PAGE.split("## Waiting", 1)[1].split("\n## ", 1)[0]
    reasons = re.findall(r"^\| `(\w+)` \|", rows, re.MULTILINE)
    assert len(reasons) > 10
    for reason in reasons:
        if reason in TO_DECIDE:
            assert next_text(TO_DECIDE[reason], reason).startswith(("review", "decide")), reason
        else:
            assert next_text(Phase.PENDING, reason) in (f"fix: {reason}", f"wait: {reason}")
    assert Reason.AWAITING_REVIEW in reasons
    assert next_text(Phase.AWAITING_REVIEW, Reason.AWAITING_REVIEW) == "review the data"
