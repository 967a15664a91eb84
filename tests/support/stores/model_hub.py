"""A fake model hub with the API for repositories and with files. Large files are on another host."""

import hashlib
import json
import re
from dataclasses import dataclass, field
from pathlib import PurePosixPath
from typing import Any
from urllib.parse import quote

from support.stores.web_server import Request, Response, WebServer, damaged

COMMIT = "a09a35458c702b33eeacc393d103063234e8bc28"
TOKEN = "hub-token-of-the-test"
_LARGE = 10_000
"""Files of at least this many bytes are LFS files, on another host."""
_API = re.compile(r"/api/(?P<kind>models|datasets)/(?P<repo>[^/]+/[^/]+)(/revision/(?P<revision>.+))?")
_TREE = re.compile(
    r"/api/(?P<kind>models|datasets)/(?P<repo>[^/]+/[^/]+)/tree/(?P<revision>[^/]+)(/(?P<folder>.+))?"
)
_FILE = re.compile(r"/(?P<kind>datasets/)?(?P<repo>[^/]+/[^/]+)/resolve/(?P<commit>[^/]+)/(?P<path>.+)")
_LARGE_FILE = re.compile(r"/(?P<name>(datasets/)?[^/]+/[^/]+)/(?P<path>.+)")


@dataclass
class Repository:
    files: dict[str, bytes]
    is_private: bool = False
    is_gated: bool = False
    card: dict[str, str] = field(default_factory=dict)
    """The front matter of its README.md."""
    revisions: dict[str, str] = field(default_factory=lambda: {"main": COMMIT, "v1": COMMIT, COMMIT: COMMIT})


class ModelHub:
    """A hub with models by name, and datasets as ``datasets/NAME``."""

    def __init__(self, repositories: dict[str, Repository]) -> None:
        self.repositories = repositories
        self.page_size = 1000
        """Number of files and folders on a page of a listing."""
        self.max_siblings: int | None = None
        """Maximum number of files in the description of a repository. The hub truncates long lists."""
        self._damaged: set[str] = set()
        self.cdn = WebServer(self._large_file)
        self.cdn_port = self.cdn.port
        """The port of the file host for clients, which may be that of a proxy."""
        self.server = WebServer(self._answer)

    def damage(self, name: str) -> None:
        self._damaged.add(name)

    def mend(self, name: str) -> None:
        self._damaged.discard(name)

    def _answer(self, request: Request) -> Response:
        if match := _API.fullmatch(request.path):
            return self._repository(request, match)
        if match := _TREE.fullmatch(request.path):
            return self._tree(request, match)
        if match := _FILE.fullmatch(request.path):
            return self._file(request, match)
        return Response(404)

    def _repository(self, request: Request, match: re.Match[str]) -> Response:
        name = _repository_name(match)
        refusal = self._refusal(request, name)
        if refusal:
            return refusal
        repository = self.repositories[name]
        commit = repository.revisions.get(match["revision"] or "main")
        if commit is None:
            return Response(404, headers={"X-Error-Code": "RevisionNotFound"})
        siblings = [_sibling(path, content) for path, content in repository.files.items()]
        siblings = siblings[: self.max_siblings]
        info = {"id": match["repo"], "sha": commit, "siblings": siblings, "cardData": repository.card}
        return Response(body=json.dumps(info).encode(), headers={"Content-Type": "application/json"})

    def _tree(self, request: Request, match: re.Match[str]) -> Response:
        """Return a page of the files and folders in a folder, with ``recursive=true`` also in its
        sub-folders."""
        name = _repository_name(match)
        refusal = self._refusal(request, name)
        if refusal:
            return refusal
        repository, prefix = self.repositories[name], f"{match['folder']}/" if match["folder"] else ""
        if match["revision"] not in repository.revisions:
            return Response(404, headers={"X-Error-Code": "RevisionNotFound"})
        files = {path: content for path, content in repository.files.items() if path.startswith(prefix)}
        if prefix and not files:  # also for the path of a file
            return Response(404, headers={"X-Error-Code": "EntryNotFound"})
        folders = {str(parent) for path in files for parent in PurePosixPath(path).parents}
        entries = [{"type": "directory", "oid": "0", "path": path} for path in sorted(folders)]
        entries = [entry for entry in entries if entry["path"].startswith(prefix) and entry["path"] != "."]
        entries += [_entry(path, content) for path, content in files.items()]
        recursive = request.query.get("recursive", "false")
        if recursive == "false":
            entries = [entry for entry in entries if "/" not in entry["path"].removeprefix(prefix)]
        start = int(request.query.get("cursor", "0"))
        end = start + self.page_size
        headers = {"Content-Type": "application/json"}
        if end < len(entries):
            url = f"http://{request.headers['Host']}{quote(request.path)}?recursive={recursive}&cursor={end}"
            headers["Link"] = f'<{url}>; rel="next"'
        return Response(body=json.dumps(entries[start:end]).encode(), headers=headers)

    def _file(self, request: Request, match: re.Match[str]) -> Response:
        name = (match["kind"] or "") + match["repo"]
        refusal = self._refusal(request, name, file=True)
        if refusal:
            return refusal
        content = self.repositories[name].files.get(match["path"])
        if content is None:
            return Response(404, headers={"X-Error-Code": "EntryNotFound"})
        headers = {"X-Repo-Commit": match["commit"], "ETag": '"any"'}
        if len(content) >= _LARGE:
            where = f"http://localhost:{self.cdn_port}/{name}/{match['path']}?signature=signed"
            return Response(302, headers={**headers, "Location": where})
        return Response(body=damaged(content) if match["path"] in self._damaged else content, headers=headers)

    def _large_file(self, request: Request) -> Response:
        name, path = _LARGE_FILE.fullmatch(request.path).group("name", "path")
        content = self.repositories[name].files[path]
        return Response(body=damaged(content) if path in self._damaged else content)

    def _refusal(self, request: Request, name: str, *, file: bool = False) -> Response | None:
        repository = self.repositories.get(name)
        token = request.headers.get("Authorization", "").removeprefix("Bearer ")
        if token and token != TOKEN:
            return Response(401, headers={"X-Error-Message": "Invalid credentials in Authorization header"})
        if repository is None or (repository.is_private and not token):
            return Response(404 if token else 401, headers={"X-Error-Code": "RepoNotFound"})
        if repository.is_gated and file:
            return Response(403, headers={"X-Error-Code": "GatedRepo"})
        return None


def _repository_name(match: re.Match[str]) -> str:
    return match["repo"] if match["kind"] == "models" else f"datasets/{match['repo']}"


def _entry(path: str, content: bytes) -> dict[str, Any]:
    """Return a file as an entry of a listing."""
    known = _sibling(path, content)
    entry = {"type": "file", "path": path, "oid": known["blobId"], "size": known["size"]}
    if lfs := known.get("lfs"):
        entry["lfs"] = {"oid": lfs["sha256"], "size": lfs["size"], "pointerSize": lfs["pointerSize"]}
    return entry


def _sibling(path: str, content: bytes) -> dict[str, Any]:
    blob = b"blob %d\0" % len(content) + content
    known: dict[str, Any] = {
        "rfilename": path,
        "size": len(content),
        "blobId": hashlib.sha1(blob, usedforsecurity=False).hexdigest(),
    }
    if len(content) >= _LARGE:
        digest = hashlib.sha256(content).hexdigest()
        known["lfs"] = {"sha256": digest, "size": len(content), "pointerSize": 130}
    return known
