"""s3://: tests that only apply to object stores."""

import json
import shutil

import pytest
from botocore.session import get_session

from support.stores.s3_server import BUCKET
from support.stores.web_server import Response, WebServer
from tunegate_api.contract.process import ExitCode, Role
from tunegate_api.contract.workspace import Workspace
from tunegate_api.v1alpha2.environment import ALLOWED
from tunegate_trainer.main import main

pytestmark = pytest.mark.model

WEIGHTS = "model.safetensors"
PART = 5 << 20
"""The minimum size of a part that S3 accepts, in bytes."""


def failure(root):
    return root.report(Role.DATA).failure


def test_rows_are_read_from_a_bucket(s3_store, s3_server, make_job):
    s3_server.check_credentials(False)
    rows = "".join(json.dumps({"prompt": f"mug {i}", "completion": f"{i}"}) + "\n" for i in range(60))
    s3_server.put("rows/train.jsonl", rows.encode())
    s3_server.check_credentials(True)
    source = {"uri": f"s3://{BUCKET}/rows/train.jsonl", "secretName": "store"}
    root = make_job(s3_store.source(), s3_store.secret, train=source)
    assert main(["data"]) == ExitCode.OK
    data = root.report(Role.DATA).plan.data
    assert data.train.rows + data.dev.rows + data.test.rows == 60


def test_credentials_come_from_the_environment_without_a_secret(s3_store, make_job, monkeypatch):
    for name, value in s3_store.secret.items():
        monkeypatch.setenv(name, value)
    root = make_job(s3_store.source(secretName=None))
    assert main(["data"]) == ExitCode.OK
    assert root.report(Role.DATA).plan.model.parameters > 1000


def test_missing_credentials_are_reported(s3_store, make_job, monkeypatch):
    monkeypatch.setenv("AWS_ENDPOINT_URL", s3_store.secret["AWS_ENDPOINT_URL"])
    monkeypatch.setenv("AWS_EC2_METADATA_DISABLED", "true")
    root = make_job(s3_store.source(secretName=None))
    assert main(["data"]) == ExitCode.CREDENTIALS
    assert "no credentials were found (NoCredentialsError)" in failure(root).message
    assert failure(root).hint == "set model.secretName to a Secret with credentials for this address"


@pytest.mark.parametrize(
    ("variable", "value", "code", "message"),
    [
        (
            "AWS_ACCESS_KEY_ID",
            "key",
            ExitCode.CREDENTIALS,
            "no credentials were found (PartialCredentialsError)",
        ),
        (
            "AWS_PROFILE",
            "nope",
            ExitCode.USER_ERROR,
            "the S3 client cannot be created (ProfileNotFound)",
        ),
    ],
)
def test_incomplete_credentials_in_the_environment_are_reported(
    s3_store, make_job, monkeypatch, variable, value, code, message
):
    monkeypatch.setenv(variable, value)
    root = make_job(s3_store.source(secretName=None))
    assert main(["data"]) == code
    assert message in failure(root).message


def test_s3_endpoint_of_a_job_is_not_used_for_sts(monkeypatch):
    """AWS_ENDPOINT_URL is not allowed, because STS uses it too and would send the service account's token
    there."""
    names = [name for group in ALLOWED for name in group.names if "ENDPOINT" in name]
    for name in names:
        monkeypatch.setenv(name, "http://store.example")
    session = get_session()
    assert session.create_client("s3", region_name="eu-west-1").meta.endpoint_url == "http://store.example"
    sts = session.create_client("sts", region_name="eu-west-1")
    assert sts.meta.endpoint_url == "https://sts.eu-west-1.amazonaws.com"


def test_missing_key_of_the_secret_is_named(s3_store, make_job):
    secret = {key: value for key, value in s3_store.secret.items() if key != "AWS_SECRET_ACCESS_KEY"}
    root = make_job(s3_store.source(), secret)
    assert main(["data"]) == ExitCode.CREDENTIALS
    assert failure(root).message == "Secret store has no key AWS_SECRET_ACCESS_KEY"


def test_missing_bucket_is_named(s3_store, make_job):
    root = make_job(s3_store.source(uri="s3://elsewhere/team/tiny"), s3_store.secret)
    assert main(["data"]) == ExitCode.NOT_FOUND
    assert failure(root).message == "model.uri: bucket elsewhere does not exist"


def test_checksum_of_a_multipart_upload_is_verified(s3_store, s3_server, make_job):
    s3_server.check_credentials(False)
    row = json.dumps({"prompt": "a mug, please " * 20, "completion": "mug"}) + "\n"
    content = (row * (1 + PART // len(row))).encode()[:PART] + b"\n" + row.encode()
    s3_server.put_in_parts("rows/parts.jsonl", [content[:PART], content[PART:]])
    s3_server.check_credentials(True)
    source = {"uri": f"s3://{BUCKET}/rows/parts.jsonl", "secretName": "store"}
    root = make_job(s3_store.source(), s3_store.secret, train=source)
    s3_server.damage("parts.jsonl")
    assert main(["data"]) == ExitCode.BAD_DATA
    assert "parts.jsonl does not match the checksum that the server reports" in failure(root).message
    s3_server.mend("parts.jsonl")
    assert main(["data", "--attempt", "2"]) == ExitCode.BAD_DATA
    assert "not JSON" in failure(root).message, "the checksum matches, and only the content is refused"


def test_multipart_upload_with_uneven_parts_is_accepted_unverified(s3_store, s3_server, make_job):
    s3_server.check_credentials(False)
    rows = "".join(json.dumps({"prompt": f"mug {i}", "completion": f"{i}"}) + "\n" for i in range(60))
    content = rows.encode()[:-1] + b" " * (2 * PART + 1000) + b"\n"
    s3_server.put_in_parts(
        "rows/uneven.jsonl", [content[: PART + 1000], content[PART + 1000 : -100], content[-100:]]
    )
    s3_server.check_credentials(True)
    root = make_job(
        s3_store.source(),
        s3_store.secret,
        train={"uri": f"s3://{BUCKET}/rows/uneven.jsonl", "secretName": "store"},
    )
    assert main(["data"]) == ExitCode.OK
    assert root.report(Role.DATA).plan.data.train.rows > 0


@pytest.fixture
def encrypted(s3_server, model_files):
    """Weights that are encrypted with a customer's key, so their ETag is not an MD5. Return a function that
    replaces them."""

    def put(content: bytes) -> None:
        s3_server.check_credentials(False)
        s3_server.client.put_object(
            Bucket=BUCKET, Key=f"team/tiny/{WEIGHTS}", Body=content, ServerSideEncryption="aws:kms"
        )
        s3_server.check_credentials(True)

    put(model_files[WEIGHTS])
    return put


def retrained(weights: bytes) -> bytes:
    return weights[:-1000] + bytes(1000)


def weights_of(root) -> bytes:
    plan = root.report(Role.DATA).plan
    return (root.workspace / Workspace.base_model(plan.model.digest) / WEIGHTS).read_bytes()


def test_changed_model_of_the_same_size_is_downloaded_again(s3_store, encrypted, make_job, model_files):
    root = make_job(s3_store.source(), s3_store.secret)
    assert main(["data"]) == ExitCode.OK
    encrypted(retrained(model_files[WEIGHTS]))
    shutil.rmtree(root.workspace / root.paths.job)
    assert main(["data"]) == ExitCode.OK
    assert weights_of(root) == retrained(model_files[WEIGHTS])


def test_download_does_not_resume_with_another_version(s3_store, encrypted, make_job, model_files):
    root = make_job(s3_store.source(), s3_store.secret)
    s3_store.proxy.break_after(200_000, then=s3_store.proxy.go_down)
    assert main(["data"]) == ExitCode.UNREACHABLE
    encrypted(model_files[WEIGHTS][:-1000] + bytes(1000))
    s3_store.proxy.come_up()
    assert main(["data", "--attempt", "2"]) == ExitCode.OK
    assert weights_of(root) == retrained(model_files[WEIGHTS])


def test_expired_session_token_is_a_credentials_error(s3_server, make_job):
    with WebServer(lambda _: Response(400)) as server:
        secret = s3_server.secret | {
            "AWS_SESSION_TOKEN": "old",
            "AWS_ENDPOINT_URL": f"http://127.0.0.1:{server.port}",
        }
        source = {"uri": f"s3://{BUCKET}/rows/train.jsonl", "secretName": "store"}
        root = make_job({"uri": f"s3://{BUCKET}/team/tiny", "secretName": "store"}, secret, train=source)
        assert main(["data"]) == ExitCode.CREDENTIALS
    assert "check that the credentials in Secret store are valid" in failure(root).hint


def test_file_that_changes_during_the_download_is_refused(s3_store, s3_server, make_job, model_files):
    root = make_job(s3_store.source(), s3_store.secret)

    def change() -> None:
        s3_server.check_credentials(False)
        s3_server.put("team/tiny/model.safetensors", model_files["model.safetensors"][::-1])

    s3_store.proxy.break_after(200_000, then=change)
    assert main(["data"]) == ExitCode.STORAGE
    assert failure(root).message == f"model.uri: {s3_store.uri} changed while it was downloaded"
    s3_server.put("team/tiny/model.safetensors", model_files["model.safetensors"])
    assert main(["data", "--attempt", "2"]) == ExitCode.OK
