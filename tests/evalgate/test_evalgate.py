"""An EvalGate checks its golden set, and records the models that it judged."""

import json

import pytest

from support.builders import golden_text, make_config_map, make_gate, make_job
from support.gate_status import ready, status
from support.graders import GUARDRAIL, JUDGE, PEOPLE, with_graders
from support.world import Script, World
from tunegate_api.contract.digests import sha256_text
from tunegate_api.meta import find_condition
from tunegate_api.v1alpha2 import EvalGate, EvalGateStatus
from tunegate_api.v1alpha2.evalgate_status import MAX_RECORDS, GateReason, JudgedModel
from tunegate_api.v1alpha2.reasons import Phase
from tunegate_operator.engine.cluster import Key, Object
from tunegate_operator.evalgate.observe import may_be_new
from tunegate_operator.evalgate.records import with_records
from tunegate_operator.names import RESULTS_KEY, records_name, results_name

HUNDRED = (
    "100 cases; a model that is worse by 5 points passes 44 of 100 comparisons, and one that is worse by "
    "9 points at most 5 of 100"
)


def test_gate_is_ready_once_its_golden_set_matches_the_digest():
    world = World()
    world.apply(make_config_map("cases", golden__jsonl=golden_text()), make_gate().obj())
    world.settle()
    assert ready(world) == ("True", GateReason.GOLDEN_READ, HUNDRED)
    assert (status(world).cases, status(world).digest) == (100, make_gate().spec["sets"][0]["sha256"])


COMPARES_ONLY = [{"name": "all", "failAtDrop": "5%"}]


def test_ready_says_that_the_base_rate_is_unknown():
    world = World()
    gate = make_gate().with_golden(rules=COMPARES_ONLY)
    world.apply(make_config_map("cases", golden__jsonl=golden_text()), gate.obj())
    world.settle()
    value, reason, message = ready(world)
    assert (value, reason) == ("True", GateReason.GOLDEN_READ)
    assert message.startswith(f"{HUNDRED}; whether a rule can fail is unknown until")


@pytest.mark.parametrize(("base", "is_ready"), [(4, "False"), (5, "True")])
def test_gate_is_not_ready_if_no_rule_can_fail(base, is_ready):
    world = World(Script(base=base))
    gate = make_gate().with_golden(rules=COMPARES_ONLY)
    gate.spec["compareWith"] = [{"type": "BaseModel"}]
    world.apply(make_config_map("cases", golden__jsonl=golden_text()), gate.obj())
    world.apply(make_config_map("rows", train__jsonl="{}"), make_job().obj())
    assert world.run().phase is Phase.SUCCEEDED
    value, reason, message = ready(world)
    assert value == is_ready
    if is_ready == "False":
        assert reason == GateReason.NO_RULE_CAN_FAIL
        assert "passes 4 of 100 golden cases, so no rule can fail: set minPassRate" in message


def test_recreated_gate_with_other_cases_starts_with_empty_records():
    world = World()
    world.apply_all()
    assert world.run().phase is Phase.SUCCEEDED
    assert len(status(world).records) == 1
    user = world.cluster.as_user
    for kind, name in (("EvalGate", "golden"), ("ConfigMap", "cases")):
        found = user.get(Key(kind, "default", name))
        user.delete(Key(kind, "default", name), found["metadata"]["uid"])
    text = golden_text().replace("case-", "other-")
    gate = make_gate().obj()
    gate["spec"]["sets"][0]["sha256"] = sha256_text(text)
    world.apply(make_config_map("cases", golden__jsonl=text), gate)
    world.settle()
    assert ready(world)[0] == "True"
    assert status(world).records == []
    assert status(world).last_verdict is None


def volume_gate(uri: str = "pvc://sets/golden.jsonl") -> Object:
    """Build a gate whose golden set is at an address, which the operator cannot read."""
    gate = make_gate().obj()
    gate["spec"]["sets"][0]["source"] = {"uri": uri}
    return gate


def test_gate_with_remote_set_is_ready_and_counts_judged_cases():
    world = World()
    gate = volume_gate()
    world.apply(gate)
    world.settle()
    assert ready(world) == (
        "True",
        GateReason.GOLDEN_PINNED,
        "pods read the golden set, and check its digest, its cases and its rules",
    )
    assert (status(world).cases, status(world).digest) == (None, gate["spec"]["sets"][0]["sha256"])
    world.apply(make_config_map("rows", train__jsonl="{}"), make_job().obj())
    assert world.run().phase is Phase.SUCCEEDED
    assert (status(world).cases, status(world).records[0].total) == (100, 100)


def test_results_of_another_set_than_the_remote_fail_the_job():
    world = World(Script(golden_sha256="e" * 64))
    world.apply(volume_gate(), make_config_map("rows", train__jsonl="{}"), make_job().obj())
    assert world.run().phase is Phase.FAILED
    assert status(world).records == []


def test_gate_waits_for_a_missing_golden_set():
    world = World()
    world.apply(make_gate().obj())
    world.settle()
    assert ready(world)[:2] == ("False", GateReason.CONFIG_MAP_NOT_FOUND)
    assert find_condition(status(world).conditions, "Stalled") is None
    world.apply(make_config_map("cases", golden__jsonl=golden_text()))
    world.settle()
    assert ready(world)[0] == "True"


def test_configmap_key_with_leading_dot_is_ignored_by_default():
    world = World()
    keys = make_config_map("cases", golden__jsonl=golden_text())
    keys["data"] |= {".notes": "not a golden set"}
    gate = make_gate().obj()
    gate["spec"]["sets"][0]["source"].pop("key", None)
    world.apply(keys, gate)
    world.settle()
    assert ready(world) == ("True", GateReason.GOLDEN_READ, HUNDRED)


def test_golden_set_key_with_leading_dot_must_be_named():
    world = World()
    keys = make_config_map("cases")
    keys["data"] = {".golden.jsonl": golden_text()}
    gate = make_gate().obj()
    gate["spec"]["sets"][0]["source"].pop("key", None)
    world.apply(keys, gate)
    world.settle()
    assert ready(world)[:2] == ("False", GateReason.CONFIG_MAP_NOT_FOUND)
    gate = make_gate().named("named").obj()
    gate["spec"]["sets"][0]["source"]["key"] = ".golden.jsonl"
    world.apply(gate)
    world.settle()
    named = EvalGateStatus.model_validate(world.gate("named")["status"])
    condition = find_condition(named.conditions, "Ready")
    assert condition is not None
    assert condition.status == "True"


def test_changed_golden_set_stalls_the_gate():
    world = World()
    world.apply(make_config_map("cases", golden__jsonl=golden_text()), make_gate().obj())
    world.settle()
    config_map = world.cluster.as_user.get(Key("ConfigMap", "default", "cases"))
    config_map["data"]["golden.jsonl"] += "\n"
    world.cluster.as_user.replace(config_map)
    world.settle()
    assert ready(world)[:2] == ("False", GateReason.DIGEST_MISMATCH)
    stalled = find_condition(status(world).conditions, "Stalled")
    assert stalled is not None
    assert status(world).digest is None


def test_broken_golden_set_is_reported_with_the_faulty_line():
    text = golden_text() + "{broken\n"
    gate = make_gate().obj()
    gate["spec"]["sets"][0]["sha256"] = sha256_text(text)
    world = World()
    world.apply(make_config_map("cases", golden__jsonl=text), gate)
    world.settle()
    assert ready(world)[1] == GateReason.BAD_GOLDEN
    assert "line 101: not JSON" in ready(world)[2]


def test_gate_must_name_a_key_if_its_configmap_has_several():
    world = World()
    world.apply(make_config_map("cases", a="", b=""), make_gate().obj())
    world.settle()
    assert ready(world)[2] == "ConfigMap cases has 2 keys: set sets[golden].source.key to one of them"


def test_inline_cases_make_the_gate_ready():
    case = {"id": "a", "prompt": "hi", "expect": [{"type": "contains", "value": "yes"}]}
    gate = make_gate().obj()
    golden = {"name": "golden", "source": {"inline": [case]}, "rules": [{"name": "all", "minPassRate": "1%"}]}
    gate["spec"] |= {"sets": [golden], "compareWith": []}
    world = World()
    world.apply(gate)
    world.settle()
    assert ready(world) == ("True", GateReason.GOLDEN_READ, "1 case")


@pytest.mark.parametrize(
    ("test", "end"),
    [
        ("NonInferior", "; for a model with the same outcomes, have at least 59"),
        ("Measured", "and one that is worse by 12.1 points at most 5 of 100"),
    ],
)
def test_ready_message_counts_groups_as_independent_cases(test, end):
    rows = [json.loads(line) for line in golden_text().splitlines()]
    text = "".join(json.dumps(row | {"group": f"template-{i // 2}"}) + "\n" for i, row in enumerate(rows))
    gate = make_gate().with_limits(test=test).obj()
    gate["spec"]["sets"][0]["sha256"] = sha256_text(text)
    world = World()
    world.apply(make_config_map("cases", golden__jsonl=text), gate)
    world.settle()
    state, _, message = ready(world)
    assert state == "True"
    assert message.startswith("100 cases; groups count as 50 independent cases; a model that is worse by")
    assert message.endswith(end)


def sealed_world(cases: int) -> World:
    world, gate, text = World(), make_gate(), golden_text(cases)
    gate.with_golden(sealed="30%", sha256=sha256_text(text))
    world.apply(make_config_map("cases", golden__jsonl=text), gate.obj())
    world.settle()
    return world


def test_ready_message_counts_sealed_cases():
    assert ready(sealed_world(100))[2].startswith(
        "100 cases, 30 sealed until the final gate; a model that is"
    )


def test_gate_with_too_few_cases_for_checkpoints_is_not_ready():
    status, reason, message = ready(sealed_world(25))
    assert (status, reason) == ("False", GateReason.UNREACHABLE_RULES)
    assert message.startswith(
        "spec.sets[0].sealed: checkpoints are evaluated on the 18 cases that are not sealed, and "
    )


def test_ready_message_counts_advisory_cases():
    gate = make_gate().with_golden(advisory=["case-98", "case-99"]).obj()
    world = World()
    world.apply(make_config_map("cases", golden__jsonl=golden_text()), gate)
    world.settle()
    state, _, message = ready(world)
    assert state == "True"
    assert message.startswith("100 cases, 2 of them advisory; a model that is worse by 5 points passes")


@pytest.mark.parametrize(
    ("rules", "message"),
    [
        (
            [{"name": "critical", "cases": ["case-7", "pii"], "minPassRate": "100%"}],
            "spec.sets[0].rules[0].cases[1]: no golden case that counts has the id or the tag pii",
        ),
        (
            [{"name": "all"}, {"name": "needed", "cases": ["adversarial"]}],
            "spec.sets[0].rules[1].cases[0]: no golden case that counts has the id or the tag adversarial",
        ),
        (
            [{"name": "all", "failAtDrop": "0.5%"}],
            "spec.sets[0].rules[0].failAtDrop: 100 golden cases are too few to detect a drop of 0.5 points, "
            "so no model can pass: have at least 200 cases, or raise failAtDrop",
        ),
    ],
)
def test_gate_no_model_can_pass_is_not_ready(rules, message):
    gate = make_gate().with_golden(rules=rules).obj()
    world = World()
    world.apply(make_config_map("cases", golden__jsonl=golden_text()), gate, make_job().obj())
    world.settle()
    assert ready(world) == ("False", GateReason.UNREACHABLE_RULES, message)
    stalled = find_condition(status(world).conditions, "Stalled")
    assert stalled is not None
    assert world.status().phase is Phase.PENDING
    assert message in world.status().message


@pytest.mark.parametrize(
    ("expectation", "needed"), [("judge", "type: Model and agreement"), ("guardrail", "type: Guardrail")]
)
def test_gate_without_the_server_of_its_cases_is_not_ready(expectation, needed):
    gate = make_gate().obj()
    case = {"id": "a", "prompt": "hi", "expect": [{"type": "all", "of": [{"type": expectation}]}]}
    gate["spec"]["sets"][0] = {"name": "golden", "source": {"inline": [case]}}
    world = World()
    world.apply(gate)
    world.settle()
    message = (
        f"spec.graders: the expectation {expectation} of the golden cases a requires a grader with {needed}"
    )
    assert ready(world) == ("False", GateReason.INVALID_SPEC, message)


def test_gate_with_invalid_probes_of_its_guardrail_is_not_ready():
    gate, probe = make_gate().obj(), {"prompt": "Where?", "answer": "Here."}
    people = PEOPLE | {"source": {"inline": [probe | {"good": True}, probe]}, "sha256": None}
    guardrail = GUARDRAIL | {"agreement": {"set": "people"}}
    gate["spec"] = with_graders(gate["spec"], guardrail, people=people)
    world = World()
    world.apply(make_config_map("cases", golden__jsonl=golden_text()), gate)
    world.settle()
    message = "spec.sets[1].source.inline[1]: good: Field required"
    assert ready(world) == ("False", GateReason.INVALID_SPEC, message)


def test_unused_judge_does_not_stop_a_gate():
    gate = make_gate().obj()
    gate["spec"] = with_graders(gate["spec"], JUDGE, GUARDRAIL)
    world = World()
    world.apply(make_config_map("cases", golden__jsonl=golden_text()), gate)
    world.settle()
    assert ready(world)[:2] == ("True", GateReason.GOLDEN_READ)


def test_invalid_spec_stalls_the_gate():
    gate = make_gate().obj()
    gate["spec"]["sets"][0]["source"] = {}
    world = World()
    world.apply(gate)
    world.settle()
    assert ready(world)[:2] == ("False", GateReason.INVALID_SPEC)


def test_final_model_record_is_kept_after_job_deletion():
    world = World()
    world.apply_all(make_job().with_publish().obj())
    world.run()
    uid = world.job()["metadata"]["uid"]
    world.cluster.as_user.delete(Key("FineTuneJob", "default", "orders"), uid)
    world.settle()
    gate = status(world)
    (record,) = gate.records
    assert (record.job, record.passed, record.total, record.base_passed) == ("orders", 94, 100, 10)
    assert record.published_uris == ["pvc://models/orders"]
    assert (gate.last, gate.last_verdict, gate.pass_rate, gate.base_rate, gate.published_rate) == (
        "orders/step-40",
        "Passed",
        "0.94",
        "0.10",
        "0.94",
    )


def test_record_counts_no_advisory_cases():
    world = World()
    gate = make_gate().with_golden(advisory=["case-0", "case-99"]).obj()
    world.apply_all(make_job().with_publish().obj(), gate=gate)
    world.run()
    (record,) = status(world).records
    assert (record.passed, record.total, record.base_passed, len(record.outcomes)) == (93, 98, 9, 100)


@pytest.mark.parametrize("data", [{}, {RESULTS_KEY: '{"cut'}], ids=["no key", "cut"])
def test_unreadable_results_of_a_job_are_reported_and_not_recorded(data: dict[str, str]) -> None:
    world = World()
    world.apply(make_config_map("cases", golden__jsonl=golden_text()))
    world.apply(make_config_map("rows", train__jsonl="{}"), make_gate().obj(), make_job().obj())
    world.run()
    user, meta = world.cluster.as_user, world.job()["metadata"]
    results = user.get(Key("ConfigMap", "default", results_name(meta["name"], meta["uid"])))
    cut = {key: text + make_gate().spec["sets"][0]["sha256"] for key, text in data.items()}
    user.replace(world.signed(results | {"data": cut}))
    gate = world.gate()
    user.delete(Key.of(gate), gate["metadata"]["uid"])
    world.apply(make_gate().obj())
    world.settle()
    assert ready(world)[0] == "True"
    assert status(world).records == []
    messages = [m for _, _, reason, m in world.cluster.events if reason == "RecordUnreadable"]
    assert len(messages) == 1
    assert results["metadata"]["name"] in messages[0]


def record(number: int, uris: list[str]) -> JudgedModel:
    return JudgedModel.model_validate(
        {
            "job": f"job-{number}",
            "jobUid": str(number),
            "step": 1,
            "modelDigest": "d" * 64,
            "goldenSha256": "e" * 64,
            "passed": 9,
            "total": 10,
            "verdict": "Passed",
            "publishedUris": uris,
            "time": f"2026-01-01T00:{number:02}:00Z",
        }
    )


@pytest.mark.parametrize("published", [0, 3])
def test_newest_records_and_baselines_are_kept(published):
    records = tuple(record(n, ["pvc://models/a"] if n == published else []) for n in range(40))
    kept = with_records(EvalGateStatus(), records).records
    assert len(kept) == MAX_RECORDS
    assert kept[0].job == "job-39"
    assert f"job-{published}" in {r.job for r in kept}


def test_job_whose_record_was_dropped_is_not_read_again():
    """A baseline that is older than dropped records is kept. The dropped records must not count as new
    again."""
    records = tuple(record(n, ["pvc://models/a"] if n == 0 else []) for n in range(40))
    obj = make_gate().obj() | {"status": with_records(EvalGateStatus(), records).to_wire()}
    gate = EvalGate.model_validate(obj)

    def job(minute: int) -> dict[str, object]:
        final = {"gates": [{"name": "golden"}]}
        ended = f"2026-01-01T00:{minute:02}:30Z"
        return {"metadata": {"uid": "another"}, "status": {"final": final, "completionTime": ended}}

    assert [minute for minute in (5, 15, 25, 45) if may_be_new(gate, job(minute))] == [25, 45]


def test_gate_whose_record_cannot_be_written_names_the_object():
    world = World()
    world.apply_all(make_job().with_publish().obj())
    gate = world.gate()
    name = records_name("golden", gate["metadata"]["uid"])
    taken = world.cluster.as_user.create(make_config_map(name))
    world.run()
    world.advance(1)
    value, reason, message = ready(world)
    assert (value, reason) == ("False", GateReason.RECORDS_REFUSED)
    assert f"ConfigMap {name} already exists, but it has no owner" in message
    world.cluster.as_user.delete(Key.of(taken), taken["metadata"]["uid"])
    world.advance(60)
    assert ready(world)[:2] == ("True", GateReason.GOLDEN_READ)
    assert [record.job for record in status(world).records] == ["orders"]
