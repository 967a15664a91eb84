"""Scenarios of a job's life, which tests play with a simulated world."""

import json
from collections.abc import Callable
from copy import deepcopy

from support.builders import golden_text, make_config_map, make_gate, make_job, make_scores
from support.world import REGRESSING, SAMPLE, Script, World, failed
from tunegate_api.contract.process import ExitCode, Outcome, Termination
from tunegate_operator.names import CONTINUE_ANNOTATION, DISCARD_ANNOTATION, VERDICT_ANNOTATIONS

KILLED = (137, "")
Scenario = Callable[[World], None]


def passes(world: World) -> None:
    targets = [{"uri": "pvc://models/orders"}, {"uri": "pvc://backup/orders"}]
    world.apply_all(make_job().with_spec(publish=targets).obj())
    world.run()


def passes_unpublished(world: World) -> None:
    world.apply_all()
    world.run()


def decides(annotation: str) -> Scenario:
    def play(world: World) -> None:
        passes(world)
        stop = world.status().stop
        assert stop is not None
        world.advance(3600)
        decision = {"stop": stop.id, "reason": " reviewed by the data team "}
        world.edit(annotations={annotation: json.dumps(decision)})
        world.run()

    return play


def waits_for_everything(world: World) -> None:
    world.apply(make_job().with_spec(startTimeoutSeconds=100).obj())
    world.settle()
    for needed in (
        make_gate().obj(),
        make_config_map("cases", golden__jsonl=golden_text()),
        make_config_map("rows", train__jsonl="{}"),
    ):
        world.advance(30)
        world.apply(needed)
        world.settle()


def waits_too_long(world: World) -> None:
    waits_for_everything(world)
    (name,) = world.jobs()
    status = {
        "phase": "Pending",
        "conditions": [{"type": "PodScheduled", "status": "False", "message": "0/1 nodes are available"}],
    }
    world.cluster.pending_pod(name, status=status)
    world.settle()
    world.advance(99)
    world.advance(1)


def suspended_in_training(world: World, run: bool = True) -> None:
    gpu = make_job().with_spec(resources={"accelerator": "GPU", "gpu": {"count": 1}})
    world.apply_all(gpu.obj())
    world.until_checkpoint()
    (training,) = world.active_jobs()
    world.edit(suspend=True)
    world.settle()
    world.report_outcome(training, Outcome.INTERRUPTED)
    world.settle()
    world.advance(3600)
    world.edit(suspend=False)
    world.settle()
    if run:
        world.run()


def one_of_two_pods_is_killed(world: World) -> None:
    world.apply_all(make_job().with_spec(resources={"nodes": 2}).obj())
    world.until_checkpoint()
    (training,) = world.active_jobs()
    for index, (code, message) in enumerate(
        [failed(ExitCode.INTERNAL_ERROR, "PeerLost", "it is gone"), KILLED]
    ):
        world.cluster.finish_pod(training["metadata"]["name"], code, message, index=index)
    world.settle()
    world.advance(10)
    world.run()


def suspended_from_the_start(world: World) -> None:
    world.apply_all(make_job().with_spec(suspend=True).obj())
    world.settle()
    world.advance(3600)
    world.edit(suspend=False)
    world.run()


def suspended_when_stopped(world: World) -> None:
    """A suspended job records the decision to continue, but resumes training only after the suspension."""
    passes(world)
    world.edit(suspend=True)
    world.settle()
    stop = world.status().stop
    assert stop is not None
    decision = {"stop": stop.id, "reason": "reviewed"}
    world.edit(annotations={CONTINUE_ANNOTATION: json.dumps(decision)})
    world.settle()
    world.edit(suspend=False)
    world.settle()


def waits_for_its_volume(world: World) -> None:
    """A quota refuses the first pod, then its volume is still attached to another node. Only Events show
    these two reasons."""
    world.apply_all()
    world.settle()
    (job,) = world.active_jobs()
    quota = 'Error creating: pods "orders" is forbidden: exceeded quota: team, requested: pods=1'
    world.cluster.as_user.record_event(job, "Warning", "FailedCreate", quota)
    world.advance(10)
    pod = world.cluster.pending_pod(job["metadata"]["name"])
    world.settle()
    attached = 'Multi-Attach error for volume "pvc-1" Volume is already used by pod(s) other'
    world.cluster.as_user.record_event(pod, "Warning", "FailedAttachVolume", attached)
    world.advance(10)
    world.cluster.start_pod(job["metadata"]["name"])
    world.settle()


def evicted(world: World) -> None:
    """A pod of higher priority preempts the training pod. The next training pod resumes."""
    world.apply_all()
    world.until_checkpoint()
    (job,) = world.active_jobs()
    pod = world.cluster.finish_pod(job["metadata"]["name"], 75, disruption="preempted to accommodate a pod")
    conditions = [
        c | {"reason": "PreemptionByScheduler"} if c["type"] == "DisruptionTarget" else c
        for c in pod["status"]["conditions"]
    ]
    world.cluster.set_pod_status(job["metadata"]["name"], pod["status"] | {"conditions": conditions})
    world.settle()
    world.advance(60)
    world.cluster.start_pod(job["metadata"]["name"])
    world.settle()


def over_quota(world: World) -> None:
    world.cluster.forbid("Job", 'jobs.batch "orders" is forbidden: exceeded quota: team')
    world.apply_all()
    world.settle()
    world.advance(1)
    world.cluster.forbid("Job", None)
    world.advance(60)


def killed_again_and_again(world: World) -> None:
    world.apply_all()
    world.until_checkpoint()
    world.script.exits["train"] = [KILLED] * 8
    world.run()


def runs_out_of_time(world: World) -> None:
    world.apply_all(make_job().with_spec(activeDeadlineSeconds=100).obj())
    world.until_checkpoint()
    world.advance(60)
    world.advance(100)


def out_of_memory(world: World) -> None:
    world.apply_all()
    world.until_checkpoint()
    (name,) = [job["metadata"]["name"] for job in world.active_jobs()]
    world.cluster.finish_pod(name, 137, reason="OOMKilled")
    world.settle()


def last_report_lost(world: World) -> None:
    world.apply_all()
    world.settle()
    complete_without_report(world)


def report_of_a_second_attempt_lost(world: World) -> None:
    suspended_in_training(world, run=False)
    complete_without_report(world)


def gate_report_lost(world: World) -> None:
    world.apply_all()
    world.until_job("gate")
    complete_without_report(world)


def stopped_for_no_reason(world: World) -> None:
    """The trainer reports at its last step that a gate stopped it, but its outcomes show no regression."""
    world.apply_all()
    while world.status().progress is None or world.status().progress.step < 50:
        world.tick()
        world.settle()
    (training,) = world.active_jobs()
    world.report_outcome(training, Outcome.STOPPED)
    termination = Termination(exit_code=0, outcome=Outcome.STOPPED).model_dump_json()
    world.cluster.complete_job(training["metadata"]["name"], termination)
    world.settle()


def publish_report_lost(world: World) -> None:
    world.apply_all(make_job().with_publish().obj())
    world.until_job("publish")
    complete_without_report(world)


def complete_without_report(world: World) -> None:
    """The operator is down for a minute. The timeout for the last report counts from the end of the pod."""
    (job,) = world.active_jobs()
    termination = Termination(exit_code=0, outcome=Outcome.COMPLETED).model_dump_json()
    world.cluster.complete_job(job["metadata"]["name"], termination)
    world.advance(60)
    world.advance(59)
    world.advance(1)


def operator_is_slow(world: World) -> None:
    """The operator observes each change of a pod ten seconds late. Status shows the times of the pods."""
    world.apply_all(make_job().with_publish().obj())
    for _ in range(40):
        world.settle()
        if not world.tick():
            return
        world.clock.advance(10)


def out_of_memory_while_the_operator_was_away(world: World) -> None:
    world.apply_all()
    world.until_checkpoint()
    (name,) = [job["metadata"]["name"] for job in world.active_jobs()]
    world.cluster.finish_pod(name, 137, reason="OOMKilled")
    world.cluster.fail_job(name, "PodFailurePolicy")
    world.settle()


def refused_by_the_cluster(world: World) -> None:
    world.cluster.refuse("Job", "spec.template: invalid image name")
    world.apply_all()
    world.settle()
    world.advance(1)


def contradicts_itself(world: World) -> None:
    world.apply_all(make_job().with_spec(gates=[]).without("model").with_training(batchSize=0).obj())
    world.settle()


def ends_without_a_pod(world: World) -> None:
    world.apply_all()
    world.settle()
    world.cluster.fail_job(world.jobs()[0], "DeadlineExceeded")
    world.settle()


def bad(role: str, code: int, message: str = "") -> Script:
    return Script(exits={role: [(code, message)] * 4})


MUST_PASS = make_gate().with_critical("case-94").obj()


def loses_a_must_pass_case(world: World) -> None:
    world.apply_all(gate=MUST_PASS)
    world.run()


def compares_with_the_last_published(world: World) -> None:
    gate = make_gate().with_spec(compareWith=[{"type": "BaseModel"}, {"type": "LastPublished"}]).obj()
    world.apply_all(make_job("first").with_publish().obj(), gate)
    world.run("first")
    world.outbox.clear()
    world.apply(make_job("second").with_publish().obj())
    world.run("second")


def suspended_while_gating(world: World) -> None:
    world.apply_all()
    world.until_job("gate")
    world.edit(suspend=True)
    world.settle()
    world.edit(suspend=False)
    world.settle()


def edited_after_the_end(world: World) -> None:
    passes_unpublished(world)
    world.edit(suspend=True)
    world.settle()


def cleaned_up(world: World) -> None:
    world.apply_all(make_job().with_publish().with_spec(ttlSecondsAfterFinished=3600).obj())
    world.run()
    world.advance(3600)
    world.run()


def held_while_training(world: World) -> None:
    """The operator is rolled back to a version that does not know a field of the spec."""
    world.apply_all()
    world.until_checkpoint()
    spec = world.job()["spec"]
    world.edit(mixing={"ratio": "0.5"})
    world.settle()
    world.tick()
    world.advance(3600)
    world.cluster.as_user.replace(world.job() | {"spec": spec})
    world.run()


def reviewed(bad: int) -> Scenario:
    """Two people review the sample: one scores half of it, and a day later the other scores the rest, and
    ``bad`` rows of the first half as bad."""

    def play(world: World) -> None:
        data = make_job().obj()["spec"]["data"] | {"quality": {"minScore": "80%"}}
        world.apply_all(make_job().with_spec(data=data).obj())
        world.run()
        ids = [row.id for row in SAMPLE.rows]
        world.apply(make_scores("ana", SAMPLE.sha256, reviewer="ana", **dict.fromkeys(ids[:5], True)))
        world.advance(24 * 3600)
        rest: dict[str, object] = dict.fromkeys(ids[5:], True)
        rest |= {id: {"good": False, "note": "wrong total"} for id in ids[:bad]}
        world.apply(make_scores("ben", SAMPLE.sha256, reviewer="ben", **rest))
        world.run()

    return play


def decides_about_the_verdict(action: str, **gate: str) -> Scenario:
    """A person decides about the final verdict an hour after it is known."""

    def play(world: World) -> None:
        world.apply_all(make_job().with_publish().obj(), make_gate().with_spec(**gate).obj())
        world.run()
        final = world.status().final
        assert final is not None
        world.advance(3600)
        decision = {"verdict": final.verdict_digest, "by": "ana", "reason": " reviewed with the team "}
        world.edit(annotations={VERDICT_ANNOTATIONS[action]: json.dumps(decision)})
        world.run()

    return play


SCENARIOS: dict[str, tuple[Scenario, Script]] = {
    "passes": (passes, Script()),
    "passes-unpublished": (passes_unpublished, Script()),
    "stopped-then-continued": (decides(CONTINUE_ANNOTATION), Script(checkpoints=REGRESSING)),
    "stopped-then-discarded": (decides(DISCARD_ANNOTATION), Script(checkpoints=REGRESSING)),
    "stopped-with-many-regressed": (passes, Script(checkpoints={10: 95, 20: 84, 25: 84, 50: 99})),
    "must-pass-lost": (loses_a_must_pass_case, Script(base=95, checkpoints={10: 93, 20: 99, 50: 99})),
    "regression-not-confirmed": (passes, Script(checkpoints={10: 95, 20: 88, 30: 94, 50: 96})),
    "compared-with-last-published": (compares_with_the_last_published, Script()),
    "no-checkpoint-passes": (passes, Script(checkpoints={10: 60, 20: 70, 50: 75})),
    "gate-failed": (passes, Script(final=79, test="p" * 4 + "f" * 6)),
    "gate-error": (passes, Script(final="p" * 50)),
    "gate-inconclusive": (passes, Script(test="")),
    "approved": (decides_about_the_verdict("approve", approval="WhenPassed"), Script()),
    "rejected": (decides_about_the_verdict("reject", approval="WhenPassed"), Script()),
    "overridden": (decides_about_the_verdict("override", approval="WhenFailed"), Script(final=79)),
    "waits-for-everything": (waits_for_everything, Script()),
    "waits-too-long": (waits_too_long, Script()),
    "suspended": (suspended_in_training, Script()),
    "two-pods": (one_of_two_pods_is_killed, Script()),
    "suspended-while-gating": (suspended_while_gating, Script()),
    "suspended-from-the-start": (suspended_from_the_start, Script()),
    "suspended-when-stopped": (suspended_when_stopped, Script(checkpoints=REGRESSING)),
    "waits-for-its-volume": (waits_for_its_volume, Script()),
    "over-quota": (over_quota, Script()),
    "evicted": (evicted, Script()),
    "edited-after-the-end": (edited_after_the_end, Script()),
    "held-while-training": (held_while_training, Script()),
    "cleaned-up": (cleaned_up, Script()),
    "cleanup-failed": (cleaned_up, bad("cleanup", *failed(ExitCode.STORAGE, "Storage", "full"))),
    "gate-ends-badly": (passes, Script(exits={"gate": [failed(ExitCode.USER_ERROR, "UserError", "no")]})),
    "killed-again-and-again": (killed_again_and_again, Script()),
    "out-of-time": (runs_out_of_time, Script()),
    "out-of-memory": (out_of_memory, Script()),
    "out-of-memory-seen-late": (out_of_memory_while_the_operator_was_away, Script()),
    "last-report-lost": (last_report_lost, Script()),
    "last-report-of-second-attempt-lost": (report_of_a_second_attempt_lost, Script()),
    "gate-report-lost": (gate_report_lost, Script()),
    "stopped-for-no-reason": (stopped_for_no_reason, Script()),
    "publish-report-lost": (publish_report_lost, Script()),
    "operator-slow": (operator_is_slow, Script()),
    "refused": (refused_by_the_cluster, Script()),
    "invalid": (contradicts_itself, Script()),
    "no-pod": (ends_without_a_pod, Script()),
    "bad-data": (passes, Script(exits={"data": [failed(ExitCode.BAD_DATA, "BadData", "line 3: no prompt")]})),
    "reviewed": (reviewed(bad=0), Script()),
    "review-failed": (reviewed(bad=3), Script()),
    "unknown-end": (passes, bad("data", 1, "Traceback\nValueError: odd")),
    "killed-before-training": (passes, bad("train", *KILLED)),
    **{f"exit-{int(code)}": (passes, bad("data", int(code))) for code in ExitCode if code.is_permanent},
}


def new_world(name: str) -> tuple[Scenario, World]:
    """Return the scenario with this name, and a world in which it has not been played yet."""
    play, script = SCENARIOS[name]
    return play, World(deepcopy(script))
