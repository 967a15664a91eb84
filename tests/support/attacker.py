"""An attacker with all permissions in their own namespace, who knows the uid of a job in another
namespace."""

import json
import socket
import ssl
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, suppress
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any
from urllib.parse import urlsplit

import urllib3
from kubernetes import client, utils
from kubernetes.client import ApiException
from kubernetes.config import new_client_from_config_dict

from support.child_attacks import JOB_REFUSED, POD_REFUSED, refusal
from support.fake_kubelet import Address, FakePod
from support.waiting_job import waiting_job
from tunegate_api.contract.process import Outcome, Role
from tunegate_api.contract.report import (
    REPORT_CA_VARIABLE,
    REPORT_URL_VARIABLE,
    PublishedArtifact,
    Report,
    report_audience,
)
from tunegate_api.contract.results import Evaluation, Results, Subject, golden_set
from tunegate_api.verdict.outcomes import CaseSet
from tunegate_operator.names import ATTEMPT_LABEL, JOB_LABEL, MANAGED_LABELS, ROLE_LABEL, STAGE_LABEL

ACCOUNT = "attacker"
FORGED_DIGEST = "f" * 64
MAP_BYTES = 1_000_000
JOB_BYTES = 1_200_000
POSTERS = 4
"""Number of threads that create objects and post reports."""


@dataclass(frozen=True)
class Target:
    """What an attacker may know about a job: its manifest and the report address."""

    uid: str
    name: str
    url: str
    authority: str
    golden_sha256: str
    cases: int
    stage: str
    last_step: int


class Attacker:
    """A service account with all permissions in ``namespace``, granted by ``admin``, and none elsewhere."""

    def __init__(self, admin: client.ApiClient, namespace: str, address: Address, image: str) -> None:
        self._admin = admin
        self._namespace = namespace
        self._address = address
        self._image = image
        self._grant_rights()
        self._api = self._log_in()
        self._core = client.CoreV1Api(self._api)
        self._pods: list[FakePod] = []
        self.answers: list[int] = []
        """The status codes of the posted reports; 0 if there was no answer."""

    def claim(self, target: Target) -> None:
        """Try to create Jobs that name the target job as their owner, one of them without a role label, and a
        pod with the labels of its pods. The API server must refuse them. Then create pods without labels,
        which send the reports."""
        labels = {
            **MANAGED_LABELS,
            JOB_LABEL: target.name,
            ROLE_LABEL: Role.TRAIN.value,
            STAGE_LABEL: target.stage,
            ATTEMPT_LABEL: "1",
        }
        for refused in (
            refusal(lambda: self._create_job("without-role", dict(MANAGED_LABELS), target)),
            refusal(lambda: self._create_job("with-all-labels", labels, target)),
        ):
            assert JOB_REFUSED in refused, refused or "a forged Job was created"
        refused = refusal(lambda: self._create_pod("labelled", labels, target))
        assert POD_REFUSED in refused, refused or "a forged pod was created"
        self._pods = [self._create_pod(f"plain-{n}", {}, target) for n in range(3)]

    def forge_reports(self, target: Target) -> None:
        """Send forged reports from each pod. They claim that every role of the target has ended, and that all
        cases pass."""
        roles = (Role.DATA, Role.TRAIN, Role.GATE, Role.PUBLISH)
        tokens = {pod: pod.token(report_audience(target.uid)) for pod in self._pods}
        posts = [(pod, _forged(role, target), tokens[pod]) for pod in self._pods for role in roles]
        with ThreadPoolExecutor(POSTERS) as pool:
            self.answers += pool.map(lambda post: post[0].post(*post[1:]), posts)

    def post_large_bodies(self, target: Target, count: int, size: int) -> None:
        """Post reports of ``size`` bytes, alternately with a pod's token and with an invalid token."""
        report = json.loads(_forged(Role.TRAIN, target))
        for cases in report["results"]["sets"].values():
            cases["ids"] = ["x" * 100] * (size // 104)
        body = json.dumps(report).encode()
        pod = self._pods[0]
        tokens = [pod.token(report_audience(target.uid)), "nonsense"]
        with ThreadPoolExecutor(POSTERS) as pool:
            self.answers += pool.map(lambda n: pod.post(body, tokens[n % 2]), range(count))

    def open_connections(self, target: Target, count: int, held: ExitStack) -> int:
        """Open connections to the report address that stay idle, half of them after a TLS handshake and a
        part of a request. Returns how many were accepted."""
        host, where = urlsplit(target.url).hostname, self._address.find()
        tls = ssl.create_default_context(cadata=target.authority)
        opened = 0
        for n in range(count):
            with suppress(OSError):  # refused, or not answered in time
                connection = held.enter_context(socket.create_connection(where, timeout=2))
                if n % 2:
                    connection = held.enter_context(tls.wrap_socket(connection, server_hostname=host))
                    connection.sendall(b"POST / HTTP/1.1\r\nHost:")
                opened += 1
        return opened

    def fill_config_maps(self, count: int, seconds: float) -> int:
        """Create ConfigMaps of 1 MB. Returns how many the API server accepted within ``seconds``."""
        text = "x" * MAP_BYTES

        def create(n: int) -> None:
            body = {"metadata": {"name": f"large-{n}"}, "data": {"text": text}}
            self._core.create_namespaced_config_map(self._namespace, body, _request_timeout=30)

        return _repeat(create, count, seconds)

    def create_large_jobs(self, count: int, seconds: float) -> int:
        """Create FineTuneJobs with 1.2 MB in a free-form field. Returns how many the API server accepted
        within ``seconds``."""
        custom, affinity = client.CustomObjectsApi(self._api), {"nodeAffinity": {"x": "y" * JOB_BYTES}}

        def create(n: int) -> None:
            job = waiting_job(f"large-{n}")
            job["spec"]["podTemplate"] = {"affinity": affinity}
            custom.create_namespaced_custom_object(
                "tunegate.dev", "v1alpha2", self._namespace, "finetunejobs", job, _request_timeout=30
            )

        return _repeat(create, count, seconds)

    def _grant_rights(self) -> None:
        rbac = "rbac.authorization.k8s.io"
        metadata = {"name": ACCOUNT, "namespace": self._namespace}
        everything = {"apiGroups": ["", "batch", "tunegate.dev"], "resources": ["*"], "verbs": ["*"]}
        who = {"kind": "ServiceAccount", "name": ACCOUNT, "namespace": self._namespace}
        role = {"apiGroup": rbac, "kind": "Role", "name": ACCOUNT}
        for obj in (
            {"apiVersion": "v1", "kind": "ServiceAccount"},
            {"apiVersion": f"{rbac}/v1", "kind": "Role", "rules": [everything]},
            {"apiVersion": f"{rbac}/v1", "kind": "RoleBinding", "roleRef": role, "subjects": [who]},
        ):
            utils.create_from_dict(self._admin, {**obj, "metadata": metadata})

    def _log_in(self) -> client.ApiClient:
        core, settings = client.CoreV1Api(self._admin), self._admin.configuration
        asked = {"spec": {"expirationSeconds": 7200}}
        token = core.create_namespaced_service_account_token(ACCOUNT, self._namespace, asked).status.token
        cluster = {"server": settings.host, "certificate-authority": settings.ssl_ca_cert}
        made: client.ApiClient = new_client_from_config_dict(
            {
                "apiVersion": "v1",
                "kind": "Config",
                "clusters": [{"name": "cluster", "cluster": cluster}],
                "users": [{"name": ACCOUNT, "user": {"token": token}}],
                "contexts": [{"name": ACCOUNT, "context": {"cluster": "cluster", "user": ACCOUNT}}],
                "current-context": ACCOUNT,
            }
        )
        return made

    def _create_job(self, name: str, labels: dict[str, str], target: Target) -> Any:
        owner = {
            "apiVersion": "tunegate.dev/v1alpha2",
            "kind": "FineTuneJob",
            "name": target.name,
            "uid": target.uid,
            "controller": True,
        }
        job = {
            "metadata": {"name": name, "labels": labels, "ownerReferences": [owner]},
            "spec": {"template": {"spec": self._pod_spec(target)}},
        }
        return client.BatchV1Api(self._api).create_namespaced_job(self._namespace, job)

    def _create_pod(self, name: str, labels: dict[str, str], target: Target) -> FakePod:
        pod = {"metadata": {"name": name, "labels": labels}, "spec": self._pod_spec(target)}
        made = self._core.create_namespaced_pod(self._namespace, pod)
        return FakePod(self._admin, self._address, made)

    def _pod_spec(self, target: Target) -> dict[str, Any]:
        container = {
            "name": "trainer",
            "image": self._image,
            "command": ["python", "-c", "import time; time.sleep(3600)"],
            "env": [
                {"name": REPORT_URL_VARIABLE, "value": target.url},
                {"name": REPORT_CA_VARIABLE, "value": target.authority},
            ],
        }
        return {"restartPolicy": "Never", "terminationGracePeriodSeconds": 1, "containers": [container]}


def _repeat(create: Callable[[int], None], count: int, seconds: float) -> int:
    """Create objects in several threads. Returns how many the API server accepted within ``seconds``."""
    ends = time.monotonic() + seconds

    def is_created(n: int) -> bool:
        if time.monotonic() > ends:
            return False
        with suppress(ApiException, urllib3.exceptions.HTTPError):
            create(n)
            return True
        return False

    with ThreadPoolExecutor(POSTERS) as pool:
        return sum(pool.map(is_created, range(count)))


def _forged(role: Role, target: Target) -> bytes:
    """Build a final report of this role that is newer than any real one, and in which every case passes."""
    golden = golden_set("golden")
    subjects = {Role.TRAIN: (Subject.START, Subject.CHECKPOINT), Role.GATE: (Subject.BASE, Subject.FINAL)}
    cases = CaseSet(sha256=target.golden_sha256, ids=[f"case-{n}" for n in range(target.cases)])
    evaluations = [
        Evaluation(
            subject=subject,
            stage=target.stage,
            step=target.last_step if subject in (Subject.CHECKPOINT, Subject.FINAL) else 0,
            digest=FORGED_DIGEST,
            outcomes={golden: "p" * target.cases},
        )
        for subject in subjects.get(role, ())
    ]
    published = [PublishedArtifact(uri=f"pvc://models/{target.name}", digest=FORGED_DIGEST)]
    report = Report(
        job_uid=target.uid,
        role=role,
        stage=target.stage if role is Role.TRAIN else None,
        attempt=1,
        sequence=10**9,
        time=datetime.now(UTC),
        results=Results(sets={golden: cases}, evaluations=evaluations),
        published=published if role is Role.PUBLISH else [],
        outcome=Outcome.COMPLETED,
    )
    return report.model_dump_json(by_alias=True, exclude_none=True).encode()
