"""hf://: tests that only apply to a model hub."""

import json

import pytest

from support.stores.model_hub import COMMIT, TOKEN, Repository
from tunegate_api.contract.plan import ModelLicense, Plan
from tunegate_api.contract.process import ExitCode, Role
from tunegate_trainer.main import main

pytestmark = pytest.mark.model

SOURCE = {"uri": "hf://org/tiny", "revision": COMMIT}


def run(root) -> str:
    """Run the data role. Return its exit code and the message of its failure."""
    code = ExitCode(main(["data"]))
    failure = root.report(Role.DATA).failure
    return f"{code.name}: {failure.message}" if failure else code.name


def requested_files(hub) -> set[str]:
    requests = [*hub.server.requests, *hub.cdn.requests]
    return {request.path.rpartition("/")[2] for request in requests}


def test_weights_in_the_layout_of_another_library_are_not_downloaded(model_hub, make_job):
    files = model_hub.repositories["org/tiny"].files
    files["consolidated.safetensors"] = files["model.safetensors"]
    files["original/model.safetensors"] = files["model.safetensors"]
    root = make_job(SOURCE)
    assert run(root) == "OK"
    assert "model.safetensors" in requested_files(model_hub)
    assert not requested_files(model_hub) & {"consolidated.safetensors", "pytorch_model.bin"}
    assert not any("original" in request.path for request in model_hub.cdn.requests)


def test_exhausted_rate_limit_is_awaited(hf_store, make_job, caplog):
    caplog.set_level("WARNING")
    hf_store.proxy.answer_next("429 Too Many Requests", 'RateLimit: "api";r=0;t=1')
    root = make_job(hf_store.source(), hf_store.secret)
    assert run(root) == "OK"
    assert "model.uri: the server answered with status 429; retrying in 1 s" in caplog.text


def test_token_is_sent_only_to_the_hub(model_hub, make_job, caplog):
    caplog.set_level("INFO")  # as in a pod
    root = make_job(SOURCE | {"secretName": "store"}, {"HF_TOKEN": TOKEN})
    assert run(root) == "OK"
    assert any("Authorization" in request.headers for request in model_hub.server.requests)
    assert model_hub.cdn.requests
    assert "signature" not in caplog.text, "anyone with a signed URL can read the file"
    assert not any("Authorization" in request.headers for request in model_hub.cdn.requests)


def test_public_model_needs_no_secret(model_hub, make_job):
    root = make_job(SOURCE)
    assert run(root) == "OK"
    assert not any("Authorization" in request.headers for request in model_hub.server.requests)


def test_plan_has_the_model_cards_license_also_without_a_download(model_hub, make_job):
    model_hub.repositories["org/tiny"].card = {"license": "apache-2.0"}
    root = make_job(SOURCE)
    for _ in range(2):  # the second time, the model is on the volume and the hub gets no request
        assert run(root) == "OK"
        plan = Plan.model_validate_json((root.data / "plan.json").read_bytes())
        assert plan.model.license == ModelLicense(id="apache-2.0")
        (root.data / "plan.json").unlink()


def test_download_works_from_a_server_without_range_requests(model_hub, make_job):
    model_hub.cdn.ignores_ranges = model_hub.server.ignores_ranges = True
    assert run(make_job(SOURCE)) == "OK"


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"is_gated": True}, "CREDENTIALS: model.uri: hf://org/tiny refuses access: the repository is gated"),
        ({"is_private": True}, "NOT_FOUND: model.uri: hf://org/tiny does not exist or is private"),
        ({"revisions": {"main": COMMIT}}, f"NOT_FOUND: model.uri: hf://org/tiny has no revision {COMMIT}"),
        (
            {"files": {"adapter_config.json": b"{}", "adapter_model.safetensors": b"x" * 20_000}},
            "USER_ERROR: model.uri: hf://org/tiny is an adapter, not a whole model",
        ),
        (
            {"files": {"config.json": b"{}", "pytorch_model.bin": b"x" * 20_000}},
            "USER_ERROR: model.uri: hf://org/tiny has no safetensors weights, only files such as "
            "pytorch_model.bin",
        ),
    ],
)
def test_unusable_repository_is_reported_before_any_download(model_hub, make_job, change, message):
    for name, value in change.items():
        setattr(model_hub.repositories["org/tiny"], name, value)
    assert run(make_job(SOURCE)).startswith(message)
    assert model_hub.cdn.requests == []


@pytest.mark.usefixtures("model_hub")
def test_secret_without_a_token_is_named(make_job):
    root = make_job(SOURCE | {"secretName": "store"}, {"token": TOKEN})
    assert run(root) == "CREDENTIALS: Secret store has no key HF_TOKEN"


def test_rows_are_read_from_a_dataset_at_a_commit(model_hub, make_job):
    rows = "".join(json.dumps({"prompt": f"mug {i}", "completion": f"{i}"}) + "\n" for i in range(60))
    files = {"data/train.jsonl": rows.encode()}
    model_hub.repositories["datasets/org/orders"] = Repository(files, is_private=True)
    source = {"uri": f"hf://datasets/org/orders@{COMMIT}/data/train.jsonl", "secretName": "store"}
    root = make_job(SOURCE, {"HF_TOKEN": TOKEN}, train=source)
    assert run(root) == "OK"
    data = root.report(Role.DATA).plan.data
    assert data.train.rows + data.dev.rows + data.test.rows == 60
    assert list((root.workspace / root.paths.download).glob("*")) == []


def test_missing_dataset_file_is_named_with_the_existing_files(model_hub, make_job):
    model_hub.repositories["datasets/org/orders"] = Repository({"train.jsonl": b"{}"})
    root = make_job(SOURCE, train={"uri": "hf://datasets/org/orders/rows.jsonl"})
    assert (
        run(root) == "NOT_FOUND: data.sources[train].uri: there is no file or folder rows.jsonl in org/orders"
    )
    assert root.report(Role.DATA).failure.hint == "the repository has: train.jsonl"


def test_unknown_revision_of_a_dataset_is_named(model_hub, make_job):
    unknown = "f" * 40
    model_hub.repositories["datasets/org/orders"] = Repository({"rows.jsonl": b"{}"})
    root = make_job(SOURCE, train={"uri": f"hf://datasets/org/orders@{unknown}/rows.jsonl"})
    assert f"has no revision {unknown}" in run(root)
