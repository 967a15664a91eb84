"""Pods do not connect to loopback and link-local addresses, whatever leads there, unless they are allowed."""

import json
import os
import socket
import subprocess
import sys
import textwrap
from collections.abc import Iterator
from ipaddress import ip_network
from pathlib import Path

import pytest

from support.stores.web_server import Request, Response, WebServer
from support.trainer_root import TrainerRoot, orders_spec
from tunegate_api.contract.process import LOCAL_ADDRESSES_VARIABLE, ExitCode
from tunegate_trainer.process.local_addresses import LocalAddressError, find_local_address, is_refused

ROWS = b'{"prompt": "a", "completion": "b"}\n'
UNSPECIFIED = ".".join("0000")
REFUSED = "an address of the pod or its node"


@pytest.mark.parametrize(
    "host",
    [
        *("127.0.0.1", "127.255.0.9", "::1", UNSPECIFIED, "::", "169.254.169.254", "fe80::1", "fe80::1%2"),
        *("::ffff:127.0.0.1", "::ffff:169.254.169.254", "fd00:ec2::254", "100.100.100.200"),
        *("64:ff9b::a9fe:a9fe", "2002:a9fe:a9fe::1", "168.63.129.16"),
        *("localhost", "127.1", "2130706433", ""),
    ],
)
def test_local_address_and_unresolved_name_are_refused(host: str) -> None:
    assert is_refused(host, ())


@pytest.mark.parametrize(
    "host", ["10.96.0.10", "192.168.1.1", "8.8.8.8", "2001:db8::1", "fd12::1", "64:ff9b::808:808"]
)
def test_address_of_another_machine_is_not_refused(host: str) -> None:
    assert not is_refused(host, ())


def test_allowed_network_is_not_refused_in_either_notation() -> None:
    allowed = (ip_network("169.254.20.10/32"), ip_network("fe80::/64"))
    assert not is_refused("169.254.20.10", allowed)
    assert not is_refused("::ffff:169.254.20.10", allowed)
    assert not is_refused("fe80::1", allowed)
    assert is_refused("169.254.20.11", allowed)


def test_refused_connection_is_found_among_several_attempts() -> None:
    group = ExceptionGroup("attempts", [OSError("another"), LocalAddressError("::1")])
    outer = OSError("all failed")
    outer.__cause__ = group
    assert find_local_address(outer) is group.exceptions[1]
    assert find_local_address(OSError("another")) is None


@pytest.fixture
def server() -> Iterator[WebServer]:
    def answer(request: Request) -> Response:
        if request.path == "/moved":
            return Response(302, headers={"Location": request.query["to"]})
        return Response(body=ROWS)

    with WebServer(answer) as server:
        yield server


FORK, NEW_PROCESS = ("-m", "tunegate_trainer.code"), ("-c",)
"""Options of Python that run code in a fork of the trainer, if a test uses ``warm_roles``, and in a process
that has imported nothing."""
forked = pytest.mark.usefixtures("warm_roles")


def run(code: str, allowed: str | None = "", how: tuple[str, ...] = FORK, **environment: str) -> str:
    """Run code in a process as in a pod. Return the error with which it ended, and an empty text if there is
    none."""
    start = "from tunegate_trainer.process.local_addresses import refuse_local_addresses as start\nstart()\n"
    own = {LOCAL_ADDRESSES_VARIABLE: allowed} if allowed is not None else {}
    inherited = {k: v for k, v in os.environ.items() if "proxy" not in k.lower() and not k.startswith("HF_")}
    done = subprocess.run(
        [sys.executable, *how, start + textwrap.dedent(code)],
        env=inherited | own | environment,
        capture_output=True,
        text=True,
        check=False,
        timeout=100,
    )
    assert done.returncode in (0, 1), done.stderr
    return "" if done.returncode == 0 else done.stderr.strip().splitlines()[-1]


def find(uri: str, module: str = "web", what: str = "data") -> str:
    """Return the code that looks for a file, a folder or a model."""
    return f"""
        from tunegate_trainer.fetch import {module}
        from tunegate_trainer.fetch.address import Address
        address = Address("data.sources[train].uri", {uri!r})
        {module}.find_{what}(address{", list" if what == "model" else ""})
    """


@forked
@pytest.mark.parametrize("host", ["127.0.0.1", "localhost", "[::ffff:127.0.0.1]", UNSPECIFIED, "2130706433"])
def test_source_at_a_local_address_is_refused_with_advice(server: WebServer, host: str) -> None:
    error = run(find(f"http://{host}:{server.port}/rows.jsonl"))
    assert "UserError: data.sources[train].uri: the connection would lead to" in error
    assert REFUSED in error
    assert server.requests == []


@forked
def test_source_is_fetched_from_an_allowed_address(server: WebServer) -> None:
    assert run(find(f"http://127.0.0.1:{server.port}/rows.jsonl"), "127.0.0.1/32") == ""


@forked
def test_laptop_may_fetch_from_this_machine(server: WebServer) -> None:
    assert run(find(f"http://127.0.0.1:{server.port}/rows.jsonl"), None) == ""


@forked
def test_redirect_to_a_local_address_is_refused(server: WebServer) -> None:
    to = f"http://127.0.0.2:{server.port}/rows.jsonl"
    error = run(find(f"http://127.0.0.1:{server.port}/moved?to={to}"), "127.0.0.1/32")
    assert f"the connection would lead to 127.0.0.2, {REFUSED}" in error
    assert [request.path for request in server.requests] == ["/moved"]


@forked
def test_name_that_is_resolved_to_another_address_later_is_refused(server: WebServer) -> None:
    rebinding = f"""
        import socket
        answers = iter(["127.0.0.1", "169.254.169.254"])
        def resolve(host, port, *_, **__):
            return [(socket.AF_INET, socket.SOCK_STREAM, 6, "", (next(answers), port))]
        socket.getaddrinfo = resolve
        {find(f"http://rows.example:{server.port}/rows.jsonl").strip()}
        web.find_data(address)
    """
    error = run(rebinding, "127.0.0.1/32")
    assert f"the connection would lead to 169.254.169.254, {REFUSED}" in error
    assert len(server.requests) == 1


def test_hub_store_and_registry_at_local_addresses_are_refused(server: WebServer) -> None:
    here = f"127.0.0.1:{server.port}"
    keys = {"AWS_ACCESS_KEY_ID": "a", "AWS_SECRET_ACCESS_KEY": "b", "AWS_ENDPOINT_URL_S3": f"http://{here}"}
    rows = "hf://datasets/org/rows@main/rows.jsonl"
    assert REFUSED in run(find(rows, "hub"), how=NEW_PROCESS, HF_ENDPOINT=f"http://{here}")
    assert REFUSED in run(find("s3://rows/rows.jsonl", "s3"), how=NEW_PROCESS, **keys)
    assert REFUSED in run(find(f"oci://{here}/rows:v1", "oci", "model"), how=NEW_PROCESS)
    assert server.requests == []


@forked
@pytest.mark.parametrize("host", ["localhost", "127.0.0.1"])
def test_judge_at_a_local_address_is_refused_without_retry(server: WebServer, host: str) -> None:
    error = run(f"""
        import asyncio
        from tunegate_api.v1alpha2.endpoint import Endpoint
        from tunegate_trainer.graders.server.chat_server import ChatServer
        async def ask():
            endpoint = Endpoint(url="http://{host}:{server.port}/v1", model="judge")
            async with ChatServer(endpoint, None, "spec.graders[judge].endpoint") as chat:
                await chat.complete([{{"role": "user", "content": "hello"}}], 8)
        asyncio.run(ask())
    """)
    assert "UserError: spec.graders[judge].endpoint.url: the connection would lead to" in error
    assert server.requests == []


@forked
def test_connections_of_a_process_to_itself_are_not_affected() -> None:
    """Unix sockets, and the address at which the ranks of one pod meet."""
    with socket.create_server(("127.0.0.1", 0)) as listening:
        port = listening.getsockname()[1]
        code = f"""
            import asyncio, socket
            asyncio.run(asyncio.sleep(0))
            one, other = socket.socketpair()
            socket.create_connection(("127.0.0.1", {port})).close()
        """
        assert run(code, TUNEGATE_MASTER=f"127.0.0.1:{port}") == ""
        assert REFUSED in run(code, TUNEGATE_MASTER=f"127.0.0.1:{port + 1}")


@forked
def test_data_pod_fails_at_once_with_the_field(server: WebServer, tmp_path: Path, tiny_model: Path) -> None:
    uri = f"http://127.0.0.1:{server.port}/rows.jsonl"
    spec = orders_spec(tiny_model, {"sources": [{"name": "train", "uri": uri}]})
    root = TrainerRoot(tmp_path, spec=spec).write_for_data(tiny_model)
    done = subprocess.run(
        [sys.executable, "-m", "tunegate_trainer", "data"],
        env=os.environ | {"TUNEGATE_ROOT": str(root.path), LOCAL_ADDRESSES_VARIABLE: ""},
        check=False,
        capture_output=True,
        text=True,
    )
    assert done.returncode == ExitCode.USER_ERROR, done.stderr
    failure = json.loads((root.path / "termination.json").read_text())["failure"]
    assert failure["message"].startswith("data.sources[train].uri: the connection would lead to 127.0.0.1")
    assert "allowedLocalAddresses" in failure["hint"]
    assert server.requests == []
