"""The status of a job stays small, because every dashboard reads it and every change rewrites it."""

import json

import pytest

from support.builders import golden_text, make_gate, make_job, make_scores
from support.world import DIGEST, SAMPLE, Script, World, letters
from tunegate_api.contract.baselines import MeasuredBaseline
from tunegate_api.contract.digests import sha256_text
from tunegate_api.contract.results import ErrorRateOutcomes, PlantedRegression
from tunegate_api.meta import MAX_MESSAGE
from tunegate_api.v1alpha2 import EvalGate
from tunegate_api.v1alpha2.data_status import MAX_DATA_CHECKS, MAX_REVIEWERS, DataCheckResult
from tunegate_api.v1alpha2.error_rate_status import MAX_FLAKY_CASES
from tunegate_api.v1alpha2.finetunejob_status import MAX_ATTEMPTS, MAX_BASELINES, MAX_DECISIONS, MAX_EVICTIONS
from tunegate_operator.names import CONTINUE_ANNOTATION

LIMIT = 32 * 1024
MAX_GATES = 8
DATA_CHECKS = [
    DataCheckResult(
        name=f"{n:02}_bad_completions",
        result="Refused",
        count=1_000_000,
        share="0.0001234" if n % 2 else None,
    )
    for n in range(MAX_DATA_CHECKS)
]
BASELINES = [MeasuredBaseline(key=f"{n:064}", sha256="f" * 64) for n in range(MAX_BASELINES)]


@pytest.mark.slow
def test_status_with_many_checkpoints_and_evictions_is_below_32_kib():
    checkpoints = {step: 60 + step % 3 for step in range(1, 61)}
    script = Script(
        checkpoints=checkpoints | {61: 95},
        final=95,
        id_suffix="-" + "x" * 50,
        baselines=BASELINES,
        data_checks=DATA_CHECKS,
    )
    world = World(script)
    name = "n" * 60
    world.apply_all(
        make_job(name)
        .with_publish("pvc://models/" + "p" * 900)
        .with_spec(ttlSecondsAfterFinished=0, data=make_job().obj()["spec"]["data"] | {"quality": {}})
        .obj()
    )
    scores = [
        make_scores(
            f"scores-{n}", SAMPLE.sha256, name, f"{n}{'r' * 63}", **{row.id: True for row in SAMPLE.rows}
        )
        for n in range(MAX_REVIEWERS)
    ]
    for one in scores[1:]:  # one ConfigMap, because the first complete review decides
        scores[0]["data"][f"{one['metadata']['name']}.json"] = one["data"]["scores.json"]
    world.apply(scores[0])
    while not world.status(name).checkpoints_omitted:
        world.settle()
        world.tick()
    for _ in range(9):
        (job,) = world.active_jobs()
        world.cluster.start_pod(job["metadata"]["name"])
        taken = {"type": "DisruptionTarget", "status": "True", "reason": "PreemptionByScheduler"}
        world.cluster.set_pod_status(job["metadata"]["name"], {"phase": "Failed", "conditions": [taken]})
        world.settle()
    status = world.run(name, turns=200)
    wire = json.dumps(world.job(name)["status"])
    assert status.phase == "Succeeded"
    assert status.cleanup is not None
    assert len(status.evictions) == 9
    assert status.data is not None
    assert status.data.review is not None
    assert len(status.data.review.reviewers) == MAX_REVIEWERS
    assert len(status.checkpoints) == 20
    assert len(status.baselines) == MAX_BASELINES
    assert status.checkpoints_omitted == 41
    assert len(status.data_checks) == MAX_DATA_CHECKS
    assert len(wire.encode()) < LIMIT


@pytest.mark.slow
def test_job_status_with_the_most_stages_is_below_32_kib():
    names = ["sft", *(f"stage-{i}" + "x" * 12 for i in range(1, 8))]
    later = {name: dict.fromkeys((10, 20, 30, 40, 50), 91) for name in names[1:]}
    world = World(Script(later=later, id_suffix="-" + "x" * 50, baselines=BASELINES, data_checks=DATA_CHECKS))
    stages = [{"name": name, "method": "SFT", "adapter": {"type": "LoRA"}} for name in names]
    world.apply_all(make_job().with_spec(stages=stages).with_publish().obj())
    status = world.run(turns=200)
    assert status.phase == "Succeeded"
    assert [start.stage for start in status.start] == names
    assert len(status.data_checks) == MAX_DATA_CHECKS
    assert len(json.dumps(world.job()["status"]).encode()) < LIMIT


@pytest.mark.slow
def test_old_best_checkpoint_stays_in_status():
    checkpoints = {1: 95} | dict.fromkeys(range(2, 61), 92)
    world = World(Script(checkpoints=checkpoints))
    world.apply_all()
    status = world.run(turns=200)
    assert status.best_checkpoint is not None
    assert status.best_checkpoint.step == 1
    assert status.checkpoints[0].step == 1
    assert [bool(c.gates[0].failed_cases) for c in status.checkpoints] == [False] * 19 + [True]


@pytest.mark.slow
def test_status_after_many_stops_and_evictions_is_below_32_kib():
    falls = {3 * n + i: passed for n in range(MAX_DECISIONS) for i, passed in ((1, 95), (2, 85), (3, 85))}
    world = World(
        Script(
            checkpoints=falls | {50: 99},
            id_suffix="-" + "x" * 50,
            baselines=BASELINES,
            data_checks=DATA_CHECKS,
        )
    )
    world.apply_all()
    for _ in range(MAX_DECISIONS):
        stop = world.run().stop
        assert stop is not None
        decision = json.dumps({"stop": stop.id, "reason": "r" * MAX_MESSAGE})
        world.edit(annotations={CONTINUE_ANNOTATION: decision})
        world.settle()
    for _ in range(MAX_ATTEMPTS):
        world.edit(suspend=True)
        world.settle()
        world.edit(suspend=False)
        world.settle()
    (job,) = world.active_jobs()
    for _ in range(MAX_EVICTIONS - 1):
        world.cluster.start_pod(job["metadata"]["name"])
        taken = {"type": "DisruptionTarget", "status": "True", "reason": "PreemptionByScheduler"}
        world.cluster.set_pod_status(job["metadata"]["name"], {"phase": "Failed", "conditions": [taken]})
        world.settle()
    status = world.run(turns=200)
    assert status.phase == "Succeeded"
    full = (len(status.decisions), len(status.attempts), len(status.evictions))
    assert len(status.data_checks) == MAX_DATA_CHECKS
    assert full == (MAX_DECISIONS, MAX_ATTEMPTS, MAX_EVICTIONS - 1)
    assert len(json.dumps(world.job()["status"]).encode()) < LIMIT


def test_job_status_with_the_most_gates_is_below_32_kib():
    names = [f"{n}" + "g" * 62 for n in range(MAX_GATES)]
    stages = ["sft", *(f"stage-{i}" + "x" * 12 for i in range(1, 3))]
    later = {stage: dict.fromkeys((10, 30, 50), 91) for stage in stages[1:]}
    world = World(
        Script(
            later=later,
            final=50,
            gate=names[0],
            also=tuple(names[1:]),
            id_suffix="-" + "x" * 50,
            baselines=BASELINES,
            data_checks=DATA_CHECKS,
        )
    )
    for name in names[1:]:
        world.apply(make_gate(name).obj())
    spec = [{"name": name, "method": "SFT", "adapter": {"type": "LoRA"}} for name in stages]
    job = make_job().with_gates(*names).with_spec(stages=spec).with_publish()
    world.apply_all(job=job.obj(), gate=make_gate(names[0]).obj())
    status = world.run(turns=200)
    assert (status.phase, status.failure and status.failure.reason) == ("Failed", "GateFailed")
    assert len(json.dumps(world.job()["status"]).encode()) < LIMIT
    assert status.final
    results = [(gate.verdict, gate.golden and gate.golden.passed) for gate in status.final.gates]
    assert results == [("Failed", 50)] * MAX_GATES
    assert all(gate.message.startswith("golden 50/100 = 0.50, required 0.80") for gate in status.final.gates)
    shown = [(checkpoint.stage, checkpoint.step) for checkpoint in status.checkpoints]
    assert shown == [(stages[-1], 10), (stages[-1], 50)]
    assert status.best_checkpoint
    assert status.best_checkpoint.step == 10
    assert len(status.checkpoints) + status.checkpoints_omitted == 11


def test_error_rates_of_the_most_gates_are_below_8_kib():
    names = [f"{n}" + "g" * 62 for n in range(MAX_GATES)]
    gates = [make_gate(name).with_spec(errorRate={}).obj() for name in names]
    outcomes = letters(95)
    measured = ErrorRateOutcomes(
        golden_sha256=sha256_text(golden_text()),
        base_digest=DIGEST,
        scoring=EvalGate.model_validate(gates[0]).spec.scoring,
        reference=outcomes,
        repeats=["f" * 50 + outcomes[50:]],
        planted=[PlantedRegression(name="strength 0.5", outcomes="f" * 60 + outcomes[60:])],
        evaluations=6,
        seconds=100_000,
    )
    script = Script(
        final=95,
        gate=names[0],
        also=tuple(names[1:]),
        id_suffix="-" + "x" * 50,
        error_rates=dict.fromkeys(names, measured),
    )
    world = World(script)
    for gate in gates[1:]:
        world.apply(gate)
    world.apply_all(job=make_job().with_gates(*names).obj(), gate=gates[0])
    rates = world.run().error_rates
    assert [(rate.gate, rate.flaky) for rate in rates] == [(name, 50) for name in names]
    assert sum(len(rate.flaky_cases) for rate in rates) <= MAX_FLAKY_CASES
    assert all(rate.flaky_cases for rate in rates)
    assert len(json.dumps(world.job()["status"]["errorRates"]).encode()) < LIMIT / 4
