"""Run the operator's watches, Kopf and reflectors, in threads of the test's process."""

import asyncio
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import kopf
import yaml

from tunegate_operator.engine.kubernetes import CHILD_RESOURCES, KubernetesCluster
from tunegate_operator.engine.reflector import Reflector
from tunegate_operator.main import kopf_settings, routes


@contextmanager
def watching(cluster: KubernetesCluster, kubeconfig: Path) -> Iterator[None]:
    """Deliver watch events of the API server to ``cluster`` until the context ends."""
    registry, ready, stop = routes(cluster), threading.Event(), threading.Event()
    _log_in(registry, kubeconfig)

    async def run() -> None:
        await kopf.operator(
            registry=registry,
            settings=kopf_settings(),
            clusterwide=True,
            standalone=True,
            ready_flag=ready,
            stop_flag=stop,
        )
        await asyncio.sleep(0.5)  # aiohttp closes TLS connections a bit later than it reports

    thread = threading.Thread(target=lambda: asyncio.run(run()), name="kopf")
    thread.start()
    reflectors = [Reflector(cluster, kind, None, lambda: None) for kind in CHILD_RESOURCES]
    for reflector in reflectors:
        threading.Thread(target=reflector.run, args=(stop,), daemon=True).start()
    try:
        assert ready.wait(30), "Kopf did not start"
        assert all(reflector.is_synced.wait(30) for reflector in reflectors), "not listed in time"
        yield
    finally:
        stop.set()
        thread.join(30)
        assert not thread.is_alive(), "Kopf did not stop"


def _log_in(registry: kopf.OperatorRegistry, kubeconfig: Path) -> None:
    config = yaml.safe_load(kubeconfig.read_text())
    where, who = config["clusters"][0]["cluster"], config["users"][0]["user"]

    @kopf.on.login(registry=registry)
    def login(**_: object) -> kopf.ConnectionInfo:
        return kopf.ConnectionInfo(
            server=where["server"], ca_data=where["certificate-authority-data"], token=who["token"]
        )
