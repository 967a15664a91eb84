"""hf://: what is particular to a model hub."""

import json

import pytest

from support.stores.model_hub import COMMIT, TOKEN, Repository
from tunegate_api.contract import ExitCode, Role
from tunegate_api.plan import ModelLicense, Plan
from tunegate_trainer.main import main

pytestmark = pytest.mark.model

SOURCE = {"uri": "hf://org/tiny", "revision": COMMIT}


def run(root) -> str:
    """The data role's exit code, and what it said went wrong."""
    code = ExitCode(main(["data"]))
    failure = root.report(Role.DATA).failure
    return f"{code.name}: {failure.message}" if failure else code.name


def asked_for(hub) -> set[str]:
    return {asked.path.rpartition("/")[2] for server in (hub.server, hub.cdn) for asked in server.asked}


def test_weights_in_the_layout_of_another_library_are_left(model_hub, make_job):
    files = model_hub.repositories["org/tiny"].files
    files["consolidated.safetensors"] = files["model.safetensors"]
    files["original/model.safetensors"] = files["model.safetensors"]
    root = make_job(SOURCE)
    assert run(root) == "OK"
    assert "model.safetensors" in asked_for(model_hub)
    assert not asked_for(model_hub) & {"consolidated.safetensors", "pytorch_model.bin"}
    assert not any("original" in asked.path for asked in model_hub.cdn.asked)


def test_a_token_is_shown_to_the_hub_alone(model_hub, make_job, caplog):
    caplog.set_level("INFO")  # as in a pod
    root = make_job(SOURCE | {"secretName": "store"}, {"HF_TOKEN": TOKEN})
    assert run(root) == "OK"
    assert any("Authorization" in asked.headers for asked in model_hub.server.asked)
    assert model_hub.cdn.asked
    assert "signature" not in caplog.text, "who has a signed address may read the file"
    assert not any("Authorization" in asked.headers for asked in model_hub.cdn.asked)


def test_a_public_model_needs_no_secret(model_hub, make_job):
    root = make_job(SOURCE)
    assert run(root) == "OK"
    assert not any("Authorization" in asked.headers for asked in model_hub.server.asked)


def test_license_of_the_card_is_in_the_plan_also_without_a_download(model_hub, make_job):
    model_hub.repositories["org/tiny"].card = {"license": "apache-2.0"}
    root = make_job(SOURCE)
    for _ in range(2):  # the second time the model is on the volume, and nothing is asked
        assert run(root) == "OK"
        plan = Plan.model_validate_json((root.data / "plan.json").read_bytes())
        assert plan.model.license == ModelLicense(id="apache-2.0")
        (root.data / "plan.json").unlink()


def test_a_server_that_sends_whole_files_only_is_taken_as_it_is(model_hub, make_job):
    model_hub.cdn.ignores_ranges = model_hub.server.ignores_ranges = True
    assert run(make_job(SOURCE)) == "OK"


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"is_gated": True}, "CREDENTIALS: model.uri: hf://org/tiny refuses access: the repository is gated"),
        ({"is_private": True}, "NOT_FOUND: model.uri: there is no hf://org/tiny, or it is private"),
        ({"revisions": {"main": COMMIT}}, f"NOT_FOUND: model.uri: hf://org/tiny has no revision {COMMIT}"),
        (
            {"files": {"adapter_config.json": b"{}", "adapter_model.safetensors": b"x" * 20_000}},
            "USER_ERROR: model.uri: hf://org/tiny holds an adapter, not a whole model",
        ),
        (
            {"files": {"config.json": b"{}", "pytorch_model.bin": b"x" * 20_000}},
            "USER_ERROR: model.uri: hf://org/tiny has weights only as pytorch_model.bin",
        ),
    ],
)
def test_what_cannot_be_had_is_said_before_anything_is_downloaded(model_hub, make_job, change, said):
    for name, value in change.items():
        setattr(model_hub.repositories["org/tiny"], name, value)
    assert run(make_job(SOURCE)).startswith(said)
    assert model_hub.cdn.asked == []


@pytest.mark.usefixtures("model_hub")
def test_a_secret_without_a_token_is_named(make_job):
    root = make_job(SOURCE | {"secretName": "store"}, {"token": TOKEN})
    assert run(root) == "CREDENTIALS: Secret store has no key HF_TOKEN"


def test_rows_come_from_a_data_set_at_a_commit(model_hub, make_job):
    rows = "".join(json.dumps({"prompt": f"mug {i}", "completion": f"{i}"}) + "\n" for i in range(60))
    files = {"data/train.jsonl": rows.encode()}
    model_hub.repositories["datasets/org/orders"] = Repository(files, is_private=True)
    source = {"uri": f"hf://datasets/org/orders@{COMMIT}/data/train.jsonl", "secretName": "store"}
    root = make_job(SOURCE, {"HF_TOKEN": TOKEN}, train=source)
    assert run(root) == "OK"
    data = root.report(Role.DATA).plan.data
    assert data.train.rows + data.dev.rows + data.test.rows == 60
    assert list((root.workspace / root.paths.download).glob("*")) == []


def test_a_file_that_a_data_set_does_not_have_is_named_with_those_it_has(model_hub, make_job):
    model_hub.repositories["datasets/org/orders"] = Repository({"train.jsonl": b"{}"})
    root = make_job(SOURCE, train={"uri": "hf://datasets/org/orders/rows.jsonl"})
    assert run(root) == "NOT_FOUND: data.train.uri: there is no file rows.jsonl in org/orders"
    assert root.report(Role.DATA).failure.hint == "it has: train.jsonl"
