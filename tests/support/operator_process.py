"""Run the operator's watches, Kopf and reflectors, in threads of the test's process."""

import asyncio
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path

import kopf
import yaml

from tunegate_operator.engine.kubernetes import CHILD_RESOURCES, OWN_RESOURCES, KubernetesCluster
from tunegate_operator.engine.listing import Listing, WatchStarts
from tunegate_operator.engine.reflector import Reflector
from tunegate_operator.kopf_watches import kopf_settings, own_watches


@contextmanager
def watching(
    cluster: KubernetesCluster, kubeconfig: Path, relist: Callable[[str], None] = lambda _: None
) -> Iterator[None]:
    """Deliver watch events of the API server to ``cluster`` until the context ends. ``relist`` is called with
    a kind whenever its watch starts, and must list the kind."""
    stop = threading.Event()
    listings = {
        kind: Listing(kind, None, partial(relist, kind)) for kind in (*CHILD_RESOURCES, *OWN_RESOURCES)
    }
    starts = {kind: WatchStarts(listings[kind]) for kind in OWN_RESOURCES}
    reflectors = [Reflector(cluster, listings[kind]) for kind in CHILD_RESOURCES]
    registry = own_watches(cluster, lambda kind, _: starts[kind].note(), lambda **_: _credentials(kubeconfig))

    async def run() -> None:
        await kopf.operator(
            registry=registry, settings=kopf_settings(), clusterwide=True, standalone=True, stop_flag=stop
        )
        await asyncio.sleep(0.5)  # aiohttp closes TLS connections a bit later than it reports

    thread = threading.Thread(target=lambda: asyncio.run(run()), name="kopf")
    thread.start()
    for watch in (*reflectors, *starts.values()):
        threading.Thread(target=watch.run, args=(stop,), daemon=True).start()
    try:
        for kind, listing in listings.items():
            assert listing.is_synced.wait(30), f"{kind}s were not listed in time"
        yield
    finally:
        stop.set()
        thread.join(30)
        assert not thread.is_alive(), "Kopf did not stop"


def _credentials(kubeconfig: Path) -> kopf.ConnectionInfo:
    config = yaml.safe_load(kubeconfig.read_text())
    where, who = config["clusters"][0]["cluster"], config["users"][0]["user"]
    return kopf.ConnectionInfo(
        server=where["server"], ca_data=where["certificate-authority-data"], token=who["token"]
    )
