"""Delay status writes of FineTuneJobs on a real API server, with a slow webhook."""

import base64
import json
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

from kubernetes import client

from support.own_authority import own_authority

NAME = "held-writes.test.tunegate.dev"
LONGEST_SECONDS = 20
"""Timeout of the webhook, in seconds. After this time, the API server carries out the write anyway."""


@contextmanager
def held_status_writes(api: client.ApiClient, folder: Path) -> Iterator[threading.Event]:
    """Delay each status write until the context ends. The yielded event is set once a write is waiting."""
    is_held, may_go_on = threading.Event(), threading.Event()

    class Webhook(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            review = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
            is_held.set()
            may_go_on.wait(LONGEST_SECONDS)
            answer = json.dumps(
                {
                    "apiVersion": review["apiVersion"],
                    "kind": review["kind"],
                    "response": {"uid": review["request"]["uid"], "allowed": True},
                }
            ).encode()
            self.send_response(200)
            self.send_header("Content-Type", "application/json")
            self.send_header("Content-Length", str(len(answer)))
            self.end_headers()
            self.wfile.write(answer)

        def log_message(self, format: str, *args: object) -> None:
            """Log nothing."""

    tls, authority = own_authority(folder)
    with ThreadingHTTPServer(("127.0.0.1", 0), Webhook) as server:
        server.socket = tls.wrap_socket(server.socket, server_side=True)
        threading.Thread(target=server.serve_forever, daemon=True).start()
        configurations = client.AdmissionregistrationV1Api(api)
        configurations.create_validating_webhook_configuration(
            _configuration(server.server_address[1], authority.read_bytes())
        )
        try:
            yield is_held
        finally:
            configurations.delete_validating_webhook_configuration(NAME)
            may_go_on.set()
            server.shutdown()


def _configuration(port: int, authority: bytes) -> dict[str, object]:
    status = {
        "apiGroups": ["tunegate.dev"],
        "apiVersions": ["v1alpha2"],
        "operations": ["UPDATE"],
        "resources": ["finetunejobs/status"],
    }
    return {
        "metadata": {"name": NAME},
        "webhooks": [
            {
                "name": NAME,
                "admissionReviewVersions": ["v1"],
                "sideEffects": "None",
                "failurePolicy": "Ignore",
                "timeoutSeconds": LONGEST_SECONDS,
                "clientConfig": {
                    "url": f"https://localhost:{port}/",
                    "caBundle": base64.b64encode(authority).decode(),
                },
                "rules": [status],
            }
        ],
    }
