"""A report that its pod could not send is sent by a report pod, or the job fails with reason
ReportMissing."""

import pytest

from support.builders import make_gate
from support.world import DIGEST, Script, World
from tunegate_api.contract.process import ExitCode, Outcome, Termination
from tunegate_api.v1alpha2.reasons import Phase, Reason
from tunegate_operator.engine.cluster import Key
from tunegate_operator.engine.objects import uid_of
from tunegate_operator.finetunejob.last_report import POST_SECONDS


def unreachable_at_the_end_of(role: str, script: Script | None = None) -> World:
    """Return a world whose pod of this role ended while the operator was unreachable."""
    world = World(script, posts=True)
    world.apply_all()
    world.until_job(role)
    world.is_reachable = False
    while not any(pod["status"].get("phase") == "Succeeded" for pod in pods(world, role)):
        world.tick()
        world.settle()
    return world


def pods(world: World, role: str):
    names = [name for name in world.jobs() if f"-{role}-" in name]
    return [pod for name in names for pod in world.cluster.pods_of(name)]


def test_report_pod_sends_a_missing_last_report():
    world = unreachable_at_the_end_of("gate")
    assert "waiting for its last report" in world.status().message
    assert not pods(world, "report")
    world.advance(POST_SECONDS)
    (report_job,) = [
        job for job in world.active_jobs() if job["metadata"]["labels"]["tunegate.dev/role"] == "report"
    ]
    container = report_job["spec"]["template"]["spec"]["containers"][0]
    assert "nvidia.com/gpu" not in container["resources"]["limits"]
    assert world.status().phase is Phase.GATING
    world.is_reachable = True
    assert world.run().phase is Phase.SUCCEEDED
    assert [(a.role, a.result) for a in world.status().attempts][-1] == ("report", "Succeeded")


def test_resumed_job_is_gating_while_awaiting_a_report():
    world = unreachable_at_the_end_of("gate")
    world.edit(suspend=True)
    world.settle()
    world.advance(POST_SECONDS)
    world.edit(suspend=False)
    world.settle()
    assert world.status().phase is Phase.GATING
    assert world.condition("Reconciling").status == "True"
    world.is_reachable = True
    assert world.run().phase is Phase.SUCCEEDED


def test_report_pod_sends_training_outcomes_before_the_gate_starts():
    """The gate cannot start without the outcomes of the last checkpoint."""
    world = unreachable_at_the_end_of("train")
    world.advance(POST_SECONDS)
    world.is_reachable = True
    status = world.run()
    assert status.phase is Phase.SUCCEEDED
    assert [c.step for c in status.checkpoints] == [10, 20, 30, 40, 50]


def test_wait_for_a_report_continues_when_child_jobs_are_deleted():
    world = unreachable_at_the_end_of("train")
    for job in world.cluster.as_user.list_objects("Job"):
        world.cluster.as_user.delete(Key.of(job), uid_of(job))
    world.settle()
    assert "waiting for its last report" in world.status().message
    world.advance(POST_SECONDS)
    world.is_reachable = True
    assert world.run().phase is Phase.SUCCEEDED


def test_second_step_with_missing_report_gets_own_report_pod():
    world = unreachable_at_the_end_of("data")
    world.advance(POST_SECONDS)
    world.is_reachable = True
    world.until_job("gate")
    world.is_reachable = False
    while not any(pod["status"].get("phase") == "Succeeded" for pod in pods(world, "gate")):
        world.tick()
        world.settle()
    world.advance(POST_SECONDS)
    world.is_reachable = True
    assert world.run().phase is Phase.SUCCEEDED
    assert [a.number for a in world.status().attempts if a.role == "report"] == [1, 2]


def test_report_that_the_report_pod_cannot_send_fails_the_job():
    world = unreachable_at_the_end_of("gate")
    world.advance(POST_SECONDS)
    while world.active_jobs():
        world.tick()
        world.settle()
    world.advance(POST_SECONDS)
    failure = world.status().failure
    assert failure is not None
    assert failure.reason == Reason.REPORT_MISSING


def test_failed_report_pod_is_named_in_the_failure():
    script = Script(exits={"report": [(ExitCode.INTERNAL_ERROR, "no route to host")] * 10})
    world = unreachable_at_the_end_of("gate", script)
    world.advance(POST_SECONDS)
    world.run()
    failure = world.status().failure
    assert failure is not None
    assert failure.reason == Reason.REPORT_MISSING
    assert "no route to host" in failure.message


def restarted_before_the_pod_ended(
    role: str, outcome: Outcome, *, wrote_report: bool = True, after_an_eviction: bool = False
) -> World:
    """Return a world whose operator was restarted after it had acknowledged the reports of a pod, and before
    the pod ended with ``outcome``. The new operator has started a report pod, which finds nothing to send.
    With ``after_an_eviction``, another pod of the Job had written a last report before."""
    gate = make_gate().with_limits(test="NonInferior")
    gate.with_spec(errorRate={"repeats": 4, "minDetection": "80%"})
    world = World(posts=True)
    world.apply_all(gate=gate.obj())
    world.until_job(role)
    (job,) = world.active_jobs()
    world.tick()
    if after_an_eviction:
        evicted = Termination(exit_code=1, outcome=Outcome.INTERRUPTED, report_sha256=DIGEST)
        message = evicted.model_dump_json(by_alias=True)
        world.cluster.finish_pod(job["metadata"]["name"], 1, message, disruption="EvictionByEvictionAPI")
        world.advance(10)
        world.cluster.start_pod(job["metadata"]["name"])
    while role == "train" and max((c.step for c in world.status().checkpoints), default=0) < 50:
        world.tick()
        world.settle()
    results = world.script.final_results(40) if role == "gate" else None
    world.report_outcome(job, outcome if wrote_report else None, results)
    world.settle()
    world = world.without_operator()
    world.boot()
    ended = Termination(exit_code=0, outcome=outcome, report_sha256=DIGEST if wrote_report else None)
    world.cluster.finish_pod(job["metadata"]["name"], 0, ended.model_dump_json(by_alias=True))
    world.settle()
    world.advance(POST_SECONDS)
    world.run()
    assert pods(world, "report")
    return world


def test_gate_without_error_rate_ends_equally_after_a_restart():
    status = restarted_before_the_pod_ended("gate", Outcome.COMPLETED).status()
    assert status.failure is not None
    assert status.failure.reason == Reason.GATE_ERROR
    assert "the error rate was not measured" in status.failure.message
    assert status.final is not None


def test_training_stop_without_reason_is_found_after_a_restart():
    failure = restarted_before_the_pod_ended("train", Outcome.STOPPED).status().failure
    assert failure is not None
    assert failure.reason == Reason.GATE_ERROR
    assert "give no reason to stop" in failure.message


@pytest.mark.parametrize("after_an_eviction", [False, True])
def test_last_report_never_written_is_missing_after_a_restart(after_an_eviction):
    world = restarted_before_the_pod_ended(
        "gate", Outcome.COMPLETED, wrote_report=False, after_an_eviction=after_an_eviction
    )
    world.advance(POST_SECONDS)
    failure = world.status().failure
    assert failure is not None
    assert failure.reason == Reason.REPORT_MISSING
