"""A real Prometheus, which scrapes the processes that a test starts."""

import shutil
import subprocess
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import urllib3
import yaml

from support.api_server import free_port
from support.waiting import eventually

needs_prometheus = pytest.mark.skipif(
    shutil.which("prometheus") is None, reason="Prometheus is not installed: apt-get install prometheus"
)


@dataclass(frozen=True)
class Prometheus:
    """The address of a running Prometheus."""

    url: str

    def query(self, expression: str, at: float | None = None) -> list[dict[str, Any]]:
        """Return the series of an instant query, each with ``metric`` and ``value``. The default time is
        now."""
        return self._get("query", {"query": expression} | ({} if at is None else {"time": f"{at}"}))

    def query_range(self, expression: str, start: float, end: float, step: int) -> list[dict[str, Any]]:
        """Return the series of a range query, each with ``metric`` and ``values``."""
        fields = {"query": expression, "start": f"{start}", "end": f"{end}", "step": f"{step}"}
        return self._get("query_range", fields)

    def alerts(self) -> dict[str, str]:
        """Return the state of each alert rule by name: inactive, pending or firing."""
        answer = urllib3.request("GET", f"{self.url}/api/v1/rules", timeout=10).json()
        return {rule["name"]: rule["state"] for group in answer["data"]["groups"] for rule in group["rules"]}

    def _get(self, path: str, fields: dict[str, str]) -> list[dict[str, Any]]:
        answer = urllib3.request("GET", f"{self.url}/api/v1/{path}", fields=fields, timeout=30)
        content: dict[str, Any] = answer.json()
        assert content["status"] == "success", content
        series: list[dict[str, Any]] = content["data"]["result"]
        return series


def import_history(folder: Path, samples: Path) -> None:
    """Store samples in the OpenMetrics text format, each with its time, for a Prometheus that starts in
    ``folder`` later."""
    command = ["promtool", "tsdb", "create-blocks-from", "openmetrics", samples, folder / "prometheus"]
    subprocess.run(command, check=True, stdout=subprocess.DEVNULL)


@contextmanager
def prometheus(folder: Path, ports: Sequence[int] = (), rules: Path | None = None) -> Iterator[Prometheus]:
    """Run Prometheus with an alert file; it scrapes /metrics on these ports of localhost every second."""
    config = {
        "global": {"scrape_interval": "1s", "evaluation_interval": "1s"},
        "rule_files": [str(rules)] if rules else [],
        "scrape_configs": [
            {
                "job_name": "tunegate",
                "honor_labels": True,
                "static_configs": [{"targets": [f"127.0.0.1:{port}" for port in ports]}],
            }
        ],
    }
    (folder / "prometheus.yml").write_text(yaml.safe_dump(config))
    address = f"127.0.0.1:{free_port()}"
    with (folder / "prometheus.log").open("wb") as log:
        process = subprocess.Popen(
            [
                "prometheus",
                f"--config.file={folder / 'prometheus.yml'}",
                f"--storage.tsdb.path={folder / 'prometheus'}",
                "--storage.tsdb.retention.time=100y",
                f"--web.listen-address={address}",
            ],
            stdout=log,
            stderr=subprocess.STDOUT,
        )

    def is_ready() -> bool:
        assert process.poll() is None, (folder / "prometheus.log").read_text()
        try:
            return urllib3.request("GET", f"http://{address}/-/ready", timeout=2, retries=False).status == 200
        except urllib3.exceptions.HTTPError:
            return False

    try:
        eventually(is_ready, seconds=60, what="Prometheus is ready", pause=0.1)
        yield Prometheus(f"http://{address}")
    finally:
        process.terminate()
        process.wait(30)
