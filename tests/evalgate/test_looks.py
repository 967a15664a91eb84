"""A gate counts how often models were evaluated on its golden set."""

import random

import pytest

from support.builders import golden_text, make_config_map, make_gate, make_job
from support.world import World
from tunegate_api.contract.digests import sha256_text
from tunegate_api.contract.request import GateRequest, Request
from tunegate_api.meta import find_condition
from tunegate_api.v1alpha2 import EvalGateSpec, EvalGateStatus, FineTuneJob
from tunegate_api.v1alpha2.evalgate_status import MAX_RECENT_LOOKS, MAX_RUNNING_LOOKS, Looks
from tunegate_api.v1alpha2.reasons import Phase
from tunegate_operator.engine.cache import Cache
from tunegate_operator.engine.cluster import Key, Object
from tunegate_operator.evalgate.looks import has_new_looks, with_looks
from tunegate_operator.finetunejob.build import request_config_map


def looks(world: World) -> Looks | None:
    return EvalGateStatus.model_validate(world.gate()["status"]).looks


def counts(world: World) -> tuple[int, int, int] | None:
    found = looks(world)
    return None if found is None else (found.jobs, found.checkpoints, found.finals)


def run_job(world: World, name: str) -> None:
    world.outbox.clear()
    world.apply(make_job(name).obj())
    assert world.run(name).phase is Phase.SUCCEEDED


def delete(world: World, kind: str, name: str) -> None:
    found = world.cluster.as_user.get(Key(kind, "default", name))
    world.cluster.as_user.delete(Key(kind, "default", name), found["metadata"]["uid"])


def test_gate_that_evaluated_no_model_has_no_count():
    world = World()
    world.apply(make_config_map("cases", golden__jsonl=golden_text()), make_gate().obj())
    world.settle()
    assert counts(world) is None


def test_checkpoints_and_final_models_of_all_jobs_count():
    world = World()
    world.apply_all(make_job("first").obj())
    world.run("first")
    assert counts(world) == (1, 5, 1)
    world.script.final = 92
    run_job(world, "second")
    assert counts(world) == (2, 10, 2)
    found = looks(world)
    assert found is not None
    assert found.message == (
        "best of 2 final models 94/100: if all are equally good, up to 1.5 points too high on average"
    )


def test_cases_of_one_group_make_the_best_rate_more_optimistic():
    world = World()
    world.script.groups = [i // 4 for i in range(100)]
    world.apply_all(make_job("first").obj())
    world.run("first")
    world.script.final = 92
    run_job(world, "second")
    found = looks(world)
    assert found is not None
    assert found.message == (
        "best of 2 final models 94/100: if all are equally good, up to 3.2 points too high on average"
    )


def test_deleted_job_stays_counted_once_after_operator_restart():
    world = World()
    world.apply_all(make_job("first").obj())
    world.run("first")
    world.boot()
    world.settle()
    assert counts(world) == (1, 5, 1)
    delete(world, "FineTuneJob", "first")
    world.settle()
    run_job(world, "first")
    assert counts(world) == (2, 10, 2)


def test_job_that_is_deleted_before_its_end_counts():
    world = World()
    world.apply_all(make_job("first").obj())
    world.until_job("gate")
    world.settle()
    found = looks(world)
    assert found is not None
    assert (found.jobs, found.finals) == (1, 0)
    delete(world, "FineTuneJob", "first")
    world.settle()
    assert looks(world) == found
    run_job(world, "first")
    assert counts(world) == (2, found.checkpoints + 5, 1)


def test_another_golden_set_starts_a_new_count():
    world = World()
    world.apply_all(make_job("first").obj())
    world.run("first")
    for kind, name in (("EvalGate", "golden"), ("ConfigMap", "cases")):
        delete(world, kind, name)
    text = golden_text().replace("case-", "other-")
    gate = make_gate().obj()
    gate["spec"]["sets"][0]["sha256"] = sha256_text(text)
    world.apply(make_config_map("cases", golden__jsonl=text), gate)
    world.settle()
    assert counts(world) is None


def test_recreated_gate_counts_the_jobs_that_still_exist():
    world = World()
    world.apply_all(make_job("first").obj())
    world.run("first")
    delete(world, "EvalGate", "golden")
    world.apply(make_gate().obj())
    world.settle()
    assert counts(world) == (1, 5, 1)


def test_changed_golden_set_keeps_the_count():
    world = World()
    world.apply_all(make_job("first").obj())
    world.run("first")
    delete(world, "FineTuneJob", "first")
    delete(world, "ConfigMap", "cases")
    world.apply(make_config_map("cases", golden__jsonl=golden_text(99)))
    world.settle()
    ready = find_condition(EvalGateStatus.model_validate(world.gate()["status"]).conditions, "Ready")
    assert ready is not None
    assert ready.reason == "DigestMismatch"
    assert counts(world) == (1, 5, 1)


DIGEST, OTHER = "a" * 64, "b" * 64


def job(number: int, checkpoints: int, ended: int | None = None, finals: int = 0) -> Object:
    """Return a job that evaluated this number of checkpoints, and ended in this minute."""
    obj = make_job(f"job-{number}").obj()
    created = f"2026-01-01T00:{number:02}:00Z"
    obj["metadata"] |= {
        "namespace": "default",
        "uid": f"uid-{number}",
        "resourceVersion": "1",
        "generation": 1,
        "creationTimestamp": created,
    }
    judged = {"gates": [{"name": "golden"}]}
    obj["status"] = {"checkpoints": [judged] * checkpoints}
    if finals:
        obj["status"]["final"] = judged
    if ended is not None:
        obj["status"]["completionTime"] = f"2026-01-01T01:{ended:02}:00Z"
    return obj


def view(jobs: list[Object], digest: str = DIGEST) -> Cache:
    """Return the operator's cache with the requests of the jobs."""
    cache = Cache()
    for version, each in enumerate(jobs, start=1):
        found = FineTuneJob.model_validate({**each, "status": {}})
        gate = GateRequest(
            name="golden", spec=EvalGateSpec.model_validate(make_gate().spec), golden_sha256=digest
        )
        request = Request(
            name=found.metadata.name,
            namespace="default",
            uid=found.metadata.uid,
            spec=found.spec,
            gates=[gate],
        )
        config_map = request_config_map(found, request)
        config_map["metadata"] |= {"uid": f"request-{version}", "resourceVersion": str(version)}
        cache.put(config_map)
    return cache


def count(known: Looks | None, jobs: list[Object]) -> Looks | None:
    return with_looks(known, "golden", DIGEST, jobs, view(jobs))


def shown(found: Looks | None) -> tuple[int, int, int]:
    assert found is not None
    assert len(found.recent) <= MAX_RECENT_LOOKS
    return found.jobs, found.checkpoints, found.finals


def test_many_ended_jobs_count_once_although_status_lists_few():
    jobs = [job(n, 2, ended=n, finals=1) for n in range(30)]
    found = count(None, jobs)
    assert shown(found) == (30, 60, 30)
    assert shown(count(found, jobs)) == (30, 60, 30)
    assert not any(has_new_looks(found, "golden", each) for each in jobs)
    later = count(found, [*jobs[20:], job(40, 3, ended=40, finals=1)])
    assert shown(later) == (31, 63, 31)


@pytest.mark.parametrize("seed", range(5))
def test_jobs_count_once_in_whatever_order_their_ends_are_observed(seed):
    numbers, found = random.Random(seed), None
    running = {n: job(n, 3) for n in range(12)}
    for ended in range(12):
        number = numbers.choice([n for n, each in running.items() if "completionTime" not in each["status"]])
        running[number] = job(number, 3, ended=ended, finals=1)
        found = count(found, list(running.values()))
        started = min(MAX_RUNNING_LOOKS, 11 - ended)
        assert shown(found) == (ended + 1 + started, 3 * (ended + 1 + started), ended + 1)


def test_job_counts_at_its_first_evaluation_and_at_its_end():
    assert count(None, [job(1, 0)]) is None
    assert not has_new_looks(None, "golden", job(1, 0))
    assert has_new_looks(None, "golden", job(1, 1))
    first = count(None, [job(1, 1)])
    assert shown(first) == (1, 1, 0)
    assert not has_new_looks(first, "golden", job(1, 4))  # not one status of the gate for each checkpoint
    assert count(first, [job(1, 4)]) == first
    ended = job(1, 4, ended=1, finals=1)
    assert has_new_looks(first, "golden", ended)
    last = count(first, [ended])
    assert shown(last) == (1, 4, 1)
    assert not has_new_looks(last, "golden", ended)


def test_more_running_jobs_than_status_lists_count_at_their_end():
    jobs = [job(n, 1) for n in range(MAX_RUNNING_LOOKS + 3)]
    found = count(None, jobs)
    assert shown(found) == (MAX_RUNNING_LOOKS, MAX_RUNNING_LOOKS, 0)
    assert not any(has_new_looks(found, "golden", each) for each in jobs)
    ended = [job(n, 2, ended=n, finals=1) for n in range(len(jobs))]
    assert shown(count(found, ended)) == (len(jobs), 2 * len(jobs), len(jobs))


def test_running_job_that_was_deleted_leaves_room_for_another():
    found = count(None, [job(n, 1) for n in range(MAX_RUNNING_LOOKS)])
    found = count(found, [job(20 + n, 1) for n in range(MAX_RUNNING_LOOKS)])
    assert shown(found) == (2 * MAX_RUNNING_LOOKS, 2 * MAX_RUNNING_LOOKS, 0)


def test_job_of_an_earlier_gate_does_not_count():
    jobs = [job(1, 4, ended=1)]
    assert with_looks(None, "golden", DIGEST, jobs, view(jobs, OTHER)) is None
