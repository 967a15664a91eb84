"""The responses of the health probes to the state of the process's threads."""

import asyncio
from typing import Any

import urllib3

from support.api_server import free_port
from support.clock import FakeClock
from support.fake_cluster import FakeCluster
from tunegate_operator.manager import Manager
from tunegate_operator.settings import Settings


def test_healthz_names_a_thread_that_ended():
    nobody: Any = FakeCluster()  # no thread here calls the cluster
    settings = Settings(
        trainer_image="trainer:test",
        health_port=free_port(),
        pod_name="operator-0",
        pod_namespace="tunegate-system",
        pod_ip="192.0.2.1",
    )
    manager = Manager(settings, nobody, FakeClock(), lost=lambda: None)
    url = f"http://127.0.0.1:{settings.health_port}/healthz"

    async def probed() -> tuple[int, str]:
        await manager._answer_probes()
        manager._run("worker-0", lambda: None)
        await asyncio.to_thread(manager._threads[0].join)
        response = await asyncio.to_thread(urllib3.request, "GET", url, timeout=5, retries=False)
        await manager.stop()
        return response.status, response.data.decode()

    assert asyncio.run(probed()) == (500, "threads ended: worker-0\n")
