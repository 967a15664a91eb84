"""What a user with Kubernetes' role ``edit`` tries in order to forge the records, Jobs and pods of a
FineTuneJob in their own namespace."""

from typing import Any

from kubernetes import client

from support.refusals import refusal
from tunegate_api.contract.report import report_audience
from tunegate_operator.children.job import CONTAINER_SECURITY, POD_SECURITY
from tunegate_operator.engine.owners import owner_reference

Object = dict[str, Any]
EVIL_CONTAINER = {"name": "trainer", "image": "evil", "securityContext": CONTAINER_SECURITY}
EVIL = {"restartPolicy": "Never", "securityContext": POD_SECURITY, "containers": [EVIL_CONTAINER]}
"""The spec of a forged pod, which the Pod Security standard "restricted" allows."""
RECORD_REFUSED = "see Restoring records in docs/install.md"
JOB_REFUSED = "only the operator may create Jobs that a FineTuneJob or an EvalGate owns"
JOB_CHANGE_REFUSED = "change the FineTuneJob instead"
POD_REFUSED = "only the Job controller may create pods with labels of tunegate.dev or"
JOB_POD_REFUSED = "only the Job controller may create pods that a Job owns, or"
JOB_POD_CHANGE_REFUSED = "only the Job controller may change the Job that owns a pod"
POD_CHANGE_REFUSED = "create another FineTuneJob"
CONTAINER_REFUSED = "debug a copy of the pod without the labels of tunegate.dev"
TOKEN_REFUSED = "only a node may request tokens with an audience of tunegate.dev"
Answers = dict[str, tuple[str, str]]
"""For each attack, the answer of the API server, and the advice that it must contain."""


class User:
    """A user of a namespace. Methods that change something return why the API server forbids it; empty if it
    does not."""

    def __init__(self, api: client.ApiClient, namespace: str, *, dry_run: bool = False) -> None:
        """With ``dry_run``, the API server checks created objects, but does not store them."""
        self.api, self.namespace = api, namespace
        self._options = {"dry_run": "All"} if dry_run else {}
        self.core, self.batch = client.CoreV1Api(api), client.BatchV1Api(api)

    def create_job(self, metadata: Object, template: Object, **spec: Any) -> str:
        job = {"metadata": metadata, "spec": {"template": template, **spec}}
        return refusal(lambda: self.batch.create_namespaced_job(self.namespace, job, **self._options))

    def patch_job(self, name: str, patch: Object) -> str:
        return refusal(lambda: self.batch.patch_namespaced_job(name, self.namespace, patch))

    def create_pod(self, metadata: Object, spec: Object | None = None) -> str:
        """Create a pod, by default one with the spec :data:`EVIL`."""
        pod = {"metadata": metadata, "spec": spec or EVIL}
        return refusal(lambda: self.core.create_namespaced_pod(self.namespace, pod, **self._options))

    def patch_pod(self, name: str, patch: Object) -> str:
        return refusal(lambda: self.core.patch_namespaced_pod(name, self.namespace, patch))

    def debug(self, name: str) -> str:
        """Add an ephemeral container to a pod."""
        added = {"spec": {"ephemeralContainers": [EVIL_CONTAINER | {"name": "debug"}]}}
        patch = self.core.patch_namespaced_pod_ephemeralcontainers
        return refusal(lambda: patch(name, self.namespace, added))

    def request_token(self, audience: str, pod: Any = None) -> str:
        """Request a token, by default not bound to a pod. A kubelet projects such a token into ``pod``."""
        spec: Object = {"audiences": [audience], "expirationSeconds": 3600}
        if pod:
            spec["boundObjectRef"] = {"apiVersion": "v1", "kind": "Pod"} | {
                field: getattr(pod.metadata, field) for field in ("name", "uid")
            }
        body = {"spec": spec}
        make = self.core.create_namespaced_service_account_token
        return refusal(lambda: make("default", self.namespace, body, **self._options))

    def create_record(self, record: Object) -> str:
        create = self.core.create_namespaced_config_map
        return refusal(lambda: create(self.namespace, record, **self._options))

    def create_service(self, service: Object) -> str:
        return refusal(lambda: self.core.create_namespaced_service(self.namespace, service))

    def patch_service(self, name: str, patch: Object) -> str:
        return refusal(lambda: self.core.patch_namespaced_service(name, self.namespace, patch))

    def delete_service(self, name: str) -> str:
        return refusal(lambda: self.core.delete_namespaced_service(name, self.namespace))

    def patch_record(self, name: str, patch: Object) -> str:
        return refusal(lambda: self.core.patch_namespaced_config_map(name, self.namespace, patch))

    def delete_record(self, name: str, **how: Any) -> str:
        return refusal(lambda: self.core.delete_namespaced_config_map(name, self.namespace, **how))

    def delete_all_records(self) -> str:
        delete = self.core.delete_collection_namespaced_config_map
        return refusal(lambda: delete(self.namespace, label_selector="app.kubernetes.io/managed-by=tunegate"))


def attack(user: User, job: Object, pod_name: str) -> Answers:
    """Try everything while the pod ``pod_name`` of a FineTuneJob runs."""
    pod = user.core.read_namespaced_pod(pod_name, user.namespace)
    child = user.batch.read_namespaced_job(pod.metadata.labels["job-name"], user.namespace)
    request = user.core.read_namespaced_config_map(job["status"]["request"], user.namespace)
    owner = _without_block(owner_reference(job))
    assert user.create_job({"name": "own"}, {"spec": EVIL}, suspend=True) == ""
    assert user.create_pod({"name": "own"}) == ""
    return {
        **_forge_jobs(user, child, owner),
        **_change_jobs(user, child, owner),
        **_forge_pods(user, pod, child),
        **_attack_records(user, request),
        "token in the name of a pod": (
            user.request_token(report_audience(job["metadata"]["uid"]), pod),
            TOKEN_REFUSED,
        ),
    }


def unexpected(answers: Answers) -> dict[str, str]:
    """Return what is wrong with the answer to each attack that was not refused with its advice."""
    return {
        attack: f"expected a refusal with {advice!r}, got {answer!r}" if answer else "not refused"
        for attack, (answer, advice) in answers.items()
        if advice not in answer
    }


def _forge_jobs(user: User, child: Any, owner: Object) -> Answers:
    labels, plain = _labels(child), {"spec": EVIL}
    labelled = {"metadata": {"labels": labels}, "spec": EVIL}
    answers = {
        "Job that copies a child Job": user.create_job(_copied(child, "a"), labelled),
        "Job with an owner": user.create_job({"name": "b", "ownerReferences": [owner]}, plain),
        "Job with labels": user.create_job({"name": "c", "labels": labels}, plain),
        "Job whose pods have labels": user.create_job({"name": "d"}, labelled),
        "Job whose pods have the label managed-by": user.create_job(
            {"name": "e"},
            {"metadata": {"labels": {"app.kubernetes.io/managed-by": "tunegate"}}, "spec": EVIL},
        ),
    }
    return {attack: (answer, JOB_REFUSED) for attack, answer in answers.items()}


def _change_jobs(user: User, child: Any, owner: Object) -> Answers:
    name = child.metadata.name
    changes = {
        "own Job gets the FineTuneJob as owner": ("own", {"ownerReferences": [owner]}),
        "own Job gets labels": ("own", {"labels": _labels(child)}),
        "child Job loses its role": (name, {"labels": {"tunegate.dev/role": None}}),
        "child Job gets another role": (name, {"labels": {"tunegate.dev/role": "gate"}}),
        "child Job gets a label": (name, {"labels": {"tunegate.dev/other": ""}}),
        "child Job is hidden": (name, {"labels": {"app.kubernetes.io/managed-by": None}}),
        "child Job loses its owner": (name, {"ownerReferences": None}),
    }
    patched = {
        attack: (user.patch_job(of, {"metadata": change}), JOB_CHANGE_REFUSED)
        for attack, (of, change) in changes.items()
    }
    template = {"spec": {"template": {"metadata": {"labels": _labels(child)}}}}
    answer = user.patch_job("own", template)
    return patched | {"template of own Job gets labels": (answer, JOB_CHANGE_REFUSED)}


def _forge_pods(user: User, pod: Any, child: Any) -> Answers:
    labels, name = _labels(pod), pod.metadata.name
    managed = {"app.kubernetes.io/managed-by": "tunegate"}
    counted = {"batch.kubernetes.io/controller-uid": child.metadata.uid}
    owner = {"apiVersion": "batch/v1", "kind": "Job", "name": child.metadata.name, "uid": child.metadata.uid}
    owner["controller"] = True
    created = {
        "pod that copies a pod": user.create_pod(_copied(pod, "a")),
        "pod with labels": user.create_pod({"name": "b", "labels": labels}),
        "pod with the label managed-by": user.create_pod({"name": "c", "labels": managed}),
        "pod with the label managed-by and an owner": user.create_pod(
            {"name": "d", "labels": managed | counted, "ownerReferences": [owner]}
        ),
    }
    of_the_job = {
        "pod with an owner": user.create_pod({"name": "e", "ownerReferences": [owner]}),
        "pod that a Job counts": user.create_pod({"name": "f", "labels": counted}),
    }
    adopted = {
        "own pod gets a child Job as owner": {"ownerReferences": [owner]},
        "own pod is counted by a child Job": {"labels": counted},
    }
    changes: dict[str, tuple[str, Object]] = {
        "own pod gets labels": ("own", {"metadata": {"labels": labels}}),
        "own pod gets the label managed-by": ("own", {"metadata": {"labels": managed}}),
        "own pod gets labels and a child Job as owner": (
            "own",
            {"metadata": {"labels": labels, "ownerReferences": [owner]}},
        ),
        "pod loses its labels": (name, {"metadata": {"labels": dict.fromkeys(labels)}}),
        "pod is released by its Job": (name, {"metadata": {"labels": dict.fromkeys(counted)}}),
        "pod loses its owner": (name, {"metadata": {"ownerReferences": None}}),
        "pod gets another image": (name, {"spec": {"containers": [{"name": "trainer", "image": "evil"}]}}),
    }
    patched = {attack: user.patch_pod(of, patch) for attack, (of, patch) in changes.items()}
    return {
        **{attack: (answer, POD_REFUSED) for attack, answer in created.items()},
        **{attack: (answer, POD_CHANGE_REFUSED) for attack, answer in patched.items()},
        **{attack: (answer, JOB_POD_REFUSED) for attack, answer in of_the_job.items()},
        **{
            attack: (user.patch_pod("own", {"metadata": change}), JOB_POD_CHANGE_REFUSED)
            for attack, change in adopted.items()
        },
        "pod gets an ephemeral container": (user.debug(name), CONTAINER_REFUSED),
    }


def _attack_records(user: User, request: Any) -> Answers:
    name = request.metadata.name
    forged = {"metadata": _copied(request, "forged"), "data": {"request.json": "{}"}}
    answers = {
        "request is deleted": user.delete_record(name),
        "request is deleted at once": user.delete_record(name, grace_period_seconds=0),
        "request is deleted as an orphan": user.delete_record(name, propagation_policy="Orphan"),
        "all records are deleted": user.delete_all_records(),
        "request loses its owner": user.patch_record(name, {"metadata": {"ownerReferences": None}}),
        "request is forged": user.create_record(forged),
        "request loses its signature": user.patch_record(
            name, {"metadata": {"annotations": {"tunegate.dev/signature": None}}}
        ),
    }
    return {attack: (answer, RECORD_REFUSED) for attack, answer in answers.items()}


def _labels(obj: Any) -> dict[str, str]:
    """Return Tunegate's labels of an object."""
    return {key: value for key, value in obj.metadata.labels.items() if "tunegate" in key + value}


def _copied(obj: Any, name: str) -> Object:
    """Return the metadata of an object that copies the labels and owners of another one."""
    owners = client.ApiClient().sanitize_for_serialization(obj.metadata.owner_references)
    copied = [_without_block(owner) for owner in owners]
    return {"name": name, "labels": _labels(obj), "ownerReferences": copied}


def _without_block(owner: Object) -> Object:
    """Return an owner reference without the field that an admission plugin of some clusters refuses first."""
    return {field: value for field, value in owner.items() if field != "blockOwnerDeletion"}
