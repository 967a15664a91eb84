"""Events about evaluated checkpoints."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from support.builders import make_job
from support.world import DIGEST, Script, World
from tunegate_api.v1alpha2 import FineTuneJobStatus
from tunegate_api.v1alpha2.evaluation_status import (
    CheckpointReference,
    CheckpointStatus,
    GateResult,
    GoldenStatus,
)
from tunegate_api.v1alpha2.finetunejob_status import MAX_CHECKPOINTS, ModelStatus, PlanStatus, StageSummary
from tunegate_api.verdict.outcomes import VerdictState
from tunegate_operator.finetunejob.checkpoint_events import (
    MAX_AT_ONCE,
    MAX_OF_A_STAGE,
    checkpoint_events,
)

STEPS = 173


def result(name: str = "golden", verdict: VerdictState = VerdictState.PASSED) -> GateResult:
    golden = GoldenStatus(passed=96, total=100, rate="0.96", best_so_far="0.97")
    return GateResult(name=name, golden=golden, verdict=verdict)


def job_status(*checkpoints: CheckpointStatus, steps: int = STEPS) -> FineTuneJobStatus:
    """Return the status of a job with the stages sft and dpo, each of ``steps`` optimizer steps."""
    stages = [StageSummary(stage=name, steps=steps, tokens=1000) for name in ("sft", "dpo")]
    model = ModelStatus(uri="package://tiny", digest=DIGEST)
    plan = PlanStatus(sha256=DIGEST, config_map="orders-plan", model=model, stages=stages)
    return FineTuneJobStatus(plan=plan, checkpoints=list(checkpoints))


def checkpoint(step: int, *gates: GateResult, stage: str = "sft") -> CheckpointStatus:
    return CheckpointStatus(stage=stage, step=step, gates=list(gates or [result()]))


def test_event_names_step_and_each_gates_verdict_and_pass_rate() -> None:
    new = job_status(checkpoint(70, result(), result("format", VerdictState.INCONCLUSIVE)))
    (event,) = checkpoint_events(job_status(), new)
    assert (event.type, event.reason) == ("Normal", "CheckpointEvaluated")
    assert event.message == (
        "sft step 70 of 173: golden Passed, golden 96/100 = 0.96, best so far 0.97; "
        "format Inconclusive, golden 96/100 = 0.96, best so far 0.97"
    )


@pytest.mark.parametrize("has_passed", [False, True])
@pytest.mark.parametrize("verdict", VerdictState)
def test_error_or_late_failure_makes_the_event_a_warning(verdict: VerdictState, has_passed: bool) -> None:
    best = CheckpointReference(stage="sft", step=60) if has_passed else None
    new = job_status(checkpoint(70, result(), result("b", verdict)))
    (event,) = checkpoint_events(job_status(), new.model_copy(update={"best_checkpoint": best}))
    is_warning = verdict is VerdictState.ERROR or (verdict is VerdictState.FAILED and has_passed)
    assert event.type == ("Warning" if is_warning else "Normal")


def test_evenly_spaced_checkpoints_each_have_an_event() -> None:
    found = [checkpoint(STEPS * n // MAX_OF_A_STAGE) for n in range(1, MAX_OF_A_STAGE + 1)]
    for number in range(len(found)):
        events = checkpoint_events(job_status(*found[:number]), job_status(*found[: number + 1]))
        assert len(events) == 1, found[number].step


def test_after_an_outage_the_newest_checkpoints_have_events() -> None:
    steps = range(10, 171, 10)
    events = checkpoint_events(job_status(), job_status(*map(checkpoint, steps)))
    assert [event.message.split()[2] for event in events] == [str(step) for step in steps[-MAX_AT_ONCE:]]


def test_best_checkpoint_that_returns_to_status_has_no_second_event() -> None:
    old = job_status(*map(checkpoint, (100, 110)))
    new = job_status(*map(checkpoint, (50, 100, 110)))
    assert checkpoint_events(old, new) == []


def test_each_stage_has_events_of_its_own() -> None:
    of_sft = [checkpoint(STEPS)]
    new = job_status(*of_sft, checkpoint(10, stage="dpo"))
    (event,) = checkpoint_events(job_status(*of_sft), new)
    assert event.message.startswith("dpo step 10 of 173: ")


@given(
    st.integers(1, 400).flatmap(
        lambda steps: st.tuples(st.just(steps), st.sets(st.integers(1, steps), max_size=120))
    ),
    st.lists(st.integers(1, 30), min_size=120, max_size=120),
)
def test_stage_has_at_most_twenty_events_and_none_twice(
    stage: tuple[int, set[int]], batches: list[int]
) -> None:
    """Checkpoints arrive in batches of any size, and status lists only the newest of them."""
    total, steps = stage
    left = sorted(steps)
    done: list[int] = []
    messages: list[str] = []
    status = job_status(steps=total)
    for size in batches:
        done, left = done + left[:size], left[size:]
        new = job_status(*map(checkpoint, done[-MAX_CHECKPOINTS:]), steps=total)
        events = checkpoint_events(status, new)
        assert len(events) <= MAX_AT_ONCE
        assert checkpoint_events(new, new) == []
        messages += [event.message for event in events]
        status = new
    assert len(messages) == len(set(messages)) <= MAX_OF_A_STAGE
    assert bool(messages) is bool(steps)


def test_restarted_operator_emits_no_event_twice() -> None:
    world = World(Script(checkpoints=dict.fromkeys(range(1, 51), 90)))
    world.apply_all(make_job().with_publish().obj())
    for turn in range(80):
        world.settle()
        if turn % 7 == 0:
            world.boot()
        if not world.tick():
            break
    messages = [message for _, _, reason, message in world.cluster.events if reason == "CheckpointEvaluated"]
    assert len(messages) == len(set(messages)) == MAX_OF_A_STAGE
