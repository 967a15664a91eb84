"""The operator believes a record only if it has signed it."""

import json

import pytest

from support.builders import golden_text, make_config_map, make_gate, make_job
from support.recorded import delete, request_of
from support.world import World
from tunegate_api.v1alpha2 import FineTuneJob
from tunegate_api.v1alpha2.reasons import Phase, Reason
from tunegate_operator.engine.cluster import Key, Object
from tunegate_operator.engine.objects import uid_of
from tunegate_operator.engine.signatures import Signer
from tunegate_operator.finetunejob.build import owner_of
from tunegate_operator.names import PLAN_KEY, REQUEST_KEY, RESULTS_KEY, plan_name, request_name, results_name

LOOSER = [{"name": "all", "minPassRate": "10%"}]


def edit(world: World, config_map: Object, text: str) -> None:
    """Create a ConfigMap again with other content, as a user, who keeps its signature."""
    [key] = config_map["data"]
    kept = ("name", "namespace", "labels", "annotations", "ownerReferences")
    metadata = {field: config_map["metadata"][field] for field in kept}
    delete(world, config_map)
    world.apply(config_map | {"metadata": metadata, "data": {key: text}})


@pytest.mark.parametrize(
    ("name", "key"), [(plan_name, PLAN_KEY), (results_name, RESULTS_KEY)], ids=["plan", "results"]
)
def test_edited_record_holds_the_job_until_it_is_restored(name, key):
    world = World()
    world.apply_all()
    world.until_checkpoint()
    found = Key("ConfigMap", "default", name("orders", uid_of(world.job())))
    record = world.cluster.as_user.get(found)
    assert record
    edit(world, record, record["data"][key].replace("0", "1"))
    world.settle()
    assert world.condition("Stalled").reason == Reason.RECORD_UNREADABLE
    assert "it does not have the operator's signature" in world.status().message
    assert found.name in world.status().message
    edit(world, world.cluster.as_user.get(found), record["data"][key])
    assert world.run().phase is Phase.SUCCEEDED


def test_forged_request_of_a_new_job_is_not_used():
    other = World()
    other.apply_all()
    other.until_job("data")
    forged = json.loads(request_of(other)["data"][REQUEST_KEY])
    forged["gates"][0]["spec"]["sets"][0]["rules"] = LOOSER

    world = World()
    world.apply(make_config_map("rows", train__jsonl="{}"), make_gate().obj(), make_job().obj())
    world.settle()
    assert world.status().phase is Phase.PENDING, "it waits for the golden set"
    uid = uid_of(world.job())
    request = request_with(world, json.dumps(forged).replace(uid_of(other.job()), uid))
    world.apply(request)
    world.apply(make_config_map("cases", golden__jsonl=golden_text()))
    world.settle()
    assert world.jobs() == []
    assert world.condition("Stalled").reason == Reason.RECORD_UNREADABLE
    found = world.cluster.as_user.get(Key("ConfigMap", "default", request_name("orders", uid)))
    assert found
    delete(world, found)
    assert world.run().phase is Phase.SUCCEEDED
    assert "10%" not in request_of(world)["data"][REQUEST_KEY]


def request_with(world: World, text: str) -> Object:
    """Build the ConfigMap with the request of a job, with the labels and the owner that the operator sets."""
    metadata = owner_of(FineTuneJob.model_validate(world.job())).metadata(
        request_name("orders", uid_of(world.job()))
    )
    return {"apiVersion": "v1", "kind": "ConfigMap", "metadata": metadata, "data": {REQUEST_KEY: text}}


@pytest.mark.parametrize("field", ["namespace", "name", "data"])
def test_signature_is_about_namespace_name_and_data(field):
    signer = Signer(b"key")
    metadata = {"name": "orders-results", "namespace": "team"}
    signed = signer.sign({"kind": "ConfigMap", "metadata": metadata, "data": {"results.json": "{}"}})
    assert signer.is_signed(signed)
    if field == "data":
        other = signed | {"data": {"results.json": "[]"}}
    else:
        other = signed | {"metadata": signed["metadata"] | {field: "other"}}
    assert not signer.is_signed(other)
    assert not Signer(b"other key").is_signed(signed)
