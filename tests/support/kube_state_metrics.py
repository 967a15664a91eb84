"""A real kube-state-metrics with the configuration of the chart."""

import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from support.api_server import BUILD, ApiServer, free_port
from support.helm import CHART
from support.samples import scrape
from support.waiting import eventually

CONFIG = CHART / "monitoring" / "kube-state-metrics.yaml"


@contextmanager
def kube_state_metrics(server: ApiServer, log: Path) -> Iterator[int]:
    """Run kube-state-metrics for FineTuneJobs and EvalGates, and return the port of its /metrics."""
    built = subprocess.run([BUILD, "kube-state-metrics"], check=True, stdout=subprocess.PIPE, text=True)
    port = free_port()
    with log.open("wb") as output:
        process = subprocess.Popen(
            [
                Path(built.stdout.strip()) / "kube-state-metrics",
                f"--kubeconfig={server.kubeconfig}",
                "--custom-resource-state-only",
                f"--custom-resource-state-config-file={CONFIG}",
                "--host=127.0.0.1",
                f"--port={port}",
                "--telemetry-host=127.0.0.1",
                f"--telemetry-port={free_port()}",
            ],
            stdout=output,
            stderr=subprocess.STDOUT,
        )

    def answers() -> bool:
        assert process.poll() is None, log.read_text()
        try:
            scrape(port)
        except OSError:
            return False
        return True

    try:
        eventually(answers, seconds=60, what=f"kube-state-metrics answers, see {log}", pause=0.2)
        yield port
    finally:
        process.terminate()
        process.wait(30)
