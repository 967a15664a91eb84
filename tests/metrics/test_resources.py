"""Metrics of FineTuneJobs and EvalGates, from the status that the operator writes in a fake cluster."""

import json

import pytest
from prometheus_client.core import Metric
from prometheus_client.parser import text_string_to_metric_families

from support.builders import golden_text, make_gate, make_job
from support.world import DIGEST, REGRESSING, Script, World, letters
from tunegate_api.contract.digests import sha256_text
from tunegate_api.contract.results import ErrorRateOutcomes, PlantedRegression
from tunegate_api.v1alpha2 import EvalGate
from tunegate_operator.engine.cluster import Key, Object
from tunegate_operator.engine.objects import uid_of
from tunegate_operator.metrics.page import FINISHED_HOURS, ResourcePage
from tunegate_operator.names import APPROVE_ANNOTATION

SUBJECTS = ("start", "last", "best", "final")
JOB = {"namespace": "default", "finetunejob": "orders"}


class Scrape:
    """What Prometheus stores of a world if an operator starts and is scraped now."""

    def __init__(self, world: World, *, is_leader: bool = True) -> None:
        self.page = ResourcePage(world.cache.by_uid, world.clock, lambda: is_leader)
        for kind in ("FineTuneJob", "EvalGate"):
            for obj in world.cluster.as_user.list_objects(kind):
                self.page.changed(kind, uid_of(obj))

    def families(self) -> list[Metric]:
        return list(text_string_to_metric_families(self.page.text().decode()))

    def value(self, name: str, **labels: str) -> float | None:
        samples = [sample for family in self.families() for sample in family.samples]
        return next((s.value for s in samples if (s.name, s.labels) == (f"tunegate_{name}", labels)), None)

    def of_job(self, name: str, **labels: str) -> float | None:
        return self.value(f"finetunejob_{name}", **JOB, **labels)

    def samples(self, metric: str) -> list[dict[str, str]]:
        """Return the labels of all samples of a metric."""
        return [
            sample.labels
            for each in self.families()
            for sample in each.samples
            if each.name == f"tunegate_{metric}"
        ]


def finished(script: Script | None = None) -> World:
    world = World(script)
    world.apply_all()
    world.run()
    return world


def test_succeeded_job_has_phase_pass_ratios_and_verdict():
    world = finished()
    scrape = Scrape(world)
    assert scrape.value("finetunejobs", namespace="default", phase="Succeeded", reason="Succeeded") == 1
    assert scrape.of_job("phase", phase="Succeeded", reason="Succeeded") == 1
    ended = world.status().completion_time
    assert ended is not None
    assert scrape.of_job("phase_start_timestamp_seconds", phase="Succeeded") == ended.timestamp()
    rates = {s: scrape.of_job("golden_pass_ratio", evalgate="golden", subject=s) for s in SUBJECTS}
    assert rates == {"start": 0.1, "last": 0.92, "best": 0.94, "final": 0.94}
    assert scrape.of_job("golden_delta_ratio", evalgate="golden", baseline="BaseModel") == 0.84
    assert scrape.of_job("verdict", evalgate="golden", verdict="Passed", dry_run="false") == 1
    for metric in ("progress_ratio", "last_report_timestamp_seconds", "last_checkpoint_timestamp_seconds"):
        assert scrape.samples(f"finetunejob_{metric}") == [], "it trains no more"


def test_training_job_has_progress_and_time_of_last_report():
    world = World()
    world.apply_all()
    world.until_checkpoint()
    scrape = Scrape(world)
    progress = world.status().progress
    assert progress is not None
    assert scrape.of_job("progress_ratio", stage="sft") == progress.percent / 100
    assert scrape.of_job("last_report_timestamp_seconds") == progress.updated.timestamp()
    evaluated = world.status().checkpoints[-1].time
    assert evaluated is not None
    assert scrape.of_job("last_checkpoint_timestamp_seconds") == evaluated.timestamp()
    labels = {"evalgate": "golden", "verdict": "Failed", "dry_run": "false"}
    assert scrape.of_job("verdict", **labels) == 1, "of the checkpoint"
    lifecycle = {entry.stage: entry for entry in world.status().lifecycle}
    started = lifecycle["FineTuning"].started
    assert started is not None
    assert scrape.of_job("phase_start_timestamp_seconds", phase="Training") == started.timestamp()


def test_stopped_job_has_saved_steps_and_time_of_the_stop():
    world = finished(Script(checkpoints=REGRESSING))
    stop = world.status().stop
    assert stop is not None
    scrape = Scrape(world)
    assert scrape.of_job("steps_saved") == stop.steps_saved > 0
    assert scrape.of_job("phase_start_timestamp_seconds", phase="Stopped") == stop.time.timestamp()


def test_waiting_job_exports_the_time_when_its_wait_began():
    world = World()
    world.apply(make_job().obj())
    world.settle()
    since = world.status().waiting_since
    assert since is not None
    world.advance(600)
    assert Scrape(world).of_job("phase_start_timestamp_seconds", phase="Pending") == since.timestamp()


def end_of_last_pod(world: World) -> float:
    ended = world.status().attempts[-1].finished
    assert ended is not None
    return ended.timestamp()


def test_suspended_job_has_the_time_of_its_suspension():
    world = World()
    world.apply_all()
    world.until_checkpoint()
    world.advance(100)
    world.edit(suspend=True)
    world.run()
    assert world.status().phase == "Suspended"
    ended = end_of_last_pod(world)
    world.advance(50)
    start = Scrape(world).of_job("phase_start_timestamp_seconds", phase="Suspended")
    assert start == ended


def test_queued_later_stage_has_start_of_its_own_wait():
    stages = [
        {"name": name, "method": "SFT", "adapter": {"type": "LoRA"}, "training": {"maxSteps": 50}}
        for name in ("sft", "polish")
    ]
    world = World(Script(later={"polish": {50: 95}}))
    world.apply_all(make_job().with_spec(stages=stages).obj())
    world.until_checkpoint()
    world.advance(3 * 3600)
    while not any("-polish-" in name for name in world.jobs()):
        world.tick()
        world.settle()
    assert world.status().phase == "Queued"
    queued = world.clock.now().timestamp()
    start = Scrape(world).of_job("phase_start_timestamp_seconds", phase="Queued")
    assert start == pytest.approx(queued, abs=2)


@pytest.mark.parametrize("phase", ["Queued", "Training", "Gating"])
def test_resumed_job_has_the_time_of_its_resumption(phase):
    world = World()
    world.apply_all()
    world.until_job("gate" if phase == "Gating" else "train")
    world.cluster.start_pod(world.active_jobs()[0]["metadata"]["name"])
    world.advance(100)
    world.edit(suspend=True)
    world.settle()
    world.advance(7 * 3600)
    world.edit(suspend=False)
    world.settle()
    resumed = world.clock.now().timestamp()
    if phase == "Training":
        world.tick()
        world.settle()
    assert world.status().phase == phase
    start = Scrape(world).of_job("phase_start_timestamp_seconds", phase=phase)
    assert start == pytest.approx(resumed, abs=1)


def test_publishing_starts_with_the_approval():
    world = World()
    world.apply_all(make_job().with_publish().obj(), make_gate().with_spec(approval="WhenPassed").obj())
    world.run()
    final = world.status().final
    assert final is not None
    world.advance(3 * 24 * 3600)
    decision = {"verdict": final.verdict_digest, "by": "ana", "reason": "reviewed"}
    world.edit(annotations={APPROVE_ANNOTATION: json.dumps(decision)})
    world.settle()
    assert world.status().phase == "Publishing"
    start = Scrape(world).of_job("phase_start_timestamp_seconds", phase="Publishing")
    assert start == pytest.approx(world.clock.now().timestamp(), abs=1)


def test_job_awaiting_review_has_the_end_of_data_pod():
    world = World()
    job = make_job()
    job.spec["data"]["quality"] = {"minScore": "80%"}
    world.apply_all(job.obj())
    world.run()
    assert world.status().phase == "AwaitingReview"
    ended = end_of_last_pod(world)
    world.advance(3600)
    start = Scrape(world).of_job("phase_start_timestamp_seconds", phase="AwaitingReview")
    assert start == ended


def test_job_finished_a_day_ago_is_only_counted_by_phase():
    world = finished()
    world.clock.advance(FINISHED_HOURS * 3600)
    scrape = Scrape(world)
    assert scrape.value("finetunejobs", namespace="default", phase="Succeeded", reason="Succeeded") == 1
    assert scrape.samples("finetunejob_phase") == []


class Reads:
    """The operator's cache, which counts the objects that are read for their metrics."""

    def __init__(self, world: World) -> None:
        self._world = world
        self.count = 0

    def by_uid(self, uid: str) -> Object | None:
        self.count += 1
        return self._world.cache.by_uid(uid)


def test_scrape_reads_only_objects_that_changed():
    world = finished()
    reads = Reads(world)
    page = ResourcePage(reads.by_uid, world.clock, lambda: True)
    world.cache.on_change = page.changed
    world.apply(make_job("other").obj())
    world.settle()
    first, count = page.text(), reads.count
    assert b'finetunejob="other"' in first
    assert page.text() == first
    assert reads.count == count
    world.edit("other", suspend=True)
    world.settle()
    assert b'finetunejob="other",namespace="default",phase="Suspended"' in page.text()
    assert reads.count == count + 1


def test_deleted_job_and_gate_have_no_metrics():
    world = finished()
    scrape = Scrape(world)
    assert scrape.samples("finetunejob_phase")
    world.cache.on_change = scrape.page.changed
    for kind, obj in (("FineTuneJob", world.job()), ("EvalGate", world.gate())):
        world.cluster.as_user.delete(Key(kind, "default", obj["metadata"]["name"]), uid_of(obj))
    assert [sample for metric in scrape.families() for sample in metric.samples] == []


def test_jobs_are_read_a_few_at_a_time():
    world = finished()
    world.apply(make_job("second").obj(), make_job("third").obj())
    world.settle()
    page = Scrape(world).page
    assert [page.refresh(2), page.refresh(1), page.refresh(1)] == [False, False, True]
    assert page.text() == Scrape(world).page.text()


def test_replica_that_is_not_leader_exports_no_resource():
    scrape = Scrape(finished(), is_leader=False)
    assert [sample for metric in scrape.families() for sample in metric.samples] == []


def test_job_with_an_unreadable_status_is_counted_as_unknown():
    world = finished()
    job = world.job()
    status = {**job["status"], "gpuSeconds": "from another version"}
    world.cluster.as_user.patch_status(
        Key("FineTuneJob", "default", "orders"), status, job["metadata"]["resourceVersion"]
    )
    world.settle()
    scrape = Scrape(world)
    assert scrape.value("finetunejobs", namespace="default", phase="Unknown", reason="") == 1
    assert scrape.samples("finetunejob_phase") == []


def test_gate_metrics_are_readiness_pass_ratios_and_judged_versions():
    scrape = Scrape(finished())
    gate = {"namespace": "default", "evalgate": "golden"}
    assert scrape.value("evalgate_ready", **gate, reason="GoldenRead") == 1
    assert scrape.value("evalgate_golden_pass_ratio", **gate, subject="last") == 0.94
    assert scrape.value("evalgate_golden_pass_ratio", **gate, subject="base") == 0.1
    assert scrape.value("evalgate_verdict", **gate, verdict="Passed", dry_run="false") == 1
    assert scrape.samples("evalgate_version_golden_pass_ratio") == [
        {**gate, "finetunejob": "orders", "step": "40", "verdict": "Passed", "published": "false"}
    ]


def test_gate_metrics_have_the_measured_error_rate():
    gate = make_gate().with_spec(errorRate={}).obj()
    measured = ErrorRateOutcomes(
        golden_sha256=sha256_text(golden_text()),
        base_digest=DIGEST,
        scoring=EvalGate.model_validate(gate).spec.scoring,
        reference=letters(94),
        repeats=[letters(94)],
        planted=[PlantedRegression(name="strength 0.5", outcomes="f" * 8 + letters(94)[8:])],
    )
    world = World(Script(error_rates={"golden": measured}))
    world.apply_all(gate=gate)
    world.run()
    scrape, labels = Scrape(world), {"namespace": "default", "evalgate": "golden"}
    assert scrape.value("evalgate_false_alarm_ratio", **labels, bound="share") == 0
    assert scrape.value("evalgate_false_alarm_ratio", **labels, bound="high") == 0.006
    assert scrape.value("evalgate_detection_ratio", **labels, points="5") == 0.564
    assert len(scrape.samples("evalgate_detection_ratio")) == 3


def test_gate_without_its_golden_set_is_not_ready():
    world = World()
    world.apply(make_gate().obj())
    world.settle()
    scrape = Scrape(world)
    reason = {"namespace": "default", "evalgate": "golden", "reason": "ConfigMapNotFound"}
    assert scrape.value("evalgate_ready", **reason) == 0


@pytest.mark.parametrize("script", [Script(), Script(checkpoints=REGRESSING)], ids=["passes", "stopped"])
def test_no_two_samples_have_the_same_labels(script):
    world = finished(script)
    for metric in Scrape(world).families():
        labels = [(sample.name, *sorted(sample.labels.items())) for sample in metric.samples]
        assert len(labels) == len(set(labels)), metric.name


def test_object_that_cannot_be_read_does_not_hide_the_others(caplog):
    world = finished()
    world.apply(make_job("second").obj(), make_job("third").obj())
    world.settle()
    broken = uid_of(world.job("second"))

    def read(uid: str) -> Object | None:
        if uid == broken:
            raise RecursionError("broken")
        return world.cache.by_uid(uid)

    page = ResourcePage(read, world.clock, lambda: True)
    for obj in world.cluster.as_user.list_objects("FineTuneJob"):
        page.changed("FineTuneJob", uid_of(obj))
    assert page.refresh()
    text = page.text().decode()
    assert 'finetunejob="orders"' in text
    assert 'finetunejob="third"' in text
    assert 'finetunejob="second"' not in text
    assert broken in caplog.text


def test_replica_that_does_not_lead_forgets_deleted_objects():
    world = World()
    reads = Reads(world)
    page = ResourcePage(reads.by_uid, world.clock, lambda: True)
    world.cache.on_change = page.changed
    for name in ("deleted", "stays"):
        world.apply(make_job(name).obj())
    world.reconciler.resync()
    world.cluster.as_user.delete(Key("FineTuneJob", "default", "deleted"), uid_of(world.job("deleted")))
    assert page.refresh()
    assert reads.count == 1, "nothing was read before this replica leads"
