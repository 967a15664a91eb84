"""The operator crashes before and after every write for a job, and a new operator process continues."""

import json
import re
from typing import Any

import pytest

from support.builders import make_gate, make_job
from support.fake_cluster import Crash
from support.recorded import request_of
from support.world import REGRESSING, Script, World
from tunegate_api.contract.digests import sha256_text
from tunegate_api.v1alpha2.reasons import Phase
from tunegate_api.verdict.outcomes import VerdictState
from tunegate_operator.engine.cluster import Key
from tunegate_operator.finetunejob.last_report import POST_SECONDS
from tunegate_operator.names import CONTINUE_ANNOTATION, REQUEST_KEY, VERDICT_ANNOTATIONS

TTL = 600
APPROVED, OVERRIDDEN = 93, 50
"""How many golden cases the final model passes in a world whose gate requires a decision."""
UNMEASURED = 92
"""How many golden cases the final model passes in a world whose gate requires an error rate, which the gate
pod cannot measure."""


def live(world: World) -> None:
    """Run a job until it has ended and is cleaned up. If a gate stops training, decide to continue. If the
    final verdict awaits a decision, approve or override it."""
    world.run()
    if "waiting for its last report" in world.status().message:
        world.advance(POST_SECONDS)
        world.run()
    final = world.status().final
    if world.status().phase is Phase.AWAITING_APPROVAL and final:
        action = "approve" if final.verdict is VerdictState.PASSED else "override"
        decision = {"verdict": final.verdict_digest, "by": "ana", "reason": "accepted"}
        world.edit(annotations={VERDICT_ANNOTATIONS[action]: json.dumps(decision)})
        world.run()
    stop = world.status().stop
    if stop is not None:
        world.edit(annotations={CONTINUE_ANNOTATION: f'{{"stop": "{stop.id}", "reason": "accepted"}}'})
        world.run()
    if "ttlSecondsAfterFinished" in world.job()["spec"]:
        world.advance(TTL)
        world.run()


def new_world(
    checkpoints: dict[int, int], ttl: int | None = None, final: int = 94, *, posts: bool = False
) -> World:
    world = World(Script(checkpoints=dict(checkpoints), final=final, behind=["wandb"]), posts=posts)
    job = make_job().with_publish()
    if ttl:
        job.with_spec(ttlSecondsAfterFinished=ttl, tracking={"wandb": {"project": "orders"}})
    gate = make_gate()
    if final in (APPROVED, OVERRIDDEN):
        gate.with_spec(approval="Always")
    if final == UNMEASURED:
        gate.with_limits(test="NonInferior").with_spec(errorRate={"repeats": 4, "minDetection": "80%"})
    world.apply_all(job.obj(), gate.obj())
    return world


def end_state(world: World) -> dict[str, Any]:
    """Return the state that crashes of the operator must not change: everything except times, random names,
    and pods of role report, of which a crash may need one."""
    uid, gate_uid = world.job()["metadata"]["uid"], world.gate()["metadata"]["uid"]

    def masked(value: Any) -> Any:
        if isinstance(value, dict):
            times = (
                "time",
                "started",
                "finished",
                "startTime",
                "completionTime",
                "lastTransitionTime",
                "updated",
            )
            return {k: masked(v) for k, v in value.items() if k not in times}
        if isinstance(value, list):
            return [masked(v) for v in value]
        if isinstance(value, str):  # its first five digits only as a word: a digest may contain them
            return re.sub(rf"\b({uid[:5]}|{gate_uid[:5]})\b", "UID5", value.replace(uid, "UID"))
        return value

    status = masked(world.job()["status"])
    for field in ("runningSeconds", "gpuSeconds"):
        status.pop(field, None)
    status["plan"].pop("sha256")  # the plan and the request name the job's uid
    digest = sha256_text(request_of(world)["data"][REQUEST_KEY])
    status["requestSha256"] = "same" if status["requestSha256"] == digest else "another"
    status["attempts"] = [attempt for attempt in status["attempts"] if attempt["role"] != "report"]
    children = {
        kind: sorted(
            masked(o["metadata"]["name"])
            for o in world.cluster.as_user.list_objects(kind)
            if o["metadata"].get("ownerReferences") and "-report-" not in o["metadata"]["name"]
        )
        for kind in ("Job", "ConfigMap")
    }
    gate = world.gate()["status"]
    recorded = world.cluster.as_user.get(Key("ConfigMap", "default", gate["recordsConfigMap"]))
    assert recorded is not None
    records = json.loads(recorded["data"]["records.json"])["records"]
    judged = {"last": gate["lastVerdict"], "records": gate["records"], "recorded": records}
    return {"status": status, "children": children, "gate": masked(judged)}


LIVES = pytest.mark.parametrize(
    ("checkpoints", "ttl", "final"),
    [
        pytest.param(Script().checkpoints, None, 94, id="passes"),
        pytest.param(
            Script().checkpoints, TTL, 94, id="passes, tracked, cleaned up", marks=pytest.mark.exhaustive
        ),
        pytest.param(REGRESSING, None, 94, id="stopped, continued", marks=pytest.mark.exhaustive),
        pytest.param({50: 90}, None, APPROVED, id="approved", marks=pytest.mark.exhaustive),
        pytest.param({50: 90}, None, OVERRIDDEN, id="overridden", marks=pytest.mark.exhaustive),
        pytest.param({50: 90}, None, UNMEASURED, id="error rate not measured"),
    ],
)
POSTS = pytest.mark.parametrize(
    "posts",
    [pytest.param(False, id="laptop", marks=pytest.mark.exhaustive), pytest.param(True, id="cluster")],
)


@LIVES
@POSTS
def test_operator_crash_around_any_write_keeps_the_end_state(checkpoints, ttl, final, posts):
    world = new_world(checkpoints, ttl, final, posts=posts)
    deaths: list[tuple[int, World]] = []
    moments: list[object] = []

    def die() -> None:
        """Copy the world before a write, unless nothing changed since the previous copy."""
        if world.moment() not in moments[-1:]:
            moments.append(world.moment())
            deaths.append((len(world.cluster.writes), world.without_operator()))

    world.cluster.write_listener = die
    live(world)
    assert len(deaths) > len(world.cluster.writes) > 20
    undisturbed = new_world(checkpoints, ttl, final)
    live(undisturbed)
    expected = end_state(undisturbed)
    assert end_state(world) == expected

    for writes, dead in deaths:
        dead.boot()
        live(dead)
        assert end_state(dead) == expected, (
            f"died after {writes} writes, the next: {world.cluster.writes[writes:][:1]}"
        )


@pytest.mark.slow
@LIVES
@POSTS
def test_failed_write_does_not_change_the_end_state(checkpoints, ttl, final, posts):
    undisturbed = new_world(checkpoints, ttl, final)
    live(undisturbed)
    expected = end_state(undisturbed)

    for n, write in enumerate(undisturbed.cluster.writes, start=1):
        world = new_world(checkpoints, ttl, final, posts=posts)
        world.cluster.error_on(n)
        live(world)
        world.advance(1)  # what failed is retried soon
        live(world)
        assert end_state(world) == expected, f"write {n} failed: {write}"


def test_child_deletion_that_fails_at_the_deadline_is_retried():
    world = World()
    world.apply_all(make_job().with_spec(activeDeadlineSeconds=100).obj())
    world.until_checkpoint()
    (training,) = world.active_jobs()
    with world.cluster.unavailable():
        world.advance(200)
    world.advance(10)
    status = world.status()
    assert status.phase == "Failed"
    assert training["metadata"]["name"] not in world.jobs()


@pytest.mark.parametrize("n", [1, 2, 3, 4])
@pytest.mark.parametrize("moment", ["fail_before", "fail_after", "conflict"])
def test_deadline_fails_the_job_even_if_a_later_write_fails(moment, n):
    world = World()
    world.apply_all(make_job().with_spec(activeDeadlineSeconds=100).obj())
    world.until_checkpoint()
    before = world.jobs()
    if moment == "conflict":
        world.cluster.conflict(n)
    else:
        getattr(world.cluster, moment)(n)
    try:
        world.advance(200)
        world.advance(60)
        world.cluster.fail_before(10**6)  # in case there is no n-th write
    except Crash:
        world.boot()
    world.advance(60)
    status = world.run()
    assert status.failure is not None
    assert (status.phase, status.failure.reason) == ("Failed", "DeadlineExceeded")
    assert status.running_seconds >= 200
    assert [(a.role, a.result) for a in status.attempts] == [
        ("data", "Succeeded"),
        ("train", "DeadlineExceeded"),
    ]
    assert len(world.jobs()) == len(before) - 1, "no second Job, and the first is deleted"
    assert world.events().count("DeadlineExceeded") <= 1, (
        "a process that dies between status and event emits none"
    )


def test_job_continues_after_the_api_server_was_unavailable():
    world = new_world(Script().checkpoints)
    with world.cluster.unavailable():
        world.settle()
        world.advance(5)
    world.advance(10)
    assert world.run().phase == "Succeeded"


def test_status_conflict_repeats_the_decision():
    world = new_world(Script().checkpoints)
    world.cluster.conflict(times=3)
    for _ in range(5):
        world.advance(1)
    assert world.run().phase == "Succeeded"
