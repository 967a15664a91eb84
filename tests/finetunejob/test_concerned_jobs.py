"""A change leads only to decisions about the jobs and gates that name the changed object."""

import timeit

import pytest

from support.builders import golden_text, make_config_map, make_gate, make_job
from support.call_counts import count_calls
from support.graders import JUDGE, with_graders
from support.world import World
from tunegate_api.v1alpha2 import EvalGateSpec, FineTuneJobSpec
from tunegate_api.v1alpha2.reasons import Phase, Reason
from tunegate_operator.children.job import PodSettings
from tunegate_operator.engine.cache import Cache
from tunegate_operator.engine.cluster import Key, Object
from tunegate_operator.evalgate.controller import EvalGateController
from tunegate_operator.finetunejob.controller import FineTuneJobController
from tunegate_operator.finetunejob.volumes import gate_config_maps, input_config_maps

ROWS = make_config_map("rows", train__jsonl="{}")
CASES = make_config_map("cases", golden__jsonl=golden_text())
JOBS, GATES = FineTuneJobController(PodSettings("trainer")), EvalGateController()
MANY = 100
"""More jobs than a change may lead to decisions about."""


def make_cache() -> Cache:
    cache = Cache()
    cache.index_references(lambda obj: [*JOBS.references(obj), *GATES.references(obj)])
    return cache


class BusyWorld(World):
    """A world that counts decisions."""

    def __init__(self) -> None:
        super().__init__()
        self.decisions: list[str] = []
        """The kind of the object of each decision."""
        self.observe = lambda kind, _seconds, _succeeded: self.decisions.append(kind)

    def decisions_about(self, *objects: Object) -> tuple[int, int]:
        """Apply objects, or replace them if they exist. Return how many decisions about jobs and about gates
        follow."""
        self.reconciler.run_ready(20 * MANY)
        self.decisions.clear()
        for obj in objects:
            if found := self.cluster.as_user.get(Key.of(obj)):
                version = found["metadata"]["resourceVersion"]
                self.cluster.as_user.replace(
                    obj | {"metadata": obj["metadata"] | {"resourceVersion": version}}
                )
            else:
                self.apply(obj)
        self.reconciler.run_ready(20 * MANY)
        return self.decisions.count("FineTuneJob"), self.decisions.count("EvalGate")


def job_with_rows(number: int) -> Object:
    job = make_job(f"job-{number}").obj()
    job["spec"]["data"]["sources"] = [{"name": "train", "configMap": f"rows-{number}"}]
    return job


def test_config_map_leads_only_to_decisions_about_its_jobs():
    world = BusyWorld()
    world.apply(CASES, make_gate().obj(), *map(job_with_rows, range(MANY)))
    assert world.decisions_about(make_config_map("other", x="1")) == (0, 0)
    assert world.decisions_about(make_config_map("other", x="2")) == (0, 0)
    jobs, _ = world.decisions_about(make_config_map("rows-7", train__jsonl="{}"))
    assert 1 <= jobs < 10
    assert [n for n in range(MANY) if world.status(f"job-{n}").request] == [7]


def test_golden_set_leads_only_to_decisions_about_its_users():
    world = BusyWorld()
    others = [make_gate(f"gate-{n}", f"cases-{n}").obj() for n in range(MANY)]
    named = make_job().with_gates("golden").obj()
    world.apply(*others, make_gate().obj(), named)
    world.apply(*(make_job(f"job-{n}").with_gates(f"gate-{n}").obj() for n in range(MANY)))
    jobs, gates = world.decisions_about(CASES)
    assert 1 <= jobs < 10
    assert 1 <= gates < 10
    assert world.gate()["status"]["cases"] == 100
    assert world.condition("Ready").reason == Reason.CONFIG_MAP_NOT_FOUND


def test_calibration_rows_of_a_gate_end_its_jobs_wait():
    """The gate is ready without them: only pods read them."""
    world = BusyWorld()
    gate = make_gate().obj()
    gate["spec"] = with_graders(gate["spec"], JUDGE)
    world.apply(ROWS, CASES, gate, make_job().obj())
    world.settle()
    assert world.status().message == "ConfigMap scored does not exist in this namespace"
    assert world.decisions_about(make_config_map("scored", rows__jsonl="{}"))[0] >= 1
    assert world.status().request is not None


def test_job_references_each_config_map_that_its_spec_names():
    """The index reads the raw spec, because the spec may be invalid."""
    job = make_job().obj()
    uses = ("Train", "Mix", "Preference", "Production")
    sources = [{"name": use.lower(), "use": use, "configMap": f"{use.lower()}-rows"} for use in uses]
    job["spec"]["data"] |= {"sources": sources}
    schema = {"name": "json_schema", "type": "JSONSchema", "min": "50%", "schema": {"configMap": "schema"}}
    job["spec"]["taskMetrics"].append(schema)
    found = {key.name for key in JOBS.references(job) if key.kind == "ConfigMap"}
    spec = FineTuneJobSpec.model_validate(job["spec"])
    assert found == set(input_config_maps(spec, []))
    assert found == {*(source["configMap"] for source in sources), "schema"}


def test_gate_references_each_config_map_that_its_spec_names():
    gate = make_gate().with_safety(source={"configMap": "harmful", "key": "cases.jsonl"}).obj()
    gate["spec"] = with_graders(gate["spec"], JUDGE)
    found = {key.name for key in GATES.references(gate)}
    assert found == set(gate_config_maps(EvalGateSpec.model_validate(gate["spec"])))
    assert found == {"cases", "harmful", "scored"}


@pytest.mark.parametrize(
    "spec",
    [
        None,
        "left out",
        {"gates": 1, "stages": 2, "model": 3, "data": 4, "taskMetrics": 5, "golden": 6},
        {
            "gates": [1, {"name": 2}],
            "stages": [3],
            "model": {"startFrom": [4]},
            "data": {"sources": [5, {"configMap": 6}, {"configMap": [7]}]},
            "taskMetrics": [9, {"schema": 10}],
            "sets": [{"name": "golden", "source": 11}],
        },
    ],
)
def test_object_with_an_invalid_spec_references_no_object(spec):
    for builder, controller in ((make_job(), JOBS), (make_gate(), GATES)):
        assert list(controller.references(builder.obj() | {"spec": spec})) == []


@pytest.mark.parametrize("status", [{}, {"phase": Phase.PENDING}], ids=["new", "pending"])
def test_waiting_job_references_its_gates_data_and_start_job(status):
    stages = [{"name": "sft", "gates": [{"name": "format"}]}, {"name": "dpo"}]
    spec = {
        "gates": [{"name": "golden"}],
        "stages": stages,
        "model": {"startFrom": "base"},
        "data": {"sources": [{"name": "train", "configMap": "rows"}]},
    }
    job = make_job().obj() | {"spec": spec, "status": status}
    job["metadata"]["namespace"] = "team"
    assert set(JOBS.references(job)) == {
        Key("EvalGate", "team", "golden"),
        Key("EvalGate", "team", "format"),
        Key("FineTuneJob", "team", "base"),
        Key("ConfigMap", "team", "rows"),
    }


def test_job_that_has_started_references_no_object():
    job = make_job().obj() | {"status": {"phase": Phase.TRAINING}}
    assert list(JOBS.references(job)) == []


@pytest.mark.parametrize("late", [ROWS, make_gate().obj()], ids=["rows", "gate"])
def test_input_created_during_the_first_status_write_ends_the_wait(late):
    """The cache contains the response to the status write before the job's watch event, so this event
    triggers no decision."""
    cache, metadata = make_cache(), {"namespace": "default", "uid": "uid", "resourceVersion": "1"}
    job = make_job().obj()
    job["metadata"] |= metadata
    cache.put(job)
    created = late | {"metadata": metadata | late["metadata"]}
    assert [*JOBS.concerns(created, cache)] == [Key.of(job)]


@pytest.mark.parametrize("kind", ["FineTuneJob", "ConfigMap"])
def test_change_is_compared_only_with_jobs_that_name_it(kind):
    """An operator that starts lists thousands of ended jobs and ConfigMaps while many jobs are pending."""

    def make(name, version, phase=None):
        job = make_job(name).obj() | {"status": {"phase": phase} if phase else {}}
        job["metadata"] |= {"namespace": "default", "uid": name, "resourceVersion": str(version)}
        return job

    def seconds(pending):
        cache = make_cache()
        for n in range(pending):
            cache.put(make(f"pending-{n}", n + 1, "Pending"))
        other = make("ended", pending + 1, "Succeeded") | {"kind": kind}
        return min(timeit.repeat(lambda: list(JOBS.concerns(other, cache)), number=20, repeat=5))

    assert seconds(1000) < 10 * seconds(1)


def test_spec_is_checked_once_however_many_jobs_wait():
    world = BusyWorld()
    world.apply(make_gate().obj(), *(make_job(f"job-{n}").obj() for n in range(4 * MANY)))
    world.reconciler.run_ready(20 * MANY)
    decisions, checks = count_calls(lambda: world.decisions_about(CASES), "problems_of", "find_problems")
    assert decisions >= 4 * MANY
    assert checks == 0
