"""A fake, read-only OCI registry: manifests, blobs with ranges, and Basic and Bearer authentication."""

import base64
import hashlib
import io
import json
import re
import secrets
import tarfile
from collections.abc import Mapping
from typing import Any

from support.stores.web_server import Request, Response, WebServer, damaged

USER, PASSWORD = "robot", "pass:word"
MANIFEST = "application/vnd.oci.image.manifest.v1+json"
INDEX = "application/vnd.oci.image.index.v1+json"
FILE = "application/vnd.oci.image.layer.v1.raw"
TAR, TAR_GZIP = "application/vnd.oci.image.layer.v1.tar", "application/vnd.oci.image.layer.v1.tar+gzip"
_PATH = re.compile(r"/v2/(?P<name>.+)/(?P<kind>manifests|blobs)/(?P<reference>[^/]+)")


def digest_of(content: bytes) -> str:
    return f"sha256:{hashlib.sha256(content).hexdigest()}"


class OciRegistry:
    """Serves over HTTP what its methods push. ``login`` is None, ``Basic`` or ``Bearer``."""

    def __init__(self, login: str | None = None) -> None:
        self.login = login
        self.public_port: int | None = None
        """The port that clients use, if there is a proxy in front of the registry."""
        self.blobs_at: str | None = None
        """The URL to which requests for blobs are redirected."""
        self._blobs: dict[str, bytes] = {}
        self._manifests: dict[str, tuple[str, bytes]] = {}
        self._names: dict[str, str] = {}
        self._damaged: set[str] = set()
        self.tokens_last_for = 1_000_000
        """The number of requests for which a token is valid."""
        self._tokens: dict[str, int] = {}
        self.server = WebServer(self._answer)

    def damage(self, name: str) -> None:
        self._damaged.add(self._names[name])

    def mend(self, name: str) -> None:
        self._damaged.discard(self._names[name])

    def push_blob(self, content: bytes) -> dict[str, Any]:
        digest = digest_of(content)
        self._blobs[digest] = content
        return {"digest": digest, "size": len(content)}

    def push_file(self, name: str, content: bytes) -> dict[str, Any]:
        """Push a layer that is one file, as ORAS does. Return its descriptor."""
        blob = self.push_blob(content)
        self._names[name] = blob["digest"]
        return {**blob, "mediaType": FILE, "annotations": {"org.opencontainers.image.title": name}}

    def push_archive(self, files: Mapping[str, bytes], *, gzip: bool = False) -> dict[str, Any]:
        """Push a layer that is a tar archive. Return its descriptor."""
        archive = io.BytesIO()
        with tarfile.open(fileobj=archive, mode="w:gz" if gzip else "w") as tar:
            for name, content in files.items():
                member = tarfile.TarInfo(name)
                member.size = len(content)
                tar.addfile(member, io.BytesIO(content))
        return {**self.push_blob(archive.getvalue()), "mediaType": TAR_GZIP if gzip else TAR}

    def push(self, tag: str, *layers: dict[str, Any]) -> str:
        """Push an artifact. Return its digest."""
        config = {**self.push_blob(b"{}"), "mediaType": "application/vnd.oci.empty.v1+json"}
        return self.push_manifest(
            tag, {"schemaVersion": 2, "mediaType": MANIFEST, "config": config, "layers": list(layers)}
        )

    def push_manifest(self, tag: str, manifest: dict[str, Any]) -> str:
        content = json.dumps(manifest).encode()
        digest = digest_of(content)
        self._manifests[tag] = self._manifests[digest] = (manifest["mediaType"], content)
        return digest

    def swap(self, digest: str, other: str) -> None:
        """Serve another manifest under a digest, like a malicious registry."""
        self._manifests[digest] = self._manifests[other]

    def _answer(self, request: Request) -> Response:
        if request.path == "/token":
            return self._token(request)
        if not self._may(request):
            port = self.public_port or self.server.port
            bearer = (
                f'Bearer realm="http://127.0.0.1:{port}/token",service="registry",scope="repository:*:pull"'
            )
            challenge = 'Basic realm="registry"' if self.login == "Basic" else bearer
            return Response(401, headers={"WWW-Authenticate": challenge})
        match = _PATH.fullmatch(request.path)
        if match is None or match["name"] != "models/tiny":
            return Response(404)
        if match["kind"] == "blobs":
            return self._blob(match["reference"])
        found = self._manifests.get(match["reference"])
        if found is None or found[0] not in request.headers.get("Accept", ""):
            return Response(404)
        return Response(body=found[1], headers={"Content-Type": found[0]})

    def _blob(self, digest: str) -> Response:
        if self.blobs_at:
            return Response(307, headers={"Location": f"{self.blobs_at}/{digest}"})
        content = self._blobs.get(digest)
        if content is None:
            return Response(404)
        return Response(body=damaged(content) if digest in self._damaged else content)

    def _token(self, request: Request) -> Response:
        if request.headers.get("Authorization") != _basic() or not request.query["scope"].startswith(
            "repository:models/"
        ):
            return Response(401)
        token = secrets.token_hex(8)
        self._tokens[token] = self.tokens_last_for
        return Response(body=json.dumps({"token": token}).encode())

    def _may(self, request: Request) -> bool:
        authorization = request.headers.get("Authorization", "")
        match self.login:
            case "Basic":
                return authorization == _basic()
            case "Bearer":
                token = authorization.removeprefix("Bearer ")
                left = self._tokens.get(token, 0)
                self._tokens[token] = left - 1
                return left > 0
        return True


def _basic() -> str:
    return f"Basic {base64.b64encode(f'{USER}:{PASSWORD}'.encode()).decode()}"


def docker_config(registry: str, password: str = PASSWORD) -> str:
    """Return the value of ``.dockerconfigjson`` in a Secret."""
    auth = base64.b64encode(f"{USER}:{password}".encode()).decode()
    return json.dumps({"auths": {registry: {"auth": auth}}})
