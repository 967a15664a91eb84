"""A real API server with etcd and some controllers, such as the garbage collector, for one test session."""

import base64
import random
import secrets
import shutil
import socket
import subprocess
import uuid
from collections.abc import Iterator
from contextlib import contextmanager, suppress
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
API_SERVER_FLAGS = (
    "--authorization-mode=RBAC",
    "--service-cluster-ip-range=10.96.0.0/16",
)
STRICT_OWNERS = "--enable-admission-plugins=OwnerReferencesPermissionEnforcement"
"""Flags for an admission plugin that is strict about who may set owner references."""


OPERATOR = "system:serviceaccount:tunegate-system:tunegate"
"""The operator's user name. It has the permissions that the chart grants, and identifies the operator's
requests in the audit log."""
AUDIT_POLICY = {
    "apiVersion": "audit.k8s.io/v1",
    "kind": "Policy",
    "omitStages": ["RequestReceived"],
    "rules": [{"level": "Metadata"}],
}


class ApiServer:
    """A running API server. ``folder`` has its logs, and the kubeconfigs of the administrator, the operator
    and the controllers."""

    def __init__(self, folder: Path, token: str) -> None:
        self.folder = folder
        self.port = free_port()
        self.url = f"https://127.0.0.1:{self.port}"
        self._token = token
        self.kubeconfig = folder / "admin.kubeconfig"
        self.operator_kubeconfig = folder / "operator.kubeconfig"
        self.controllers_kubeconfig = folder / "controllers.kubeconfig"
        self.audit_log = folder / "audit.log"
        self._programs: dict[str, _Program] = {}

    def write_kubeconfig(self) -> None:
        """Write the kubeconfigs of kubectl, Kopf and the controllers. Call it when the server is ready,
        because the server creates its certificate at the start."""
        certificate = base64.b64encode(self._certificate.read_bytes()).decode()
        for path, suffix in (
            (self.kubeconfig, ""),
            (self.operator_kubeconfig, "-operator"),
            (self.controllers_kubeconfig, "-controllers"),
        ):
            path.write_text(yaml.safe_dump(self._config(certificate, self._token + suffix)))

    def client(self, **settings: Any) -> client.ApiClient:
        """Return a client with the administrator's permissions."""
        configuration = client.Configuration()
        for name, value in settings.items():
            setattr(configuration, name, value)
        return new_client_from_config_dict(
            yaml.safe_load(self.kubeconfig.read_text()), client_configuration=configuration
        )

    def start(self, program: "_Program") -> None:
        self._programs[program.name] = program
        program.start()

    def wait_until_ready(self) -> None:
        eventually(self.is_ready, seconds=60, what=f"the API server is ready, see {self.folder}", pause=0.1)

    @contextmanager
    def outage(self) -> Iterator[None]:
        """Stop the API server and the controllers until the context ends. Then wait until they are ready.
        etcd keeps running."""
        _, server, controllers = (self._programs[name] for name in PROGRAMS)
        controllers.stop()
        server.stop()
        try:
            yield
        finally:
            server.start()
            self.wait_until_ready()
            controllers.start()

    def back_up(self) -> Path:
        """Copy the data of etcd, and return the folder with the copy. All programs are stopped meanwhile."""
        backup = self.folder / f"etcd-{uuid.uuid4().hex[:6]}"
        with self._etcd_outage():
            shutil.copytree(self.folder / "etcd", backup)
        return backup

    def restore(self, backup: Path) -> None:
        """Replace the data of etcd by a copy of it. All programs are stopped meanwhile."""
        with self._etcd_outage():
            shutil.rmtree(self.folder / "etcd")
            shutil.copytree(backup, self.folder / "etcd")

    @contextmanager
    def _etcd_outage(self) -> Iterator[None]:
        etcd = self._programs["etcd"]
        with self.outage():
            etcd.stop()
            yield
            etcd.start()

    def stop(self) -> None:
        """Stop every program, in reverse order."""
        for program in reversed(self._programs.values()):
            program.stop()

    def is_ready(self) -> bool:
        for program in self._programs.values():
            program.check()
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
        """Create Tunegate's CustomResourceDefinitions, and wait until they are served."""
        with self.client() as api:
            extensions = client.ApiextensionsV1Api(api)
            for path in sorted(CRDS.glob("*.yaml")):
                made = extensions.create_custom_resource_definition(yaml.safe_load(path.read_text()))
                name = made.metadata.name
                eventually(lambda name=name: _is_established(extensions, name), what=f"{name} is served")

    def _config(self, certificate: str, token: str) -> dict[str, Any]:
        return {
            "apiVersion": "v1",
            "kind": "Config",
            "clusters": [
                {"name": "test", "cluster": {"server": self.url, "certificate-authority-data": certificate}}
            ],
            "users": [{"name": "user", "user": {"token": token}}],
            "contexts": [{"name": "test", "context": {"cluster": "test", "user": "user"}}],
            "current-context": "test",
        }


@contextmanager
def api_server(
    folder: Path,
    *,
    controllers: str = CONTROLLERS,
    audit: bool = False,
    definitions: bool = True,
    strict_owners: bool = True,
) -> Iterator[ApiServer]:
    """Start an API server in ``folder``, which must be empty. It is stopped when the context ends.

    ``audit`` writes every request to ``audit.log``. Without ``definitions``, Tunegate's CRDs are not
    installed. Without ``strict_owners``, everybody may set any owner reference, as in most clusters.
    """
    built = subprocess.run([BUILD, *PROGRAMS], check=True, stdout=subprocess.PIPE, text=True)
    bin = Path(built.stdout.strip())
    token = secrets.token_urlsafe()
    (folder / "tokens.csv").write_text(
        f"{token},admin,admin,system:masters\n{token}-operator,{OPERATOR},operator\n"
        f"{token}-controllers,system:kube-controller-manager,controllers\n"
    )
    (folder / "audit.yaml").write_text(yaml.safe_dump(AUDIT_POLICY))
    keys = folder / "service-accounts.key"
    subprocess.run(["openssl", "genrsa", "-out", keys, "2048"], check=True, capture_output=True)
    server, etcd, peer = ApiServer(folder, token), free_port(), free_port()
    try:
        server.start(
            _Program(
                bin / "etcd",
                folder,
                f"--data-dir={folder / 'etcd'}",
                "--unsafe-no-fsync",
                f"--listen-client-urls=http://127.0.0.1:{etcd}",
                f"--advertise-client-urls=http://127.0.0.1:{etcd}",
                f"--listen-peer-urls=http://127.0.0.1:{peer}",
            )
        )
        server.start(
            _Program(
                bin / "kube-apiserver",
                folder,
                f"--etcd-servers=http://127.0.0.1:{etcd}",
                "--bind-address=127.0.0.1",
                f"--secure-port={server.port}",
                f"--cert-dir={folder / 'certs'}",
                f"--token-auth-file={folder / 'tokens.csv'}",
                *API_SERVER_FLAGS,
                *((STRICT_OWNERS,) if strict_owners else ()),
                *(_audit_flags(server) if audit else ()),
                "--service-account-issuer=https://kubernetes.default.svc",
                f"--service-account-key-file={keys}",
                f"--service-account-signing-key-file={keys}",
            )
        )
        server.wait_until_ready()
        server.write_kubeconfig()
        if definitions:
            server.install_crds()  # first, because the garbage collector checks for new kinds only every 30 s
        server.start(
            _Program(
                bin / "kube-controller-manager",
                folder,
                f"--kubeconfig={server.controllers_kubeconfig}",
                "--use-service-account-credentials",  # as in most clusters: each controller has its account
                f"--controllers={controllers}",
                f"--secure-port={free_port()}",
                f"--service-account-private-key-file={keys}",
                "--leader-elect=false",
            )
        )
        yield server
    finally:
        server.stop()


class _Program:
    """A program of the cluster, with its log in ``folder``. The program is killed if the test process
    ends."""

    def __init__(self, path: Path, folder: Path, *flags: str) -> None:
        self.name = path.name
        self._log = folder / f"{path.name}.log"
        self._command = ["setpriv", "--pdeathsig", "KILL", path, *flags]
        self._process: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        with self._log.open("ab") as output:
            self._process = subprocess.Popen(self._command, stdout=output, stderr=subprocess.STDOUT)

    def check(self) -> None:
        """Raise RuntimeError with the end of the log if the program has ended."""
        if self._process and self._process.poll() is not None:
            end = "\n".join(self._log.read_text(errors="replace").splitlines()[-20:])
            raise RuntimeError(f"{self.name} ended with exit code {self._process.returncode}:\n{end}")

    def stop(self) -> None:
        process, self._process = self._process, None
        if process is None:
            return
        process.terminate()
        try:
            process.wait(timeout=10)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()


def _audit_flags(server: ApiServer) -> tuple[str, ...]:
    return f"--audit-policy-file={server.folder / 'audit.yaml'}", f"--audit-log-path={server.audit_log}"


def _is_established(extensions: client.ApiextensionsV1Api, name: str) -> bool:
    found = extensions.read_custom_resource_definition(name)
    conditions = found.status.conditions or [] if found.status else []
    return any(c.type == "Established" and c.status == "True" for c in conditions)


def free_port() -> int:
    """Return a port on which nothing listens, for a server that needs a port number as a setting.

    The port is below the ephemeral port range (``ip_local_port_range``), because an outgoing connection could
    take an ephemeral port before the server starts.
    """
    for _ in range(100):
        port = random.SystemRandom().randrange(10_000, 20_000)
        with socket.socket() as probe, suppress(OSError):
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            probe.bind(("", port))
            return port
    raise RuntimeError("no port between 10000 and 20000 is free")
