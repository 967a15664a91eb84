"""Status shows the memory that a job needs, the time and memory that it used, and what a stop saved."""

from support.builders import make_job
from support.model_shapes import QWEN_7B
from support.world import REGRESSING, STAGE, Script, World, plan_for
from tunegate_api.contract.plan import Plan
from tunegate_api.contract.shapes import Pass
from tunegate_api.memory.estimate import estimate
from tunegate_api.v1alpha2.finetunejob import FineTuneJobSpec
from tunegate_operator.finetunejob.cost import memory_of

GPUS = make_job().with_spec(resources={"accelerator": "GPU", "gpu": {"count": 1}})


def test_cost_shows_speed_memory_and_evaluation_time_share() -> None:
    world = World()
    world.apply_all()
    cost = world.run().cost
    assert cost is not None
    (stage,) = cost.stages
    assert (stage.stage, stage.steps, stage.tokens) == (STAGE, 50, 50_000)
    assert (stage.training_seconds, stage.evaluation_seconds) == ("100.0", "30.0")  # 2 s a step, 6 times 5 s
    assert stage.tokens_per_second == "500"
    assert stage.peak_process_memory == "1.0 GiB"
    assert stage.peak_gpu_memory is None
    assert (cost.training_seconds, cost.evaluation_seconds) == ("100.0", "40.0")  # with the two of the gate
    assert cost.evaluation_share == "0.29"


def test_cost_lists_each_stage() -> None:
    later = dict.fromkeys((10, 20, 30, 40, 50), 91)
    world = World(Script(later={"more": later}))
    stages = [{"name": n, "method": "SFT", "adapter": {"type": "LoRA"}} for n in (STAGE, "more")]
    world.apply_all(make_job().with_spec(stages=stages).obj())
    cost = world.run().cost
    assert cost is not None
    assert [stage.stage for stage in cost.stages] == [STAGE, "more"]
    assert cost.training_seconds == "200.0"


def test_cost_is_kept_if_the_restarted_operator_has_no_reports() -> None:
    world = World()
    world.apply_all()
    world.until_job("gate")
    before = world.status().cost
    world.outbox.clear()
    world.boot()
    world.settle()
    assert before is not None
    assert world.status().cost == before


def test_seconds_saved_by_a_stop_come_from_measured_times() -> None:
    world = World(Script(checkpoints=REGRESSING))
    world.apply_all(GPUS.obj())
    stop = world.run().stop
    assert stop is not None
    assert (stop.step, stop.steps_saved) == (35, 15)
    assert stop.seconds_saved == 15 * 2 + 2 * 5  # checkpoints 40 and 50
    assert stop.gpu_seconds_saved == stop.seconds_saved


def test_saved_gpu_seconds_include_all_gpus() -> None:
    world = World(Script(checkpoints=REGRESSING))
    world.apply_all(GPUS.with_spec(resources={"accelerator": "GPU", "nodes": 2, "gpu": {"count": 2}}).obj())
    stop = world.run().stop
    assert stop is not None
    assert stop.gpu_seconds_saved == 4 * stop.seconds_saved


def test_saved_gpu_seconds_are_zero_on_a_cpu() -> None:
    world = World(Script(checkpoints=REGRESSING))
    world.apply_all()
    stop = world.run().stop
    assert stop is not None
    assert (stop.seconds_saved, stop.gpu_seconds_saved) == (40, 0)


def test_plan_shows_needed_memory_of_each_stage_by_part() -> None:
    plan = plan_for("uid")
    (stage,) = plan.stages
    memory = estimate(QWEN_7B, stage.parameters, Pass.of([512] * 8, 2048), accelerator="GPU")
    sized = Plan.model_validate(
        plan.model_dump() | {"stages": [stage.model_dump() | {"memory": memory.model_dump()}]}
    )
    spec = make_job().with_spec(resources={"accelerator": "GPU"}).obj()["spec"]
    (shown,) = memory_of(sized, FineTuneJobSpec.model_validate(spec))
    assert shown.stage == STAGE
    assert shown.parts.startswith("weights 28.4 GiB + ")
    assert shown.parts.endswith(f" = {shown.total}")
    assert shown.needed is not None
    assert float(shown.needed.split()[0]) > float(shown.total.split()[0])
