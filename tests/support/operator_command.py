"""Run the operator as its image does, with ``python -m tunegate_operator``, against a real API server."""

import os
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import urllib3
from kubernetes import client, utils

from support.api_server import ApiServer, free_port
from support.helm import NAMESPACE, Helm
from support.waiting import eventually

SERVICE = "tunegate-reports"
POLICY = ("ValidatingAdmissionPolicy", "ValidatingAdmissionPolicyBinding")
CONFIGURING = ("TUNEGATE_", "KUBE", "POD_")
"""Prefixes of the caller's environment variables that would configure the operator, and so are removed."""
RIGHTS = ("ClusterRole", "ClusterRoleBinding", "Role", "RoleBinding", *POLICY)


class OperatorCommand:
    """One operator process."""

    def __init__(self, server: ApiServer, log: Path, **settings: str) -> None:
        self.health_port = free_port()
        self.log = log
        environment = {
            **{name: value for name, value in os.environ.items() if not name.startswith(CONFIGURING)},
            "KUBECONFIG": str(server.operator_kubeconfig),
            "MALLOC_ARENA_MAX": "2",  # as in its Dockerfile
            "TUNEGATE_TRAINER_IMAGE": "trainer:test",
            "TUNEGATE_LOG_FORMAT": "json",
            "TUNEGATE_REPORT_SERVICE": SERVICE,
            "TUNEGATE_REPORT_PORT": str(free_port()),
            "TUNEGATE_HEALTH_PORT": str(self.health_port),
            "POD_NAME": "operator-0",
            "POD_NAMESPACE": NAMESPACE,
            "POD_IP": own_address(),
            **settings,
        }
        with log.open("a") as output:
            self.process = subprocess.Popen(
                [sys.executable, "-m", "tunegate_operator"],
                env=environment,
                stdout=output,
                stderr=subprocess.STDOUT,
            )

    def probe(self, path: str) -> int:
        """Return the status code of a probe; 0 if there is no answer."""
        try:
            url = f"http://127.0.0.1:{self.health_port}{path}"
            return urllib3.request("GET", url, timeout=2, retries=False).status
        except urllib3.exceptions.HTTPError:
            return 0

    def is_ready(self) -> bool:
        """Return whether the operator is ready. Raises RuntimeError with the end of its log if it has
        ended."""
        if self.process.poll() is not None:
            raise RuntimeError(f"the operator ended with {self.process.returncode}:\n{self.log_tail()}")
        return self.probe("/readyz") == 200

    def log_tail(self) -> str:
        """Return the last lines of the operator's log."""
        return "\n".join(self.log.read_text().splitlines()[-20:])

    def kill(self) -> None:
        self.process.kill()
        self.process.wait()

    def stop(self, seconds: float = 30) -> int:
        """Send SIGTERM to the operator, and wait until it ends. Returns the exit code."""
        self.process.send_signal(signal.SIGTERM)
        return self.process.wait(seconds)


def grant_rights(api: client.ApiClient, *values: str) -> None:
    """Create the operator's namespace, and the permissions and policy of the chart with these ``--set``
    arguments."""
    client.CoreV1Api(api).create_namespace({"metadata": {"name": NAMESPACE}})
    for (kind, _), obj in Helm().render(*values).items():
        if kind in RIGHTS:
            utils.create_from_dict(api, obj)


def own_address() -> str:
    """Return an address of this machine that is not a loopback one, which an EndpointSlice would refuse."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe:
        probe.connect(("192.0.2.1", 9))  # sends nothing
        address: str = probe.getsockname()[0]
    return address


@contextmanager
def operator(server: ApiServer, log: Path, **settings: str) -> Iterator[OperatorCommand]:
    """Start an operator, and wait until it is ready. It is stopped when the context ends."""
    command = OperatorCommand(server, log, **settings)
    try:
        try:
            eventually(command.is_ready, seconds=60, what="the operator is ready")
        except AssertionError as error:
            raise RuntimeError(f"the operator is not ready:\n{command.log_tail()}") from error
        yield command
    finally:
        if command.process.poll() is None:
            try:
                command.stop()
            except subprocess.TimeoutExpired:
                command.kill()
