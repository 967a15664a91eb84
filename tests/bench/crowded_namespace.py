"""Measure how a namespace with thousands of stored jobs, many gates, waiting jobs and large jobs affects
other namespaces, and how the operator's load grows with the number of stored jobs."""

import itertools
import json
import threading
import time
import urllib.request
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import psutil
from kubernetes import client
from measures import Measure
from operator_cluster import (
    COUNTED_SEPARATELY,
    GROUP,
    apply_inputs,
    cluster,
    our_writes,
    percentiles,
    processor_seconds,
    put_status,
    run_one_job,
    send,
    watched,
)

from support.api_server import OPERATOR, ApiServer
from support.attacker import JOB_BYTES
from support.builders import golden_text, make_job
from support.fake_kubelet import Address, FakeKubelet
from support.helm import NAMESPACE
from support.operator_command import SERVICE, OperatorCommand, operator
from support.waiting import eventually
from support.waiting_job import waiting_job
from tunegate_operator.names import request_name, results_name

CROWDED, OTHER = "default", "another-team"
STORED, GATES, PENDING, LARGE, TIMED = 5_000, 10, 300, 50, 200
TIMED_PER_SECOND = 5
SIZES = (500, 5_000, 20_000)
RESYNC_SECONDS, RESYNCS = 30, 3
SCRAPES = 20
AS_OPERATOR = {"Impersonate-User": OPERATOR}
"""Only the operator may create ConfigMaps of jobs."""
MINUTES_APART = 1
"""A stored job ended so many minutes after the one before."""


def crowded_namespace() -> Iterator[Measure]:
    """Measure an operator of a cluster in which one namespace has 5,000 stored jobs of ten gates, 300 jobs
    that wait, and 50 jobs of 1.2 MB, while a ConfigMap of this namespace changes every second: the time to
    the first status of jobs in another namespace, start-up, memory, a scrape and the writes of a job."""
    name = f"{STORED} stored jobs, {GATES} gates"
    numbers, first_end = range(STORED), ends_now(STORED)
    with cluster(audit=True) as (server, api), prepared(server, api, numbers, first_end) as first_peak:
        yield Measure(f"peak memory, jobs read for the first time, {name}", first_peak, "MB", "<= 300")
        crowd(api)
        log, began = server.folder / "restarted.log", time.time()
        create_job(api, waiting_job("after-the-start"))
        with operator(server, log, POD_NAME="operator-1") as command:
            seconds = first_decision(server, api, "after-the-start") - began
            yield Measure(f"operator started to first decision, {name}", round(seconds, 1), "s", "< 5")
            for what, config_map in (("other ConfigMap", "cases-draft"), ("ConfigMap of all", "rows")):
                with changing(api, config_map):
                    sent, shown = timed_jobs(server, api, config_map)
                yield from percentiles(f"watch event to PATCH, {what} changes", sent, "< 1")
                yield from percentiles("  job applied to its first status", shown, "")
            yield Measure("CPU time of a scrape", round(cost_of_a_scrape(command), 3), "s", "<= 0.1")
            yield Measure("API writes of a job's life", writes_of_a_job(server, api), "writes", "<= 30")
            yield Measure(f"peak memory, {name}", peak_megabytes(command), "MB", "<= 300")


def growth() -> Iterator[Measure]:
    """Measure memory, time to the first status and CPU time of a resync of operators in clusters with more
    and more stored jobs."""
    with cluster(audit=True) as (server, api):
        first_end = ends_now(max(SIZES))
        for before, size in itertools.pairwise((0, *SIZES)):
            with prepared(server, api, range(before, size), first_end) as first_peak:
                yield Measure(f"peak memory, jobs read for the first time, {size} jobs", first_peak, "MB")
                yield from load_of(server, api, size)


def load_of(server: ApiServer, api: client.ApiClient, size: int) -> Iterator[Measure]:
    """Measure an operator that is started in a cluster with so many stored jobs, which an operator before it
    had read."""
    began = time.time()
    job = f"start-{size}"
    create_job(api, waiting_job(job))
    settings = {"POD_NAME": f"operator-{size}", "TUNEGATE_RESYNC_SECONDS": str(RESYNC_SECONDS)}
    with operator(server, server.folder / f"{size}.log", **settings) as command:
        seconds = first_decision(server, api, job) - began
        yield Measure(f"started to first decision, {size} jobs", round(seconds, 1), "s")
        sent, _ = timed_jobs(server, api, f"at-{size}", 20)
        yield percentiles(f"watch event to PATCH, {size} jobs", sent, "")[0]
        process, begun = psutil.Process(command.process.pid), resyncs(server)
        # The metrics of all jobs are read until the end of the first one.
        eventually(lambda: resyncs(server) > begun + 1, seconds=900, what="the first resync", pause=2)
        before = processor_seconds(process)
        last = begun + 2 + RESYNCS
        eventually(lambda: resyncs(server) >= last, seconds=900, what="the resyncs", pause=1)
        used = (processor_seconds(process) - before) / RESYNCS
        yield Measure(f"CPU time of a resync, {size} jobs", round(used, 2), "s")
        resident = round(process.memory_info().rss / 10**6)
        yield Measure(f"memory after resyncs, {size} jobs", resident, "MB")
        yield Measure(f"peak memory, {size} jobs", peak_megabytes(command), "MB")


def ends_now(jobs: int) -> datetime:
    """Return the time at which the first of so many stored jobs ended, if the last one ended now."""
    return datetime.now(UTC) - timedelta(minutes=MINUTES_APART * jobs)


@contextmanager
def prepared(
    server: ApiServer, api: client.ApiClient, numbers: range, first_end: datetime
) -> Iterator[float]:
    """Create the stored jobs with these numbers, and the gates before the first ones. Then run an operator
    until the gates recorded all jobs. Yields the peak of its memory in MB."""
    gates = [f"golden-{n}" for n in range(GATES)]
    log = server.folder / f"first-{numbers.stop}.log"
    if not numbers.start:
        client.CoreV1Api(api).create_namespace({"metadata": {"name": OTHER}})
        with operator(server, log):
            apply_inputs(api, golden_text(), *gates, namespace=CROWDED)
            apply_inputs(api, namespace=OTHER)
    store(api, numbers, gates, first_end)
    with operator(server, log) as command:
        eventually(lambda: recorded(api) == numbers.stop, seconds=900, what="all are recorded", pause=1)
        peak = peak_megabytes(command)
    yield peak


def store(api: client.ApiClient, numbers: range, gates: list[str], first_end: datetime) -> None:
    """Create ended jobs with the ConfigMaps that gates read, evenly for all gates. One job is run on another
    API server, and copies of its objects are created."""
    job, *others = run_one_job()
    uid = job["metadata"]["uid"]
    names = {name("orders", uid): name for name in (request_name, results_name)}
    config_maps = {names[o["metadata"]["name"]]: o for o in others if o["metadata"]["name"] in names}

    def create(number: int) -> None:
        name, gate = f"stored-{number}", gates[number % len(gates)]
        made = create_job(api, {**_for_gate(job, gate), "metadata": {"name": name}}, CROWDED)
        ended = first_end + timedelta(minutes=MINUTES_APART * number)
        status = _for_gate(job["status"], gate) | {"completionTime": f"{ended:%Y-%m-%dT%H:%M:%SZ}"}
        put_status(api, made | {"status": status})
        for name_of, obj in config_maps.items():
            owner = obj["metadata"]["ownerReferences"][0] | {"name": name, "uid": made["metadata"]["uid"]}
            metadata = {
                "name": name_of(name, made["metadata"]["uid"]),
                "labels": obj["metadata"]["labels"],
                "ownerReferences": [owner],
            }
            data = {key: _of_gate(text, gate) for key, text in obj["data"].items()}
            body = {"apiVersion": "v1", "kind": "ConfigMap", "metadata": metadata, "data": data}
            send(api, "POST", f"/api/v1/namespaces/{CROWDED}/configmaps", body, AS_OPERATOR)

    with ThreadPoolExecutor(32) as pool:
        list(pool.map(create, numbers))


def _for_gate(obj: Any, gate: str) -> Any:
    return json.loads(_of_gate(json.dumps(obj, separators=(",", ":")), gate))


def _of_gate(text: str, gate: str) -> str:
    """Return JSON in which the gate ``golden`` has another name."""
    return text.replace('"name":"golden"', f'"name":"{gate}"').replace('"golden/golden"', f'"golden/{gate}"')


def crowd(api: client.ApiClient) -> None:
    """Create the jobs that wait and the large jobs, and the ConfigMaps that change."""
    core = client.CoreV1Api(api)
    core.create_namespaced_config_map(CROWDED, {"metadata": {"name": "cases-draft"}, "data": {"n": "0"}})
    affinity = {"nodeAffinity": {"x": "y" * JOB_BYTES}}
    for number in range(LARGE):
        large = waiting_job(f"large-{number}")
        large["spec"]["podTemplate"] = {"affinity": affinity}
        create_job(api, large, CROWDED)
    for number in range(PENDING):
        create_job(api, make_job(f"pending-{number}").with_gates("not-there-yet").obj(), CROWDED)


def create_job(api: client.ApiClient, job: dict[str, Any], namespace: str = OTHER) -> dict[str, Any]:
    """Create a job in a namespace, and return it."""
    body = {**job, "metadata": job["metadata"] | {"namespace": namespace}}
    return send(api, "POST", f"/apis/{'/'.join(GROUP)}/namespaces/{namespace}/finetunejobs", body)


def phase(api: client.ApiClient, name: str) -> str:
    """Return the phase of a job in the other namespace; an empty text if it has no status."""
    path = f"/apis/{'/'.join(GROUP)}/namespaces/{OTHER}/finetunejobs/{name}"
    found: str = send(api, "GET", path).get("status", {}).get("phase", "")
    return found


def recorded(api: client.ApiClient) -> int:
    """Return the number of jobs that the gates of the crowded namespace counted."""
    found = client.CustomObjectsApi(api).list_namespaced_custom_object(*GROUP, CROWDED, "evalgates")
    return sum((gate.get("status", {}).get("looks") or {}).get("jobs", 0) for gate in found["items"])


@contextmanager
def changing(api: client.ApiClient, config_map: str) -> Iterator[None]:
    """Change a ConfigMap of the crowded namespace every second until the context ends."""
    core, stop = client.CoreV1Api(api), threading.Event()

    def change() -> None:
        number = 0
        while not stop.wait(1):
            number += 1
            core.patch_namespaced_config_map(config_map, CROWDED, {"data": {"n": str(number)}})

    thread = threading.Thread(target=change)
    thread.start()
    try:
        yield
    finally:
        stop.set()
        thread.join()


def timed_jobs(
    server: ApiServer, api: client.ApiClient, prefix: str, count: int = TIMED
) -> tuple[list[float], list[float]]:
    """Create jobs in the other namespace. Returns for each job the seconds from its watch event, which the
    API server sends when it answers, to the request with its first status; and the seconds from its creation
    until a watch shows this status."""
    applied, shown = {}, {}
    with watched(api, lambda status: "phase" in status, OTHER) as seen:
        for number in range(count):
            began = time.monotonic()
            made = create_job(api, waiting_job(f"{prefix}-{number}"))
            applied[made["metadata"]["name"]] = began
            shown[made["metadata"]["uid"]] = began
            time.sleep(1 / TIMED_PER_SECOND)
        eventually(lambda: shown.keys() <= seen.keys(), seconds=300, what="every job has a status")
        times = [seen[uid] - began for uid, began in shown.items()]
    # The API server writes the audit log after its answer.
    eventually(lambda: applied.keys() <= first_patches(server).keys(), what="the audit log has all", pause=1)
    patched, created = first_patches(server), creations(server)
    return [max(0.0, patched[name] - created[name]) for name in applied], times


def first_decision(server: ApiServer, api: client.ApiClient, job: str) -> float:
    """Wait for the first status of a job in the other namespace. Return when the operator sent it."""
    eventually(lambda: phase(api, job), seconds=300, what="the first decision")
    return eventually(lambda: first_patches(server).get(job), what="the audit log has it", pause=1)


def first_patches(server: ApiServer) -> dict[str, float]:
    """Return when the operator sent the first status of each job in the other namespace, by name."""
    found: dict[str, float] = {}
    for event in _requests(server, "patch", "status"):
        if event["user"]["username"] == OPERATOR:
            found.setdefault(event["objectRef"]["name"], _seconds(event["requestReceivedTimestamp"]))
    return found


def creations(server: ApiServer) -> dict[str, float]:
    """Return when the API server had created each job in the other namespace, by name."""
    events = _requests(server, "create", None)
    return {event["objectRef"]["name"]: _seconds(event["stageTimestamp"]) for event in events}


def resyncs(server: ApiServer) -> int:
    """Return how often the operator listed all EvalGates, as it does in each resync."""
    with Path(server.audit_log).open() as log:
        listed = (OPERATOR, '"verb":"list"', '"resource":"evalgates"')
        return sum(all(text in line for text in listed) for line in log)


def _requests(server: ApiServer, verb: str, subresource: str | None) -> Iterator[dict[str, Any]]:
    with Path(server.audit_log).open() as log:
        for line in log:
            if OTHER not in line or not line.endswith("\n"):  # the last line may be incomplete
                continue
            event = json.loads(line)
            what = event.get("objectRef", {})
            where = what.get("resource"), what.get("namespace"), what.get("subresource")
            if event["verb"] == verb and where == ("finetunejobs", OTHER, subresource):
                yield event


def _seconds(time_text: str) -> float:
    return datetime.fromisoformat(time_text).timestamp()


def cost_of_a_scrape(command: OperatorCommand) -> float:
    """Return the CPU time of a scrape in seconds, without what the operator uses meanwhile at rest."""
    process, url = psutil.Process(command.process.pid), f"http://127.0.0.1:{command.health_port}/metrics"
    time.sleep(10)  # until nothing changes
    before, began = processor_seconds(process), time.monotonic()
    for _ in range(SCRAPES):
        with urllib.request.urlopen(url, timeout=60) as answer:
            assert b"tunegate_finetunejobs{" in answer.read()
    used, took = processor_seconds(process) - before, time.monotonic() - began
    before = processor_seconds(process)
    time.sleep(took)
    return max(0.0, used - (processor_seconds(process) - before)) / SCRAPES


def writes_of_a_job(server: ApiServer, api: client.ApiClient) -> int:
    """Return the number of the operator's writes for a job with 5 checkpoints in the other namespace."""
    before = our_writes(server)
    with FakeKubelet(api, Address(api, NAMESPACE, SERVICE)).running():
        create_job(api, make_job("counted").with_publish().obj())
        eventually(lambda: phase(api, "counted") == "Succeeded", seconds=120, what="Succeeded", pause=0.5)
        time.sleep(5)
    counted = our_writes(server) - before
    return sum(n for (_, resource), n in counted.items() if resource not in COUNTED_SEPARATELY)


def peak_megabytes(command: OperatorCommand) -> float:
    """Return the highest resident memory of the operator since its start, in MB."""
    status = Path(f"/proc/{command.process.pid}/status").read_text()
    (line,) = [line for line in status.splitlines() if line.startswith("VmHWM:")]
    return round(int(line.split()[1]) * 1024 / 10**6)
