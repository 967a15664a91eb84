"""A server with the part of the Weights & Biases protocol that the client needs to resume and log a run."""

import base64
import gzip
import json
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any


@dataclass
class StoredRun:
    """The data of a run at the server."""

    group: str
    config: str = "{}"
    """As JSON."""
    history: list[str] = field(default_factory=list)
    """One JSON object per row."""
    summary: str = "{}"
    """As JSON."""
    files: list[str] = field(default_factory=list)
    exit_code: int | None = None
    """Set when the client reports the end of the run."""

    @property
    def rows(self) -> list[dict[str, Any]]:
        return [json.loads(line) for line in self.history]

    def column(self, name: str) -> list[Any]:
        """Return all values of a metric in the order of arrival."""
        return [row[name] for row in self.rows if name in row]


class WandbServer(ThreadingHTTPServer):
    """Stores runs by id."""

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), _Handler)
        self.runs: dict[str, StoredRun] = {}
        self.key: str | None = None
        """The accepted API key; None: any."""

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server_port}"

    def answer(self, operation: str, variables: dict[str, Any]) -> dict[str, Any]:
        """Return the answer to a GraphQL operation."""
        match operation:
            case "RunResumeStatus":
                run = self.runs.get(variables["name"])
                return {"model": {"bucket": _bucket(variables["name"], run) if run else None}}
            case "UpsertBucket":
                name, is_new = variables["name"], variables["name"] not in self.runs
                run = self.runs.setdefault(name, StoredRun(variables["groupName"]))
                run.config = variables["config"] or run.config
                project = {"id": "p", "name": variables["project"], "entity": {"id": "e", "name": "team"}}
                bucket = _bucket(name, run) | {"project": project}
                return {"upsertBucket": {"bucket": bucket, "inserted": is_new}}
            case "CreateRunFiles":
                run_id, names = variables["run"], variables["files"]
                self.runs[run_id].files += names
                files = [{"name": name, "uploadUrl": f"{self.url}/upload/{name}"} for name in names]
                return {"createRunFiles": {"runID": run_id, "uploadHeaders": [], "files": files}}
        return {}

    def stream(self, run_id: str, content: dict[str, Any]) -> None:
        """Store the rows and the summary of a run."""
        run, files = self.runs[run_id], content.get("files") or {}
        if rows := files.get("wandb-history.jsonl"):
            run.history[rows["offset"] :] = rows["content"]
        if summary := files.get("wandb-summary.json"):
            run.summary = summary["content"][-1]
        if content.get("complete"):
            run.exit_code = content["exitcode"]


def _bucket(name: str, run: StoredRun) -> dict[str, Any]:
    return {
        "id": name,
        "name": name,
        "config": run.config,
        "summaryMetrics": run.summary,
        "historyLineCount": len(run.history),
        "eventsLineCount": 0,
        "logLineCount": 0,
        "historyTail": json.dumps(run.history[-1:]),
        "eventsTail": "[]",
        "wandbConfig": '{"t": 1}',
    }


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True  # see web_server.py
    server: WandbServer

    def _answer(self) -> None:
        body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
        if self.headers.get("Content-Encoding") == "gzip":
            body = gzip.decompress(body)
        expected = base64.b64encode(f"api:{self.server.key}".encode()).decode()
        if self.server.key and self.headers.get("Authorization") != f"Basic {expected}":
            self._reply(401, {"error": "user is not logged in"})
        elif self.path == "/graphql":
            asked = json.loads(body)
            self._reply(200, {"data": self.server.answer(asked["operationName"], asked["variables"])})
        elif self.path.endswith("/file_stream"):
            self.server.stream(self.path.split("/")[-2], json.loads(body))
            self._reply(200, {})
        else:  # uploaded files, and the client's own telemetry
            self._reply(200, {})

    def do_GET(self) -> None:
        self._answer()

    def do_POST(self) -> None:
        self._answer()

    def do_PUT(self) -> None:
        self._answer()

    def _reply(self, status: int, content: dict[str, Any]) -> None:
        body = json.dumps(content).encode()
        self.send_response(status)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_: object) -> None:
        """Log nothing."""


@contextmanager
def wandb_server() -> Iterator[WandbServer]:
    """Run the server during the block."""
    server = WandbServer()
    thread = threading.Thread(target=server.serve_forever, name="wandb server")
    thread.start()
    try:
        yield server
    finally:
        server.shutdown()
        thread.join()
        server.server_close()
