"""oci://: the layouts of artifacts, and authentication."""

import json
import shutil

import pytest

from support.stores.oci_registry import INDEX, MANIFEST, PASSWORD, USER, docker_config
from support.stores.web_server import Response, WebServer
from tunegate_api.contract.process import ExitCode, Role
from tunegate_api.contract.workspace import Workspace
from tunegate_trainer.fetch.registry import Login, Repository, login_of
from tunegate_trainer.main import main

pytestmark = pytest.mark.model


@pytest.fixture
def host(registry) -> str:
    return f"127.0.0.1:{registry.server.port}"


@pytest.fixture
def needed(model_files) -> dict[str, bytes]:
    return {name: content for name, content in model_files.items() if not name.endswith((".bin", ".md"))}


def source(host: str, reference: str = ":v1", **more: str) -> dict[str, str]:
    return {"uri": f"oci://{host}/models/tiny{reference}", **more}


def files_of(root) -> dict[str, bytes]:
    """Return the model's files in the workspace."""
    plan = root.report(Role.DATA).plan
    folder = root.workspace / Workspace.base_model(plan.model.digest)
    sealed = ("DONE", "manifest.json")
    return {path.name: path.read_bytes() for path in folder.iterdir() if path.name not in sealed}


def failure(root):
    return root.report(Role.DATA).failure


@pytest.mark.parametrize("gzip", [False, True])
@pytest.mark.parametrize("folder", ["", "models/"])
def test_model_is_unpacked_from_archives(registry, host, make_job, needed, gzip, folder):
    names = sorted(needed)
    system = registry.push_archive({"etc/passwd": b"root", "bin/sh": b"\x7fELF"}, gzip=gzip)
    halves = [
        registry.push_archive({folder + name: needed[name] for name in half}, gzip=gzip)
        for half in (names[:2], names[2:])
    ]
    registry.push("v1", system, *halves)
    root = make_job(source(host))
    assert main(["data"]) == ExitCode.OK
    assert files_of(root) == needed


@pytest.mark.parametrize("name", ["../../../escaped.json", "/tmp/escaped.json"])
def test_archive_that_writes_outside_its_folder_is_refused(registry, host, make_job, needed, name):
    registry.push("v1", registry.push_archive({**needed, name: b"{}"}))
    root = make_job(source(host))
    assert main(["data"]) == ExitCode.BAD_DATA
    assert f"contains a file with the path {name}, which would be written outside" in failure(root).message
    assert not list(root.path.rglob("escaped.json"))


@pytest.mark.parametrize("name", ["config.json", "model.safetensors"])
def test_two_different_layers_with_one_path_are_refused(registry, host, make_job, needed, name):
    layers = [registry.push_file(name, content) for name, content in needed.items()]
    registry.push("v1", *layers, registry.push_file(f"./{name}", needed[name] + b" "))
    root = make_job(source(host))
    assert main(["data"]) == ExitCode.BAD_DATA
    assert f"has two layers with the file {name}" in failure(root).message
    assert not any("/blobs/" in request.path for request in registry.server.requests)


@pytest.mark.parametrize(
    "changed", [{"size": "large"}, {"annotations": "x"}, None], ids=["size", "annotations", "no object"]
)
def test_manifest_with_a_damaged_layer_is_refused(registry, host, make_job, needed, changed):
    layers = [registry.push_file(name, content) for name, content in needed.items()]
    registry.push("v1", *layers, {**layers[0], **changed} if changed else "layer")
    root = make_job(source(host))
    assert main(["data"]) == ExitCode.BAD_DATA
    assert "is not an OCI manifest" in failure(root).message


def test_oci_layer_listed_twice_is_accepted(registry, host, make_job, needed):
    layers = [registry.push_file(name, content) for name, content in needed.items()]
    registry.push("v1", *layers, layers[0])
    root = make_job(source(host))
    assert main(["data"]) == ExitCode.OK
    assert files_of(root) == needed


def test_file_in_archive_and_plain_layer_is_refused(registry, host, make_job, needed):
    config = registry.push_file("config.json", needed["config.json"])
    registry.push("v1", config, registry.push_archive({**needed, "config.json": b"{}"}))
    root = make_job(source(host))
    assert main(["data"]) == ExitCode.BAD_DATA
    assert "has two layers with the file config.json" in failure(root).message
    (blob,) = root.workspace.rglob(config["digest"].replace(":", "-"))
    assert blob.read_bytes() == needed["config.json"]


def test_later_archive_replaces_files_of_an_earlier_archive(registry, host, make_job, needed):
    older = registry.push_archive({"config.json": b"{}", "models": b"a file"})
    registry.push("v1", older, registry.push_archive({f"{name}": c for name, c in needed.items()}))
    root = make_job(source(host))
    assert main(["data"]) == ExitCode.OK
    assert files_of(root) == needed


@pytest.mark.parametrize("packed", [True, False])
def test_file_with_the_path_of_a_folder_is_refused(registry, host, make_job, needed, packed):
    inside = registry.push_archive({f"tokenizer.json/{name}": content for name, content in needed.items()})
    file = registry.push_file("tokenizer.json", b"{}")
    registry.push("v1", inside, registry.push_archive({"tokenizer.json": b"{}"}) if packed else file)
    root = make_job(source(host))
    assert main(["data"]) == ExitCode.BAD_DATA
    assert "has both a file and a folder at tokenizer.json" in failure(root).message


def test_archive_larger_than_the_free_space_is_refused(registry, host, make_job, needed, monkeypatch):
    bomb = {**needed, "merges.txt": b"0" * 30_000_000}
    registry.push("v1", registry.push_archive(bomb, gzip=True))
    root = make_job(source(host))
    usage = shutil.disk_usage(root.path)
    monkeypatch.setattr(shutil, "disk_usage", lambda _: usage._replace(free=10_000_000))
    assert main(["data"]) == ExitCode.STORAGE
    assert failure(root).message == (
        f"model.uri: merges.txt in an archive of oci://{host}/models/tiny:v1 unpacks to 30.0 MB, but the "
        "volume has 10.0 MB free"
    )
    assert failure(root).hint == "grow the volume, or free space on it"
    assert not list(root.workspace.rglob("unpacked")), "unpacked files would fill the volume"


@pytest.mark.parametrize("folder", ["tiny/", "../../"])
def test_model_is_found_in_a_folder_of_the_artifact(registry, host, make_job, needed, folder):
    layers = [registry.push_file(f"{folder}{name}", content) for name, content in needed.items()]
    other = registry.push_file(f"{folder}original/model.safetensors", b"x" * 50_000)
    registry.push("v1", other, *layers)
    root = make_job(source(host))
    assert main(["data"]) == ExitCode.OK
    assert files_of(root) == needed
    assert not any(other["digest"] in request.path for request in registry.server.requests)


def test_model_is_found_through_an_index(registry, host, make_job, needed):
    inner = registry.push("inner", *(registry.push_file(name, c) for name, c in needed.items()))
    other = {"digest": f"sha256:{'0' * 64}", "platform": {"os": "windows", "architecture": "amd64"}}
    entries = [other] + [
        {"digest": inner, "mediaType": MANIFEST, "platform": {"os": "linux", "architecture": architecture}}
        for architecture in ("amd64", "arm64")
    ]
    digest = registry.push_manifest("v1", {"schemaVersion": 2, "mediaType": INDEX, "manifests": entries})
    root = make_job(source(host))
    assert main(["data"]) == ExitCode.OK
    assert root.report(Role.DATA).plan.model.revision == digest


def test_manifest_that_does_not_match_the_pinned_digest_is_refused(registry, host, make_job, needed):
    layers = [registry.push_file(name, content) for name, content in needed.items()]
    pinned, other = registry.push("v1", *layers), registry.push("v2", *layers[1:])
    registry.swap(pinned, other)
    root = make_job(source(host, f"@{pinned}"))
    assert main(["data"]) == ExitCode.BAD_DATA
    assert f"with digest {other}" in failure(root).message


@pytest.mark.parametrize("login", ["Basic", "Bearer"])
@pytest.mark.parametrize("kind", ["docker", "basic", "user"])
def test_basic_and_bearer_login_accept_every_kind_of_credentials(
    registry, host, make_job, needed, login, kind, tmp_path, monkeypatch
):
    registry.login = login
    registry.push("v1", *(registry.push_file(name, content) for name, content in needed.items()))
    config = docker_config(host)
    (tmp_path / "config.json").write_text(config)
    monkeypatch.setenv("DOCKER_CONFIG", str(tmp_path))
    secrets = {
        "docker": {".dockerconfigjson": config},
        "basic": {"username": USER, "password": PASSWORD},
        "user": None,
    }
    root = make_job(source(host, secretName="store"), secrets[kind])
    assert main(["data"]) == ExitCode.OK
    assert files_of(root) == needed


def test_secret_for_another_registry_is_reported(registry, host, make_job, needed):
    registry.login = "Bearer"
    registry.push("v1", *(registry.push_file(name, content) for name, content in needed.items()))
    secret = {".dockerconfigjson": docker_config("registry.elsewhere")}
    root = make_job(source(host, secretName="store"), secret)
    assert main(["data"]) == ExitCode.CREDENTIALS
    assert failure(root).message == (f"Secret store: .dockerconfigjson has no user and password for {host}")


def test_expired_token_is_renewed(registry, host, make_job, needed):
    registry.login = "Bearer"
    registry.push("v1", *(registry.push_file(name, content) for name, content in needed.items()))
    registry.tokens_last_for = 2
    secret = {"username": USER, "password": PASSWORD}
    root = make_job(source(host, secretName="store"), secret)
    assert main(["data"]) == ExitCode.OK
    assert files_of(root) == needed


def test_artifact_without_a_model_is_refused_before_download(registry, host, make_job):
    registry.push("v1", registry.push_file("adapter_model.safetensors", b"x" * 50_000))
    root = make_job(source(host))
    assert main(["data"]) == ExitCode.NOT_FOUND
    assert "has no config.json" in failure(root).message
    assert not any("/blobs/" in request.path for request in registry.server.requests)


def test_password_is_not_sent_to_a_redirect_target(registry, host, make_job, needed):
    """Blobs are often on another host, which must not get the login even if it asks for one."""
    registry.login = "Basic"
    registry.push("v1", *(registry.push_file(name, content) for name, content in needed.items()))
    with WebServer(lambda _: Response(401, headers={"WWW-Authenticate": 'Basic realm="mine"'})) as elsewhere:
        registry.blobs_at = f"http://127.0.0.1:{elsewhere.port}"
        root = make_job(source(host, secretName="store"), {"username": USER, "password": PASSWORD})
        assert main(["data"]) == ExitCode.CREDENTIALS
        assert "the registry answered with status 401" in failure(root).message
        assert elsewhere.requests
        assert not any("Authorization" in request.headers for request in elsewhere.requests)


@pytest.mark.parametrize("host", ["docker.io", "index.docker.io", "registry-1.docker.io"])
@pytest.mark.parametrize("written", ["https://index.docker.io/v1/", "docker.io"])
def test_all_host_names_of_docker_hub_are_one_registry(host, written):
    assert Repository(host, "org/tiny").url == "https://registry-1.docker.io"
    config = json.loads(docker_config(written))
    assert login_of(config, host) == Login(USER, PASSWORD)
    assert login_of(config, "registry.elsewhere") is None


@pytest.mark.parametrize(
    ("host", "scheme"),
    [
        *(
            (f"{name}{port}", "http")
            for name in ("localhost", "127.0.0.1", "[::1]")
            for port in ("", ":5000")
        ),
        *((host, "https") for host in ("registry.example", "registry.example:5000", "[2001:db8::1]:5000")),
    ],
)
def test_only_a_registry_on_this_machine_is_reached_without_tls(host, scheme):
    assert Repository(host, "org/tiny").url == f"{scheme}://{host}"
