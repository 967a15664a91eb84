"""The operator's memory use is limited, even if users create large objects."""

import json
import threading
from collections.abc import Iterator
from contextlib import contextmanager

import psutil
import pytest
from kubernetes import client

from support.builders import make_job
from support.operator_command import OperatorCommand, operator
from support.waiting import eventually
from tunegate_api.validation.spec_size import MAX_SPEC_LEVELS
from tunegate_operator.engine.clock import SystemClock
from tunegate_operator.engine.cluster import Key
from tunegate_operator.engine.kubernetes import KubernetesCluster

pytestmark = pytest.mark.cluster
GROUP = ("tunegate.dev", "v1alpha2", "default", "finetunejobs")
JOBS, JOB_BYTES = 100, 1_200_000
MOST_GROWTH = 60_000_000
MOST_AT_START = 200_000_000
"""Limit of the operator's memory in bytes while it lists the jobs."""


@contextmanager
def memory_of(command: OperatorCommand) -> Iterator[list[int]]:
    """Sample the operator's resident memory in bytes until the context ends. The first sample is taken before
    the context begins."""
    process, stop = psutil.Process(command.process.pid), threading.Event()
    seen = [process.memory_info().rss]

    def look() -> None:
        while not stop.wait(0.02):
            seen.append(process.memory_info().rss)

    thread = threading.Thread(target=look)
    thread.start()
    try:
        yield seen
    finally:
        stop.set()
        thread.join()


def large_job(name: str) -> object:
    job = make_job(name).with_spec(podTemplate={"affinity": {"nodeAffinity": {"x": "y" * JOB_BYTES}}}).obj()
    return job | {"metadata": {"name": name}}


def test_large_jobs_are_refused_and_take_no_memory(server, api, tmp_path):
    custom, names = client.CustomObjectsApi(api), [f"large-{n}" for n in range(JOBS)]

    def status(name):
        return custom.get_namespaced_custom_object(*GROUP, name).get("status", {})

    log = tmp_path / "operator.log"
    with operator(server, log) as command, memory_of(command) as memory:
        for name in names:
            custom.create_namespaced_custom_object(*GROUP, large_job(name))
        for name in names:
            eventually(lambda name=name: status(name).get("phase") == "Failed", what=f"{name} is refused")
    assert status(names[0])["message"].startswith("InvalidSpec: spec: larger than 64 KiB")
    assert max(memory) - memory[0] < MOST_GROWTH

    custom.create_namespaced_custom_object(*GROUP, make_job("small").obj() | {"metadata": {"name": "small"}})
    with operator(server, log) as command, memory_of(command) as memory:
        eventually(lambda: status("small").get("phase") == "Pending", seconds=60, what="all are listed")
    assert max(memory) < MOST_AT_START


NESTED = (290, 450, 1_500, 9_000)
"""Levels of JSON. Python's parsers read up to about 1,000, an API server 10,000."""


def create_nested(api: client.ApiClient, levels: int) -> None:
    job = make_job("x").with_spec(podTemplate={"affinity": "DEEP"}).obj()
    text = json.dumps(job | {"metadata": {"name": f"nested-{levels}"}})
    body = text.replace('"DEEP"', '{"a":' * levels + "1" + "}" * levels)
    url = f"{api.configuration.host}/apis/{GROUP[0]}/{GROUP[1]}/namespaces/{GROUP[2]}/{GROUP[3]}"
    headers = {"Content-Type": "application/json"}
    api.update_params_for_auth(headers, [], ["BearerToken"], url, "POST", None)
    answer = api.rest_client.pool_manager.request("POST", url, body=body.encode(), headers=headers)
    assert answer.status == 201, answer.data


def test_deeply_nested_jobs_do_not_stop_the_operator(server, api, tmp_path):
    cluster, log = KubernetesCluster(api, SystemClock()), tmp_path / "operator.log"

    def status(name: str) -> dict:
        return (cluster.get(Key("FineTuneJob", GROUP[2], name)) or {}).get("status", {})

    def has_decided() -> bool:
        return all(status(f"nested-{n}").get("phase") for n in NESTED)

    with operator(server, log) as command:  # the jobs come in a watch
        for levels in NESTED:
            create_nested(api, levels)
        eventually(has_decided, seconds=30, what="each has a status")
        for levels in NESTED[1:]:
            assert f"nested in more than {MAX_SPEC_LEVELS} levels" in status(f"nested-{levels}")["message"]
        eventually(lambda: command.probe("/healthz") == 200, what="the operator is alive")
    with operator(server, log) as command:  # the jobs come in a list
        cluster.create(make_job("after-nested").obj())
        eventually(lambda: status("after-nested").get("phase"), seconds=60, what="the next job has a status")
        eventually(lambda: command.probe("/healthz") == 200, what="the operator is alive")
