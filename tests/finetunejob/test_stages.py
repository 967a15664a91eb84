"""Training stages run in order. Each later stage starts from the best passing checkpoint of the stage before
it."""

from typing import Any

import pytest

from support.builders import make_job
from support.world import Script, World, failed
from tunegate_api.contract.process import ExitCode
from tunegate_api.v1alpha2.reasons import Phase, Reason
from tunegate_operator.names import CONTINUE_ANNOTATION

STAGES = [
    {"name": "sft", "method": "SFT", "adapter": {"type": "LoRA"}},
    {"name": "more", "method": "SFT", "adapter": {"from": "Previous"}},
]
RISING = {10: 91, 20: 92, 30: 93, 40: 95, 50: 96}
FALLING = {10: 91, 20: 80, 22: 80}


def two_stages(script: Script | None = None) -> World:
    world = World(script or Script(later={"more": RISING}))
    world.apply_all(make_job().with_spec(stages=STAGES).with_publish().obj())
    return world


def arguments(world: World, role: str, stage: str = "") -> list[list[str]]:
    """Return the container arguments of each Job with this role and stage, sorted by attempt."""
    found: list[list[str]] = []
    for job in world.cluster.as_user.list_objects("Job"):
        labels: dict[str, Any] = job["metadata"]["labels"]
        if labels["tunegate.dev/role"] == role and labels.get("tunegate.dev/stage", "") == stage:
            found.append(job["spec"]["template"]["spec"]["containers"][0]["args"])
    return sorted(found, key=lambda args: int(args[args.index("--attempt") + 1]))


def test_second_stage_starts_from_the_best_checkpoint_of_the_first():
    world = two_stages()
    status = world.run()
    assert status.phase is Phase.SUCCEEDED
    assert arguments(world, "train", "sft") == [["train", "--stage", "sft", "--attempt", "1"]]
    assert arguments(world, "train", "more") == [
        ["train", "--stage", "more", "--attempt", "1", "--start-step", "40"]
    ]
    assert arguments(world, "gate") == [["gate", "--attempt", "1", "--stage", "more", "--step", "50"]]
    assert [c.stage for c in status.checkpoints] == ["sft"] * 5 + ["more"] * 5
    assert status.best_checkpoint is not None
    assert (status.best_checkpoint.stage, status.best_checkpoint.step) == ("more", 50)
    assert [(s.stage, s.step) for s in status.start] == [("sft", 0), ("more", 0)]
    assert (status.display.stage, status.display.best) == ("more 2/2", "step 50 (0.96)")


def test_later_stage_is_compared_with_the_jobs_base_model():
    world = two_stages()
    world.run()
    later = next(c for c in world.status().checkpoints if c.stage == "more")
    assert later.gates[0].golden is not None
    assert later.gates[0].golden.delta_points == {"BaseModel": "+81.0"}  # 91 against the base's 10


def test_stage_without_a_passing_checkpoint_starts_no_next_stage():
    world = two_stages(Script(checkpoints={50: 20}, later={"more": RISING}))
    status = world.run()
    assert status.phase is Phase.FAILED
    assert status.failure is not None
    assert status.failure.reason == Reason.NO_PASSING_CHECKPOINT
    assert arguments(world, "train", "more") == []


def test_continued_second_stage_keeps_its_start_checkpoint():
    world = two_stages(Script(later={"more": {**FALLING, 50: 95}}))
    status = world.run()
    assert status.phase is Phase.STOPPED
    assert status.stop is not None
    assert (status.stop.stage, status.stop.step) == ("more", 22)
    world.edit(annotations={CONTINUE_ANNOTATION: f'{{"stop": "{status.stop.id}", "reason": "known"}}'})
    assert world.run().phase is Phase.SUCCEEDED
    assert arguments(world, "train", "more") == [
        ["train", "--stage", "more", "--attempt", "1", "--start-step", "40"],
        ["train", "--stage", "more", "--attempt", "2", "--start-step", "40", "--accepted-step", "22"],
    ]
    assert len(arguments(world, "train", "sft")) == 1


@pytest.mark.parametrize("turns", [8, 12, 15, 20])
def test_restarted_operator_continues_in_the_current_stage(turns):
    world = two_stages()
    for _ in range(turns):
        world.settle()
        world.tick()
    world.boot()
    assert world.run().phase is Phase.SUCCEEDED
    assert [len(arguments(world, "train", stage)) for stage in ("sft", "more")] == [1, 1]


def test_failure_of_the_second_stage_does_not_restart_the_first():
    world = two_stages()
    world.until_job("train")
    for _ in range(30):
        world.settle()
        if arguments(world, "train", "more"):
            break
        world.tick()
    world.script.exits["train"] = [failed(ExitCode.INTERNAL_ERROR, "InternalError", "boom")] * 4
    status = world.run()
    assert status.phase is Phase.FAILED
    assert [len(arguments(world, "train", stage)) for stage in ("sft", "more")] == [1, 1]
    assert status.failure is not None
    assert "boom" in status.failure.message
