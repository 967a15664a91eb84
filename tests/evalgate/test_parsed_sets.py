"""A golden set and a safety set are parsed once for each version, however many gates and jobs name them."""

import json
import uuid

from support.builders import golden_text, make_config_map, make_gate, make_job
from support.call_counts import count_calls
from support.gate_status import ready
from support.world import World
from tunegate_api.contract.digests import sha256_text
from tunegate_api.v1alpha2.evalgate_status import GateReason
from tunegate_operator.engine.cluster import Key

GATES = 20


def calls(world: World, *names: str) -> list[int]:
    """Let the operator decide until nothing is due. Return how often functions with these names ran."""
    return count_calls(lambda: world.reconciler.run_ready(1000), *names)


def golden() -> str:
    """Return a golden set that no other test has."""
    return golden_text().replace("question", str(uuid.uuid4()))


def safety() -> str:
    """Return a safety set that no other test has."""
    request = {"category": "fraud", "prompt": f"answer {uuid.uuid4()}"}
    kinds = ["Unsafe"] + ["Harmless"] * 20
    return "".join(
        json.dumps(request | {"id": f"s-{n}", "kind": kind}) + "\n" for n, kind in enumerate(kinds)
    )


def replace_data(world: World, name: str, **data: str) -> None:
    found = world.cluster.as_user.get(Key("ConfigMap", "default", name))
    assert found is not None
    world.cluster.as_user.replace(found | {"data": make_config_map(name, **data)["data"]})


def test_many_gates_parse_one_set_once_for_each_version():
    world, text = World(), golden()
    world.apply(make_config_map("cases", golden__jsonl=text))
    for n in range(GATES):
        gate = make_gate(f"gate-{n}").with_limits(minPassRate=f"{n + 10}%").obj()
        gate["spec"]["sets"][0]["sha256"] = sha256_text(text)
        world.apply(gate)
    assert calls(world, "parse_cases", "_check_golden") == [1, GATES]
    assert ready(world, "gate-3")[0] == "True"
    replace_data(world, "cases", golden__jsonl=text, other="x")
    assert calls(world, "parse_cases", "_check_golden") == [0, 0], "the set is the same"


def test_set_with_faults_is_parsed_once():
    world, text = World(), golden() + "{}\n"
    world.apply(make_config_map("cases", golden__jsonl=text))
    for n in range(GATES):
        gate = make_gate(f"gate-{n}").obj()
        gate["spec"]["sets"][0]["sha256"] = sha256_text(text)
        world.apply(gate)
    assert calls(world, "parse_cases") == [1]
    assert ready(world, "gate-3")[1] == GateReason.BAD_GOLDEN


def test_safety_set_is_parsed_once_for_each_version():
    world, text, harmful = World(), golden(), safety()
    world.apply(make_config_map("cases", golden__jsonl=text), make_config_map("harmful", s=harmful))
    for n in range(GATES):
        gate = make_gate(f"gate-{n}").obj()
        gate["spec"]["sets"][0]["sha256"] = sha256_text(text)
        safety_set = {"name": "safety", "kind": "Safety", "source": {"configMap": "harmful"}}
        gate["spec"]["sets"].append(safety_set | {"sha256": sha256_text(harmful)})
        world.apply(gate)
    assert calls(world, "parse_cases") == [2], "a golden set and a safety set"
    assert ready(world, "gate-3")[0] == "True"
    replace_data(world, "harmful", s=harmful + "\n")
    assert calls(world, "parse_cases") == [0], "its digest is not the pinned one"
    assert ready(world, "gate-3")[1] == GateReason.DIGEST_MISMATCH


def test_many_jobs_read_one_gate_once_for_each_version():
    """A gate may have 100 inline cases."""
    world = World()
    gate = make_gate().obj()
    gate["spec"]["sets"][0] = {
        "name": "golden",
        "source": {"inline": [json.loads(line) for line in golden().splitlines()]},
    }
    world.apply(gate)
    world.reconciler.run_ready(100)
    world.apply(*(make_job(f"job-{n}").obj() for n in range(50)))
    decisions, parsed = calls(world, "observe", "_gate")
    assert decisions >= 50
    assert parsed == 1
