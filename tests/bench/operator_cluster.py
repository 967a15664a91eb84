"""An API server with an operator for benchmarks: create objects, run a job, measure times and writes."""

import json
import statistics
import tempfile
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from functools import partial
from pathlib import Path
from typing import Any

import psutil
import urllib3
from kubernetes import client, watch
from measures import Measure

from support.api_server import OPERATOR, ApiServer, api_server
from support.builders import golden_text, make_config_map, make_gate, make_job
from support.fake_kubelet import Address, FakeKubelet
from support.helm import NAMESPACE
from support.operator_command import SERVICE, grant_rights, operator
from support.waiting import eventually
from tunegate_api.contract.digests import sha256_text

GROUP = ("tunegate.dev", "v1alpha2")
COUNTED_SEPARATELY = {"leases", "events", "tokenreviews"}
"""Kinds of objects whose writes are counted separately, because their number depends on time, on recorded
events or on the number of pods."""
WRITES = {"create", "update", "patch", "delete"}


@contextmanager
def cluster(**options: Any) -> Iterator[tuple[ApiServer, client.ApiClient]]:
    """Start an API server in which the operator has its permissions. Yields it, and a client of an
    administrator."""
    with (
        tempfile.TemporaryDirectory() as folder,
        api_server(Path(folder), **options) as server,
        server.client(connection_pool_maxsize=64) as api,
    ):
        grant_rights(api)
        yield server, api


def apply(api: client.ApiClient, *names: str) -> None:
    """Create the shared inputs, wait until the gate is ready, then create one job for each name."""
    apply_inputs(api)
    apply_jobs(api, *names)


def apply_inputs(
    api: client.ApiClient, golden: str = golden_text(), *gates: str, namespace: str = "default"
) -> None:
    """Create ConfigMaps and gates in a namespace, by default the gate ``golden``, and wait until the gates
    are ready."""
    core, custom = client.CoreV1Api(api), client.CustomObjectsApi(api)
    for config_map in (
        make_config_map("rows", train__jsonl="{}"),
        make_config_map("cases", golden__jsonl=golden),
    ):
        config_map["metadata"]["namespace"] = namespace
        core.create_namespaced_config_map(namespace, config_map)
    source = {"source": {"configMap": "cases"}, "sha256": sha256_text(golden)}
    for name in gates or ("golden",):
        gate = make_gate(name).with_spec(golden=source).obj()
        gate["metadata"]["namespace"] = namespace
        custom.create_namespaced_custom_object(*GROUP, namespace, "evalgates", gate)
    for name in gates or ("golden",):
        is_ready = partial(_gate_is_ready, custom, namespace, name)
        eventually(is_ready, seconds=60, what=f"the gate {name} is ready")


def _gate_is_ready(custom: client.CustomObjectsApi, namespace: str, name: str) -> bool:
    gate = custom.get_namespaced_custom_object(*GROUP, namespace, "evalgates", name)
    return any(c["status"] == "True" for c in gate.get("status", {}).get("conditions", ()))


def apply_jobs(api: client.ApiClient, *names: str) -> None:
    """Create a job in the default namespace for each name."""
    custom = client.CustomObjectsApi(api)
    for name in names:
        job = make_job(name).with_publish().obj()
        custom.create_namespaced_custom_object(*GROUP, "default", "finetunejobs", job)


def jobs(api: client.ApiClient) -> list[dict[str, Any]]:
    """Return all jobs in the default namespace."""
    found = client.CustomObjectsApi(api).list_namespaced_custom_object(*GROUP, "default", "finetunejobs")
    items: list[dict[str, Any]] = found["items"]
    return items


def phases(api: client.ApiClient) -> Counter[str]:
    """Return the number of jobs in each phase."""
    return Counter(job.get("status", {}).get("phase", "") for job in jobs(api))


def run_one_job() -> list[dict[str, Any]]:
    """Run one job. Returns its objects as the API server has them, the FineTuneJob first."""
    with cluster() as (server, api):
        kubelet = FakeKubelet(api, Address(api, NAMESPACE, SERVICE))
        with operator(server, server.folder / "operator.log"), kubelet.running():
            apply(api, "orders")
            eventually(lambda: phases(api)["Succeeded"] == 1, seconds=120, what="Succeeded")
            kinds = {"Job": "/apis/batch/v1", "Pod": "/api/v1", "ConfigMap": "/api/v1"}
            found = jobs(api)
            for kind, root in kinds.items():
                path = f"{root}/namespaces/default/{kind.lower()}s"
                known = {obj["metadata"]["uid"] for obj in found}
                for item in send(api, "GET", path)["items"]:
                    owners = item["metadata"].get("ownerReferences", [])
                    if any(owner["uid"] in known for owner in owners):  # not the records of the EvalGate
                        found.append(
                            {
                                "apiVersion": root.removeprefix("/apis/").removeprefix("/api/"),
                                "kind": kind,
                                **item,
                            }
                        )
            return found


def path_of(obj: dict[str, Any]) -> str:
    """Return the path of the objects of this kind in the default namespace."""
    root = "/api/v1" if obj["apiVersion"] == "v1" else f"/apis/{obj['apiVersion']}"
    return f"{root}/namespaces/default/{obj['kind'].lower()}s"


def post(api: client.ApiClient, obj: dict[str, Any]) -> dict[str, Any]:
    """Create an object, and return it."""
    if obj["kind"] == "Job":
        obj = obj | {"spec": _fresh_job_spec(obj["spec"])}
    return send(api, "POST", path_of(obj), {k: v for k, v in obj.items() if k != "status"})


def put_status(api: client.ApiClient, obj: dict[str, Any]) -> None:
    """Write the status of an object."""
    send(api, "PUT", f"{path_of(obj)}/{obj['metadata']['name']}/status", obj)


def send(
    api: client.ApiClient,
    method: str,
    path: str,
    body: dict[str, Any] | None = None,
    headers: Mapping[str, str] | None = None,
) -> dict[str, Any]:
    """Send a request to the API server. Return the object in its answer, which must be a success."""
    headers = {"Accept": "application/json", "Content-Type": "application/json", **(headers or {})}
    api.update_params_for_auth(headers, [], ["BearerToken"], path, method, body)
    answer = api.call_api(method, api.configuration.host + path, headers, body)
    text: dict[str, Any] = json.loads(answer.read())
    assert answer.status < 300, text
    return text


def _fresh_job_spec(spec: dict[str, Any]) -> dict[str, Any]:
    """Return a Job's spec without the fields that the API server generated."""
    template = json.loads(json.dumps(spec["template"]))
    labels = template["metadata"].get("labels", {})
    template["metadata"]["labels"] = {
        k: v for k, v in labels.items() if "controller-uid" not in k and "job-name" not in k
    }
    return {k: v for k, v in spec.items() if k != "selector"} | {"template": template}


@contextmanager
def watched(
    api: client.ApiClient, is_shown: Callable[[dict[str, Any]], bool], namespace: str = "default"
) -> Iterator[dict[str, float]]:
    """Watch the jobs of a namespace. Yields the times at which ``is_shown`` was first true of each job's
    status, by uid."""
    seen: dict[str, float] = {}
    stop = threading.Event()

    def watch_jobs() -> None:
        stream = watch.Watch().stream(
            client.CustomObjectsApi(api).list_namespaced_custom_object,
            *GROUP,
            namespace,
            "finetunejobs",
            timeout_seconds=600,
        )
        with suppress(urllib3.exceptions.HTTPError):  # the server is stopped first
            for event in stream:
                obj = event["object"]
                if is_shown(obj.get("status", {})):
                    seen.setdefault(obj["metadata"]["uid"], time.monotonic())
                if stop.is_set():
                    return

    threading.Thread(target=watch_jobs, daemon=True).start()
    time.sleep(2)
    yield seen
    stop.set()


def percentiles(name: str, seconds: list[float], target: str) -> list[Measure]:
    """Return the median and the 99th percentile of durations."""
    ranked = sorted(seconds)
    p99 = ranked[max(0, round(0.99 * len(ranked)) - 1)]
    return [
        Measure(f"{name}, p50", round(statistics.median(ranked), 3), "s"),
        Measure(f"{name}, p99", round(p99, 3), "s", target),
    ]


def processor_seconds(process: psutil.Process) -> float:
    """Return the CPU time that a process used so far."""
    used = process.cpu_times()
    return float(used.user + used.system)


def our_writes(server: ApiServer) -> Counter[tuple[str, str]]:
    """Return the number of the operator's writes so far, by verb and resource, from the audit log."""
    counts: Counter[tuple[str, str]] = Counter()
    for line in server.audit_log.read_text().splitlines():
        event = json.loads(line)
        what = event.get("objectRef", {})
        if event["user"]["username"] == OPERATOR and event["verb"] in WRITES:
            resource = what.get("resource", "") + (f"/{what['subresource']}" if "subresource" in what else "")
            counts[event["verb"], resource] += 1
    return counts
