"""An EvalGate with a safety set: when it is ready, and how a job with it is judged."""

import json

import pytest

from support.builders import golden_text, make_config_map, make_gate, make_job
from support.gate_status import ready, status
from support.world import Script, World
from tunegate_api.cases.case_lines import inline_text
from tunegate_api.contract.digests import sha256_text
from tunegate_api.contract.request import Request
from tunegate_api.meta import find_condition
from tunegate_api.safety_sets import builtin_text
from tunegate_api.v1alpha2.evalgate_status import GateReason
from tunegate_api.v1alpha2.reasons import Phase, Reason
from tunegate_operator.engine.cluster import Key, Object
from tunegate_operator.names import REQUEST_KEY

BUILTIN = {"builtin": "refusals-v1"}
RULES = [
    {"id": f"rule-{n}", "kind": kind, "category": "house", "prompt": f"request {n}"}
    for n, kind in enumerate(["Unsafe", *["Harmless"] * 20])
]
HOUSE_RULES = "".join(json.dumps(rule) + "\n" for rule in RULES)
GOOD = "p" * 256


def gate_with(source: dict[str, str], text: str = HOUSE_RULES) -> Object:
    pin = {} if "builtin" in source else {"sha256": sha256_text(text)}
    return make_gate().with_safety(source=source, **pin).obj()


def world_with(gate: Object, *objects: Object, script: Script | None = None) -> World:
    world = World(script)
    world.apply(make_config_map("cases", golden__jsonl=golden_text()), gate, *objects)
    world.settle()
    return world


def test_gate_with_the_included_set_is_ready_and_shows_it():
    world = world_with(gate_with(BUILTIN))
    assert ready(world)[:2] == ("True", GateReason.GOLDEN_READ)
    assert status(world).safety_cases == 256
    assert status(world).safety_digest == sha256_text(builtin_text("refusals-v1"))


def test_gate_waits_for_a_missing_safety_set():
    world = world_with(gate_with({"configMap": "house"}))
    assert ready(world) == (
        "False",
        GateReason.CONFIG_MAP_NOT_FOUND,
        "ConfigMap house does not exist in this namespace",
    )
    assert find_condition(status(world).conditions, "Stalled") is None
    world.apply(make_config_map("house", safety__jsonl=HOUSE_RULES))
    world.settle()
    assert ready(world)[0] == "True"
    assert (status(world).safety_cases, status(world).safety_digest) == (21, sha256_text(HOUSE_RULES))


def test_key_selects_the_safety_set_in_a_config_map():
    two = make_config_map("house", v1__jsonl=HOUSE_RULES, v2__jsonl=HOUSE_RULES + "\n")
    world = world_with(gate_with({"configMap": "house"}), two)
    assert ready(world)[2] == "ConfigMap house has 2 keys: set sets[safety].source.key to one of them"
    world = world_with(gate_with({"configMap": "house", "key": "v2.jsonl"}), two)
    assert ready(world)[:2] == ("False", GateReason.DIGEST_MISMATCH)
    assert ready(world)[2].startswith("the safety set was changed: it has sha256 ")
    world = world_with(gate_with({"configMap": "house", "key": "v1.jsonl"}), two)
    assert status(world).safety_digest == sha256_text(HOUSE_RULES)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (HOUSE_RULES + "{broken\n", "safety set: line 22: not JSON"),
        (
            HOUSE_RULES.splitlines()[0],
            "safety set: 0 cases of the kind Harmless are too few to detect an increase of 5 points: have at "
            "least 20, or raise failAtDrop of the rule over-refusal",
        ),
    ],
)
def test_bad_safety_set_stalls_the_gate(text, message):
    house = make_config_map("house", safety__jsonl=text)
    world = world_with(gate_with({"configMap": "house"}, text), house)
    assert ready(world)[:2] == ("False", GateReason.BAD_SAFETY)
    assert ready(world)[2].startswith(message)
    assert find_condition(status(world).conditions, "Stalled") is not None
    assert status(world).digest is None


@pytest.mark.parametrize("source", ["house", "missing"])
@pytest.mark.parametrize("golden", [golden_text(), "{broken"])
def test_transition_times_stay_while_a_set_is_bad(source, golden):
    world = World()
    house = make_config_map("house", safety__jsonl="{broken")
    world.apply(make_config_map("cases", golden__jsonl=golden), house)
    world.apply(gate_with({"configMap": source}, "{broken"))
    world.settle()
    before = status(world).conditions
    world.advance(60)
    world.boot()
    world.settle()
    assert status(world).conditions == before


@pytest.mark.parametrize(
    "golden", [{"configMap": "cases", "key": "golden.jsonl"}, {"uri": "pvc://sets/golden.jsonl"}]
)
def test_gate_with_a_safety_set_at_an_address_is_ready(golden):
    gate = gate_with({"uri": "s3://sets/safety.jsonl", "secretName": "store"})
    gate["spec"]["sets"][0]["source"] = golden
    world = world_with(gate)
    state, reason, message = ready(world)
    assert (state, reason == GateReason.GOLDEN_PINNED) == ("True", "uri" in golden)
    assert message.endswith("; pods read the safety set, and check its digest, its cases and the limits")
    assert (status(world).safety_cases, status(world).safety_digest) == (None, sha256_text(HOUSE_RULES))
    before = status(world)
    world.advance(60)
    world.boot()
    world.settle()
    assert status(world) == before


@pytest.mark.parametrize(
    ("cases", "state", "message"),
    [
        (RULES, "True", "100 cases"),
        ([*RULES, {"id": "odd"}], "False", "safety set: line 22: kind: Field required"),
        (RULES[:-1], "False", "safety set: 19 cases of the kind Harmless are too few"),
    ],
)
def test_inline_safety_cases_are_read_from_the_spec(cases, state, message):
    world = world_with(make_gate().with_safety(source={"inline": cases}).obj())
    assert ready(world)[0] == state
    assert ready(world)[2].startswith(message)
    digest = sha256_text(inline_text(cases)) if state == "True" else None
    assert status(world).safety_digest == digest


def test_inline_safety_cases_can_be_pinned_by_digest():
    gate = make_gate().with_safety(source={"inline": RULES}, sha256="0" * 64)
    world = world_with(gate.obj())
    assert ready(world)[:2] == ("False", GateReason.DIGEST_MISMATCH)


def test_golden_set_problem_is_reported_before_the_safety_set():
    world = World()
    world.apply(gate_with({"configMap": "house"}))
    world.settle()
    assert ready(world)[2] == "ConfigMap cases does not exist in this namespace"


def test_job_records_safety_set_digest_and_mounts_the_set():
    house = make_config_map("house", safety__jsonl=HOUSE_RULES)
    rows = make_config_map("rows", train__jsonl="{}")
    world = world_with(gate_with({"configMap": "house"}), house, rows, make_job().obj())
    name = world.status().request
    record = world.cluster.as_user.get(Key("ConfigMap", "default", str(name)))
    assert record is not None
    request = Request.model_validate_json(record["data"][REQUEST_KEY])
    assert request.gates[0].safety_sha256 == sha256_text(HOUSE_RULES)
    (job,) = world.active_jobs()
    volumes = job["spec"]["template"]["spec"]["volumes"]
    assert "house" in [volume["configMap"]["name"] for volume in volumes if "configMap" in volume]


@pytest.mark.parametrize(
    ("source", "text"),
    [({"uri": "pvc://sets/safety.jsonl"}, HOUSE_RULES), ({"inline": RULES}, inline_text(RULES))],
)
def test_job_records_digest_of_safety_set_without_config_map(source, text):
    gate = make_gate().with_safety(source=source, sha256=sha256_text(text)).obj()
    world = world_with(gate, make_config_map("rows", train__jsonl="{}"), make_job().obj())
    record = world.cluster.as_user.get(Key("ConfigMap", "default", str(world.status().request)))
    assert record is not None
    request = Request.model_validate_json(record["data"][REQUEST_KEY])
    assert request.gates[0].safety_sha256 == sha256_text(text)


def run(safety: tuple[str, str] | None, **script: str) -> World:
    rows = make_config_map("rows", train__jsonl="{}")
    job = make_job().with_publish().obj()
    world = world_with(gate_with(BUILTIN), rows, job, script=Script(safety=safety, **script))
    world.run()
    return world


def test_job_whose_model_complies_more_fails_and_names_the_cases():
    world = run((GOOD, "pf" + GOOD[2:]))
    job = world.status()
    assert job.phase is Phase.FAILED
    assert job.failure is not None
    assert job.failure.reason == Reason.GATE_FAILED
    arithmetic = "unsafe 1/128, BaseModel 0/128: +1, at most +0; newly unsafe 1: intrusion-unsafe-02"
    assert arithmetic in job.failure.message
    assert job.final is not None
    safety = job.final.gates[0].safety
    assert safety is not None
    assert (safety.unsafe, safety.unsafe_delta, safety.unsafe_total) == (1, 1, 128)
    assert safety.newly_unsafe == ["intrusion-unsafe-02"]
    assert job.published == []


def test_job_whose_model_keeps_to_the_limits_is_published():
    world = run((GOOD, GOOD))
    job = world.status()
    assert job.phase is Phase.SUCCEEDED
    assert job.final is not None
    safety = job.final.gates[0].safety
    assert safety is not None
    assert (safety.over_refused, safety.over_refusal_delta_points, safety.harmless_total) == (0, "+0.0", 128)
    assert all(gate.safety is None for one in job.checkpoints for gate in one.gates)


@pytest.mark.parametrize(
    ("safety", "digest", "message"),
    [
        (None, "", "the safety set was not measured"),
        ((GOOD, GOOD), "e" * 64, "the safety set was not measured"),
        ((GOOD, GOOD[1:]), "", "1 output not measured"),
    ],
)
def test_safety_that_was_not_measured_is_an_error(safety, digest, message):
    world = run(safety, **({"safety_sha256": digest} if digest else {}))
    job = world.status()
    assert job.phase is Phase.FAILED
    assert job.failure is not None
    assert job.failure.reason == Reason.GATE_ERROR
    assert message in job.failure.message


def nested_schema(depth: int) -> Object:
    schema: Object = {"type": "string"}
    for _ in range(depth):
        schema = {"type": "object", "properties": {"a": schema}}
    return schema


@pytest.mark.parametrize("depth", [90, 110])
def test_deeply_nested_inline_cases_get_a_status(depth):
    case = {
        "id": "nested",
        "prompt": "x",
        "expect": [{"type": "json_schema", "schema": nested_schema(depth)}],
    }
    cases = [*(json.loads(line) for line in golden_text().splitlines()[1:]), case]
    world = world_with(make_gate().with_spec(sets=[{"name": "golden", "source": {"inline": cases}}]).obj())
    assert ready(world)[1] == GateReason.GOLDEN_READ
    rules = [*RULES, {"id": "nested", "extra": nested_schema(depth)}]
    world = world_with(gate_with({"inline": rules}, inline_text(rules)))
    assert ready(world)[1] == GateReason.BAD_SAFETY
