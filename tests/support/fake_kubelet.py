"""A fake kubelet: pods on a real API server start at once, and report as the trainer does.

The Job controller, the API server, tokens and the operator are real. Pods are found by the labels that the
operator sets. The role of a pod decides what the pod reports and how it ends.
"""

import itertools
import logging
import ssl
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, suppress
from datetime import UTC, datetime
from functools import cached_property
from typing import Any
from urllib.parse import urlsplit

import urllib3
from kubernetes import client
from kubernetes.client import ApiException

from support.impersonation import acting_as
from support.waiting import eventually
from support.world import STAGE, Script, plan_for
from tunegate_api.contract.process import Outcome, Role, Termination
from tunegate_api.contract.report import (
    REPORT_CA_VARIABLE,
    REPORT_URL_VARIABLE,
    PublishedArtifact,
    Report,
    Usage,
    report_audience,
)
from tunegate_api.contract.results import Results, Subject
from tunegate_api.v1alpha2.finetunejob_status import Progress
from tunegate_operator.names import ATTEMPT_LABEL, MANAGED_LABELS, ROLE_LABEL, STAGE_LABEL

log = logging.getLogger(__name__)

LOOK_SECONDS = 0.1
REPORT_SECONDS = 60.0
"""How long a pod retries to send a report, in seconds."""
FORGED = "example.com/forged"
"""Label of pods that do not run here, because a test sets their status."""
_LABELS = ",".join(f"{key}={value}" for key, value in MANAGED_LABELS.items())


class Address:
    """The report address: the Service's name and its EndpointSlice."""

    def __init__(self, api: client.ApiClient, namespace: str, service: str) -> None:
        self._api = api
        self._slices = client.DiscoveryV1Api(api)
        self._namespace, self._service = namespace, service

    def find(self) -> tuple[str, int]:
        """Return IP and port. Raises ApiException if there is no endpoint yet."""
        found = self._slices.read_namespaced_endpoint_slice(self._service, self._namespace)
        return found.endpoints[0].addresses[0], found.ports[0].port

    @cached_property
    def node(self) -> client.CoreV1Api:
        """A client with an account of the group of nodes, which may request the tokens of pods."""
        name, rbac = "fake-kubelet", client.RbacAuthorizationV1Api(self._api)
        group = "rbac.authorization.k8s.io"
        tokens = {"apiGroups": [""], "resources": ["serviceaccounts/token"], "verbs": ["create"]}
        binding = {
            "metadata": {"name": name},
            "roleRef": {"apiGroup": group, "kind": "ClusterRole", "name": name},
            "subjects": [{"apiGroup": group, "kind": "User", "name": name}],
        }
        with suppress(ApiException):  # another test of this API server has created them
            rbac.create_cluster_role({"metadata": {"name": name}, "rules": [tokens]})
            rbac.create_cluster_role_binding(binding)
        account = acting_as(self._api, name, "system:nodes")
        wanted = {"verb": "create", "resource": "serviceaccounts", "subresource": "token"}
        review = {"spec": {"resourceAttributes": wanted}}
        reviews = client.AuthorizationV1Api(account)
        eventually(
            lambda: reviews.create_self_subject_access_review(review).status.allowed,
            what="the node may request tokens",
        )
        return client.CoreV1Api(account)


class FakePod:
    """A fake pod, with a real token, reports and status."""

    def __init__(
        self, api: client.ApiClient, address: Address, pod: Any, ended: threading.Event | None = None
    ) -> None:
        self._ended = ended or threading.Event()
        self._core = client.CoreV1Api(api)
        self._address = address
        self._pod = pod
        self.labels = pod.metadata.labels or {}
        environment = {e.name: e.value for e in pod.spec.containers[0].env or []}
        self._url = environment.get(REPORT_URL_VARIABLE, "")  # cleanup pods send no reports
        self._authority = environment.get(REPORT_CA_VARIABLE, "")
        self.args: list[str] = pod.spec.containers[0].args
        self._started = _now()
        self._token = ""

    @property
    def job_uid(self) -> str:
        return urlsplit(self._url).path.split("/")[3]

    @property
    def role(self) -> Role:
        return Role(self.labels[ROLE_LABEL])

    def start(self) -> None:
        state = {"running": {"startedAt": self._started}}
        self._patch({"phase": "Running", "startTime": self._started, **_container(state)})

    def hold(self, message: str) -> None:
        """Set the condition that a scheduler sets if it finds no node."""
        condition = {"type": "PodScheduled", "status": "False", "reason": "Unschedulable", "message": message}
        self._patch({"phase": "Pending", "conditions": [condition]})

    def finish(self, exit_code: int = 0, outcome: Outcome = Outcome.COMPLETED) -> None:
        message = Termination(exit_code=exit_code, outcome=outcome).model_dump_json(by_alias=True)
        ended = {
            "exitCode": exit_code,
            "startedAt": self._started,
            "finishedAt": _now(),
            "message": message,
            "reason": "Completed" if exit_code == 0 else "Error",
        }
        phase = "Succeeded" if exit_code == 0 else "Failed"
        self._patch({"phase": phase, **_container({"terminated": ended})})

    def report(self, sequence: int, **content: Any) -> None:
        """Send a report until it is acknowledged. Raises AssertionError at the deadline, or if the node
        stops."""
        made = Report(
            job_uid=self.job_uid,
            role=self.role,
            stage=self.labels.get(STAGE_LABEL),
            attempt=int(self.labels[ATTEMPT_LABEL]),
            sequence=sequence,
            time=datetime.now(UTC),
            **content,
        )
        body = made.model_dump_json(by_alias=True, exclude_none=True).encode()
        deadline = time.monotonic() + REPORT_SECONDS
        while (code := self.post(body)) != 200:
            ended = time.monotonic() > deadline or self._ended.wait(0.2)
            assert not ended, f"report {made.file_name} not acknowledged: {code}"

    def post(self, body: bytes, token: str | None = None) -> int:
        """Post a report. Returns the status code of the answer; 0 if there was none."""
        if not self._token:
            self._token = self.token(report_audience(self.job_uid))
        host = urlsplit(self._url).hostname
        try:
            ip, port = self._address.find()
            pool = urllib3.HTTPSConnectionPool(
                ip,
                port,
                server_hostname=host,
                assert_hostname=host,
                ssl_context=ssl.create_default_context(cadata=self._authority),
                retries=False,
                timeout=30,
            )
            headers = {"Authorization": f"Bearer {token or self._token}"}
            with pool:  # closes connections that a killed operator left half open
                return pool.request("POST", urlsplit(self._url).path, body=body, headers=headers).status
        except (urllib3.exceptions.HTTPError, ApiException) as error:
            log.info("report: %s", error)
            return 0

    def token(self, audience: str) -> str:
        """Return the token that a kubelet would project into the pod's volume."""
        meta = self._pod.metadata
        bound = {"apiVersion": "v1", "kind": "Pod", "name": meta.name, "uid": meta.uid}
        spec = {"audiences": [audience], "expirationSeconds": 3600, "boundObjectRef": bound}
        make = self._address.node.create_namespaced_service_account_token
        made = make(self._pod.spec.service_account_name, meta.namespace, {"spec": spec})
        token: str = made.status.token
        return token

    def _patch(self, status: dict[str, Any]) -> None:
        meta = self._pod.metadata
        self._core.patch_namespaced_pod_status(meta.name, meta.namespace, {"status": status})


class FakeKubelet:
    """Runs pods as they appear, each in a thread, with the results of ``script``."""

    def __init__(self, api: client.ApiClient, address: Address, script: Script | None = None) -> None:
        self._api = api
        self._core = client.CoreV1Api(api)
        self._address = address
        self._script = script or Script()
        self.seen: dict[str, FakePod] = {}
        self.failures: list[str] = []
        self._stop = threading.Event()
        self._pods = ThreadPoolExecutor(max_workers=32, thread_name_prefix="pod")

    @contextmanager
    def running(self) -> Iterator[None]:
        thread = threading.Thread(target=self._look, name="kubelet")
        thread.start()
        try:
            yield
        finally:
            self._stop.set()
            thread.join()
            self._pods.shutdown(cancel_futures=True)

    def run_pod(self, pod: FakePod) -> None:
        """Run a pod from its start to its end. Subclasses may override it."""
        pod.start()
        outcome = self.run_role(pod)
        pod.finish(outcome=outcome)

    def script_of(self, pod: FakePod) -> Script:  # noqa: ARG002 - subclasses have one for each job
        """Return the script of a pod. Subclasses may override it."""
        return self._script

    def run_role(self, pod: FakePod) -> Outcome:
        sequence = itertools.count(1)
        match pod.role:
            case Role.CLEANUP:
                return Outcome.COMPLETED
            case Role.DATA:
                content: dict[str, Any] = {"plan": plan_for(pod.job_uid, review=self.script_of(pod).sample)}
            case Role.TRAIN:
                content = self.train(pod, sequence)
            case Role.GATE:
                step = int(pod.args[pod.args.index("--step") + 1])
                content = {"results": self.script_of(pod).final_results(step)}
            case Role.PUBLISH:
                digest = pod.args[pod.args.index("--digest") + 1]
                content = {
                    "published": [PublishedArtifact(uri=f"pvc://models/orders/{pod.job_uid}", digest=digest)]
                }
        outcome = Outcome.COMPLETED
        if pod.role is Role.TRAIN and self.script_of(pod).stops:
            outcome = Outcome.STOPPED
        pod.report(next(sequence), outcome=outcome, **content)
        return outcome

    def train(self, pod: FakePod, sequence: Iterator[int]) -> dict[str, Any]:
        """Report each checkpoint. Returns the content of the last report."""
        content: dict[str, Any] = {}
        script = self.script_of(pod)
        results = Results(sets=script.sets(), evaluations=[script.evaluation(Subject.START, 0)])
        for step in (0, *sorted(script.checkpoints)):
            if step:
                done = script.evaluation(Subject.CHECKPOINT, step, time=datetime.now(UTC))
                results = results.merged(Results(evaluations=[done]))
            progress = Progress(
                stage=STAGE,
                step=step,
                total_steps=50,
                percent=2 * step,
                tokens_per_second="500",
                updated=datetime.now(UTC),
            )
            usage = Usage(steps=step, tokens=1000 * step, training_seconds=2.0 * step, evaluation_seconds=5.0)
            content = {"results": results, "progress": progress, "usage": usage}
            pod.report(next(sequence), **content)
        return content

    def _look(self) -> None:
        while not self._stop.wait(LOOK_SECONDS):
            try:
                pods = self._core.list_pod_for_all_namespaces(label_selector=f"{_LABELS},!{FORGED}").items
            except (ApiException, urllib3.exceptions.HTTPError):
                continue
            for pod in pods:
                uid = pod.metadata.uid
                if (
                    uid not in self.seen
                    and pod.status.phase == "Pending"
                    and not pod.metadata.deletion_timestamp
                ):
                    self.seen[uid] = FakePod(self._api, self._address, pod, self._stop)
                    self._pods.submit(self._guarded, self.seen[uid])

    def _guarded(self, pod: FakePod) -> None:
        try:
            self.run_pod(pod)
        except Exception as error:  # noqa: BLE001 - shown by the test
            self.failures.append(f"{pod.role}: {error!r}")


def _container(state: dict[str, Any]) -> dict[str, Any]:
    ready = "running" in state
    container = {
        "name": "trainer",
        "image": "trainer",
        "imageID": "",
        "ready": ready,
        "restartCount": 0,
        "state": state,
    }
    return {"containerStatuses": [container]}


def _now() -> str:
    return datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
