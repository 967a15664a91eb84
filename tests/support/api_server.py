"""A real API server with etcd and the controllers that clean up, for one test session."""

import base64
import secrets
import socket
import subprocess
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

import urllib3
import yaml
from kubernetes import client
from kubernetes.config import new_client_from_config_dict

from support.waiting import eventually

BUILD = Path(__file__).parents[1] / "cluster" / "build.sh"
CRDS = Path(__file__).parents[2] / "crds"
PROGRAMS = ("etcd", "kube-apiserver", "kube-controller-manager")
CONTROLLERS = "garbage-collector-controller,namespace-controller,serviceaccount-controller,job-controller"


class ApiServer:
    """A running API server. ``folder`` has its logs and ``admin.kubeconfig``."""

    def __init__(self, folder: Path, port: int, token: str) -> None:
        self.folder = folder
        self.url = f"https://127.0.0.1:{port}"
        self._token = token
        self.kubeconfig = folder / "admin.kubeconfig"

    def write_kubeconfig(self) -> None:
        """For kubectl, Kopf and the controllers. The server makes its certificate when it starts."""
        certificate = base64.b64encode(self._certificate.read_bytes()).decode()
        self.kubeconfig.write_text(yaml.safe_dump(self._config(certificate)))

    def client(self, **settings: Any) -> client.ApiClient:
        """A client of the administrator's."""
        configuration = client.Configuration()
        for name, value in settings.items():
            setattr(configuration, name, value)
        return new_client_from_config_dict(
            yaml.safe_load(self.kubeconfig.read_text()), client_configuration=configuration
        )

    def is_ready(self) -> bool:
        if not self._certificate.exists():
            return False
        pool = urllib3.PoolManager(ca_certs=str(self._certificate), retries=False)
        try:
            headers = {"Authorization": f"Bearer {self._token}"}
            return pool.request("GET", f"{self.url}/readyz", headers=headers, timeout=2).status == 200
        except urllib3.exceptions.HTTPError:
            return False
        finally:
            pool.clear()

    @property
    def _certificate(self) -> Path:
        return self.folder / "certs" / "apiserver.crt"

    def install_crds(self) -> None:
        """Create our CustomResourceDefinitions and wait until they are served."""
        with self.client() as api:
            extensions = client.ApiextensionsV1Api(api)
            for path in sorted(CRDS.glob("*.yaml")):
                made = extensions.create_custom_resource_definition(yaml.safe_load(path.read_text()))
                name = made.metadata.name
                eventually(lambda name=name: _is_established(extensions, name), what=f"{name} is served")

    def _config(self, certificate: str) -> dict[str, Any]:
        return {
            "apiVersion": "v1",
            "kind": "Config",
            "clusters": [
                {"name": "test", "cluster": {"server": self.url, "certificate-authority-data": certificate}}
            ],
            "users": [{"name": "admin", "user": {"token": self._token}}],
            "contexts": [{"name": "test", "context": {"cluster": "test", "user": "admin"}}],
            "current-context": "test",
        }


@contextmanager
def api_server(folder: Path) -> Iterator[ApiServer]:
    """Start one below ``folder``, which must be empty; everything ends with the context."""
    built = subprocess.run([BUILD, *PROGRAMS], check=True, stdout=subprocess.PIPE, text=True)
    bin = Path(built.stdout.strip())
    server = ApiServer(folder, free_port(), secrets.token_urlsafe())
    etcd, peer, manager = free_port(), free_port(), free_port()
    keys = folder / "service-accounts.key"
    subprocess.run(["openssl", "genrsa", "-out", keys, "2048"], check=True, capture_output=True)
    (folder / "tokens.csv").write_text(f"{server._token},admin,admin,system:masters\n")
    port = server.url.rpartition(":")[2]
    with ExitStack() as running:

        def start(program: str, *flags: str) -> None:
            running.enter_context(_running(bin / program, flags, folder / f"{program}.log"))

        start(
            "etcd",
            f"--data-dir={folder / 'etcd'}",
            "--unsafe-no-fsync",
            f"--listen-client-urls=http://127.0.0.1:{etcd}",
            f"--advertise-client-urls=http://127.0.0.1:{etcd}",
            f"--listen-peer-urls=http://127.0.0.1:{peer}",
        )
        start(
            "kube-apiserver",
            f"--etcd-servers=http://127.0.0.1:{etcd}",
            "--bind-address=127.0.0.1",
            f"--secure-port={port}",
            f"--cert-dir={folder / 'certs'}",
            f"--token-auth-file={folder / 'tokens.csv'}",
            "--authorization-mode=RBAC",
            "--service-cluster-ip-range=10.96.0.0/16",
            "--service-account-issuer=https://kubernetes.default.svc",
            f"--service-account-key-file={keys}",
            f"--service-account-signing-key-file={keys}",
        )
        eventually(server.is_ready, seconds=60, what="the API server is ready", pause=0.2)
        server.write_kubeconfig()
        start(
            "kube-controller-manager",
            f"--kubeconfig={server.kubeconfig}",
            f"--controllers={CONTROLLERS}",
            f"--secure-port={manager}",
            f"--service-account-private-key-file={keys}",
            "--leader-elect=false",
        )
        server.install_crds()
        yield server


@contextmanager
def _running(program: Path, flags: tuple[str, ...], log: Path) -> Iterator[None]:
    with log.open("w") as output:
        process = subprocess.Popen([program, *flags], stdout=output, stderr=subprocess.STDOUT)
    try:
        yield
    finally:
        process.terminate()
        try:
            process.wait(timeout=10)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()


def _is_established(extensions: client.ApiextensionsV1Api, name: str) -> bool:
    found = extensions.read_custom_resource_definition(name)
    conditions = found.status.conditions or [] if found.status else []
    return any(c.type == "Established" and c.status == "True" for c in conditions)


def free_port() -> int:
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        port: int = listener.getsockname()[1]
        return port
