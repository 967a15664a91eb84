"""Check the tables in docs/status.md: for each phase, the conditions, the result of kstatus, and the health
in Argo CD.

The health in Argo CD is the result of the Lua scripts in docs/gitops.md, run in the Lua version of Argo CD.
"""

import re
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
import yaml
from lupa import lua51

from support.builders import golden_text, make_config_map, make_gate, make_job
from support.fake_cluster import FakeCluster
from support.world import World
from tunegate_api.v1alpha2 import FineTuneJob
from tunegate_api.v1alpha2.finetunejob_status import Failure
from tunegate_api.v1alpha2.reasons import Phase, Reason
from tunegate_operator.engine.cache import Cache
from tunegate_operator.engine.cluster import Key, Object
from tunegate_operator.engine.controller import Agenda
from tunegate_operator.engine.internal_errors import STALLED_AFTER, InternalErrors
from tunegate_operator.finetunejob.conditions import with_conditions
from tunegate_operator.finetunejob.draft import Draft

DOCS = Path(__file__).parents[2] / "docs"
PAGE = (DOCS / "status.md").read_text()
NOW = datetime(2026, 1, 1, tzinfo=UTC)
RUN = """
function(script, obj)
  local check = assert(loadstring(script))
  setfenv(check, {obj = obj, ipairs = ipairs})
  return check()
end
"""
"""A Lua function that runs a health check as Argo CD does: the check can read the object and nothing else."""
STANDARD = ("Ready", "Reconciling", "Stalled")


def rows_of(heading: str) -> dict[str, list[str]]:
    """Return the rows of the table whose first column has this heading: the first cell of each row, and as
    value the other cells."""
    table = PAGE.split(f"| {heading} |", 1)[1].split("\n\n", 1)[0]
    rows = [[cell.strip().strip("`") for cell in line.split("|")[1:-1]] for line in table.splitlines()[2:]]
    return {first: others for first, *others in rows}


def kstatus(obj: Object) -> str:
    """Return the status that kstatus computes for a custom resource according to its published rules."""
    metadata, status = obj["metadata"], obj.get("status", {})
    if metadata.get("deletionTimestamp"):
        return "Terminating"
    if status.get("observedGeneration", metadata["generation"]) != metadata["generation"]:
        return "InProgress"
    conditions = {c["type"]: c["status"] for c in status.get("conditions", [])}
    if conditions.get("Reconciling") == "True":
        return "InProgress"
    if conditions.get("Stalled") == "True":
        return "Failed"
    if "Ready" in conditions:
        return "Current" if conditions["Ready"] == "True" else "InProgress"
    return "Current"


def argo_health(obj: Object) -> dict[str, str]:
    """Return the result of the health check in docs/gitops.md for an object."""
    (block,) = re.findall(r"```yaml\n(.*?)```", (DOCS / "gitops.md").read_text(), re.DOTALL)
    scripts = yaml.safe_load(block)["data"]
    lua = lua51.LuaRuntime()
    run = lua.eval(RUN)
    found = run(scripts[f"resource.customizations.health.tunegate.dev_{obj['kind']}"], to_lua(lua, obj))
    return {"status": found["status"], "message": found["message"]}


def to_lua(lua: Any, value: Any) -> Any:
    if isinstance(value, dict):
        return lua.table_from({key: to_lua(lua, inner) for key, inner in value.items()})
    if isinstance(value, list):
        return lua.table_from([to_lua(lua, inner) for inner in value])
    return value


def described(obj: Object) -> list[str]:
    """Return the table row that describes an object."""
    conditions = {c["type"]: c["status"] for c in obj["status"]["conditions"]}
    return [*(conditions.get(type, "") for type in STANDARD), kstatus(obj), argo_health(obj)["status"]]


def job_in(phase: Phase) -> Object:
    """Return a FineTuneJob with the status of this phase."""
    obj = make_job().obj()
    obj["metadata"] |= {"uid": "u", "generation": 3}
    status = FineTuneJob.model_validate(obj).status.model_copy(update={"observed_generation": 3})
    draft = Draft(status, Agenda(NOW))
    if phase is Phase.FAILED:
        draft.fail(Failure(reason=Reason.NOT_FOUND, message="no such file"))
    else:
        draft.enter(phase, "as it says")
    return obj | {"status": with_conditions(FineTuneJob.model_validate(obj), draft).to_wire()}


@pytest.mark.parametrize("phase", Phase)
def test_conditions_and_health_of_each_phase_match_the_docs_table(phase: Phase) -> None:
    assert described(job_in(phase)) == rows_of("FineTuneJob")[phase]


@pytest.mark.parametrize("phase", Phase)
def test_condition_failed_is_absent_until_the_job_has_ended(phase: Phase) -> None:
    found = [c for c in job_in(phase)["status"]["conditions"] if c["type"] == "Failed"]
    expected = {Phase.SUCCEEDED: [("False", "Succeeded")], Phase.FAILED: [("True", "NotFound")]}
    assert [(c["status"], c["reason"]) for c in found] == expected.get(phase, [])


def test_held_job_is_stalled_and_degraded() -> None:
    world = World()
    world.apply_all()
    world.until_job("train")
    world.edit(mixing={})
    world.settle()
    assert described(world.job()) == ["False", "", "True", "Failed", "Degraded"]
    assert "spec.mixing" in argo_health(world.job())["message"]


@pytest.mark.parametrize("phase", [None, Phase.PENDING, Phase.TRAINING, Phase.SUCCEEDED])
def test_object_that_cannot_be_reconciled_is_stalled_and_degraded(phase: Phase | None) -> None:
    cluster = FakeCluster()
    obj = cluster.as_user.create(job_in(phase) if phase else make_job().obj())
    cache, key = Cache(), Key.of(obj)
    cache.put(obj)
    errors = InternalErrors(cluster, cache, cluster.clock, lambda *_: None)
    for _ in range(STALLED_AFTER):
        errors.report(key, ValueError())
    found = cluster.as_user.get(key)
    assert found is not None
    assert described(found)[1:] == ["", "True", "Failed", "Degraded"]
    assert "internal error ValueError" in argo_health(found)["message"]


def test_docs_table_has_one_row_for_each_phase() -> None:
    assert list(rows_of("FineTuneJob")) == [str(phase) for phase in Phase]


def test_conditions_and_health_of_a_gate_match_the_docs_table() -> None:
    rows = rows_of("EvalGate")
    world = World()
    world.apply(make_gate().obj())
    world.settle()
    assert described(world.gate()) == rows["ConfigMap missing"]
    world.apply(make_config_map("cases", golden__jsonl=golden_text()))
    world.settle()
    assert described(world.gate()) == rows["golden set read"]
    changed = World()
    changed.apply(make_gate().obj(), make_config_map("cases", golden__jsonl=golden_text(3)))
    changed.settle()
    row = rows["golden set changed, broken, or too small for its rules"]
    assert described(changed.gate()) == row
    assert "the golden set was changed" in argo_health(changed.gate())["message"]
    too_small = World()
    gate = make_gate().with_limits(failAtDrop="0.5%").obj()
    too_small.apply(gate, make_config_map("cases", golden__jsonl=golden_text()))
    too_small.settle()
    assert described(too_small.gate()) == row
    assert "have at least 200 cases" in argo_health(too_small.gate())["message"]


@pytest.mark.parametrize("obj", [job_in(Phase.SUCCEEDED), job_in(Phase.FAILED)], ids=["succeeded", "failed"])
def test_ended_job_with_a_new_generation_is_in_progress(obj: Object) -> None:
    obj["metadata"]["generation"] += 1
    assert (kstatus(obj), argo_health(obj)["status"]) == ("InProgress", "Progressing")


def test_new_job_is_in_progress() -> None:
    """Argo CD shows the job as progressing before its first status, which then has a Ready condition."""
    obj = make_job().obj()
    obj["metadata"]["generation"] = 1
    assert argo_health(obj)["status"] == "Progressing"
    world = World()
    seen: list[Object] = []
    world.cluster.as_user.watch(lambda change: seen.append(change.obj))
    world.apply_all()
    world.settle()
    written = [o for o in seen if o["kind"] == "FineTuneJob" and "status" in o]
    assert {c["type"]: c["status"] for c in written[0]["status"]["conditions"]}["Ready"] == "Unknown"


def test_argo_cd_shows_the_message_of_status() -> None:
    assert argo_health(job_in(Phase.FAILED))["message"] == "NotFound: no such file"


def test_docs_page_lists_every_reason() -> None:
    on_its_way = {"Pending", "Progressing", "Succeeded", "Suspended", "NotRequested"}
    on_its_way |= {"Regressing", "SafetyRegressing", "TaskMetricRegressing"}
    first_cells = re.findall(r"^\| (`.*?) \|", PAGE.split("## Waiting", 1)[1], re.MULTILINE)
    named = {name for cell in first_cells for name in re.findall(r"`(\w+)`", cell)}
    assert named | on_its_way == {str(reason) for reason in Reason}
