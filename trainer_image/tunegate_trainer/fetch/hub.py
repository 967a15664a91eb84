"""``hf://``: models and datasets on the Hugging Face Hub, or on the hub that ``HF_ENDPOINT`` names.

Files are read over HTTP directly, because the hub's client cannot resume a file in a new process.
"""

import os
import re
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import PurePosixPath
from typing import Any, Literal
from urllib.parse import quote

import httpx2
from huggingface_hub import HfApi, get_session, get_token, hf_hub_url, hf_raise_for_status
from huggingface_hub.errors import (
    EntryNotFoundError,
    GatedRepoError,
    HfHubHTTPError,
    HFValidationError,
    OfflineModeIsEnabled,
    RepositoryNotFoundError,
    RevisionNotFoundError,
)
from huggingface_hub.hf_api import RepoFile, RepoSibling

from tunegate_api.meta import summarize
from tunegate_trainer.fetch.address import (
    Address,
    Choose,
    RemoteFile,
    RemoteFolder,
    RemoteModel,
    Stream,
)
from tunegate_trainer.fetch.checksum import Checksum
from tunegate_trainer.fetch.folder import MAX_FILES, choose_files
from tunegate_trainer.fetch.license import license_of
from tunegate_trainer.fetch.network import TIMEOUT, check_status, transient_http_errors, with_retries

KEY = "HF_TOKEN"
_COMMIT = re.compile(r"[0-9a-f]{40}")
_MODEL = re.compile(r"[^/@]+(/[^/@]+)?")
_DATA = re.compile(r"datasets/(?P<repo>[^/@]+/[^/@]+)(@(?P<revision>[^/]+))?(/(?P<path>.*))?")
_RESET = re.compile(r";\s*t\s*=\s*(\d+)")
"""Matches the seconds until the hub counts requests anew, in the header RateLimit: ``"api";r=0;t=55``."""

MAX_PAGES = 1_000
"""Maximum number of pages of a listing. A page may have only folders, and no files."""
_SHOWN = 8
"""Maximum number of file names in an error."""
RepoType = Literal["model", "dataset"]


def pinned(address: Address) -> str | None:
    """Return ``model.revision`` if it is the full hash of a commit, else None."""
    revision = address.revision or ""
    return revision if _COMMIT.fullmatch(revision) else None


def find_model(address: Address, choose: Choose) -> RemoteModel:
    """Return the files of hf://ORG/NAME at ``model.revision``. A branch or tag is resolved to its commit."""
    if not _MODEL.fullmatch(address.rest):
        raise address.wrong("a model address must be hf://ORG/NAME", "put the commit into model.revision")
    if address.revision is None:
        raise address.wrong(
            "model.revision is missing, and without it the content at this address can change",
            "set model.revision to a commit, a tag or a branch; the plan records the commit",
        )
    found = _list(address, address.rest, "model", address.revision)
    files = tuple(found.file(path) for path in choose(list(found.files)))
    return RemoteModel(files, revision=found.commit, license=license_of(found.card))


def find_data(address: Address) -> RemoteFile | RemoteFolder:
    """Return the file or folder at hf://datasets/ORG/NAME[@REVISION][/PATH]. Without a path, it is the folder
    with all files of the repository."""
    match = _DATA.fullmatch(address.rest)
    if match is None:
        raise address.wrong("the address of data must be hf://datasets/ORG/NAME[@REVISION][/PATH]")
    found = _list(address, match["repo"], "dataset", match["revision"])
    path = (match["path"] or "").strip("/")
    if path in found.files:
        return found.file(path)
    entries = found.below(path)
    if path and not entries:  # the list in the description of a large repository may be truncated
        folder, _, name = path.rpartition("/")
        beside = found.below(folder, recursive=False)
        if name in beside:
            return found.remote(beside[name], name)
    names = choose_files(address, entries)
    if not names:
        missing = f"there is no file or folder {path} in {match['repo']}" if path else "the data set is empty"
        raise address.not_found(
            f"{address.uri} has only hidden files" if entries else missing,
            f"the repository has: {summarize(sorted(found.files), _SHOWN) or 'no files'}",
        )
    return RemoteFolder(tuple(found.remote(entries[name], name) for name in names))


@dataclass(frozen=True)
class _Snapshot:
    address: Address
    repo: str
    repo_type: RepoType
    commit: str
    files: dict[str, RepoSibling]
    """The files by path."""
    card: dict[str, Any]
    """The front matter of the model card or dataset card."""

    def file(self, path: str) -> RemoteFile:
        return self.remote(self.files[path], PurePosixPath(path).name)

    def remote(self, entry: RepoSibling | RepoFile, name: str) -> RemoteFile:
        """Return a file with the local ``name``."""
        if entry.lfs is not None:
            size, checksum = entry.lfs.size, Checksum("sha256", entry.lfs.sha256)
        else:
            size, checksum = entry.size or 0, Checksum("git", str(entry.blob_id))
        return RemoteFile(name, size, checksum, partial(self._read, entry.rfilename))

    def below(self, folder: str, *, recursive: bool = True) -> dict[str, RepoFile]:
        """Return the files in a folder and its sub-folders, by their path in it. The listing stops after
        ``MAX_FILES`` files. It is empty if there is no such folder. Raises :class:`UserError` if it has more
        than ``MAX_PAGES`` pages.

        This listing has pages. ``files`` has none, so the hub may truncate it for large repositories.
        """
        prefix = f"{folder}/" if folder else ""
        path = f"{self.commit}/{quote(folder, safe='')}".removesuffix("/")
        api = f"{HfApi(endpoint=_endpoint()).endpoint}/api/{self.repo_type}s/{self.repo}"
        url = f"{api}/tree/{path}?recursive={str(recursive).lower()}"
        found: dict[str, RepoFile] = {}
        for _ in range(MAX_PAGES):
            entries, next_url = with_retries(self.address.field, partial(self._page, url))
            found |= {entry.rfilename.removeprefix(prefix): entry for entry in entries}
            if not next_url or len(found) > MAX_FILES:
                return found
            url = next_url
        raise self.address.wrong(
            f"the list of its files has more than {MAX_PAGES:,} pages",
            "set uri to a folder with fewer folders and files",
        )

    def _page(self, url: str) -> tuple[list[RepoFile], str | None]:
        """Return the files of one page of a listing, and the URL of the next page."""
        with _refusals(self.address, self.commit):
            response = get_session().get(url, headers=self._authorization(), timeout=TIMEOUT)
            try:
                hf_raise_for_status(response)
            except EntryNotFoundError:
                return [], None
        entries = [entry for entry in response.json() if entry["type"] == "file"]
        files = [RepoFile(**entry) for entry in entries]  # type: ignore[no-untyped-call]
        return files, response.links.get("next", {}).get("url")

    @contextmanager
    def _read(self, path: str, start: int) -> Iterator[Stream]:
        url = hf_hub_url(
            self.repo, path, repo_type=self.repo_type, revision=self.commit, endpoint=_endpoint()
        )
        # Without compression, because a range of compressed content is useless.
        headers = {"Accept-Encoding": "identity", "Range": f"bytes={start}-", **self._authorization()}
        with (
            _refusals(self.address, self.commit),
            get_session().stream("GET", url, headers=headers, timeout=TIMEOUT) as response,
        ):
            hf_raise_for_status(response)
            is_rest = response.status_code == httpx2.codes.PARTIAL_CONTENT
            yield Stream(start if is_rest else 0, response.iter_bytes())

    def _authorization(self) -> dict[str, str]:
        token = _token(self.address) or get_token()
        return {"Authorization": f"Bearer {token}"} if token else {}


def _list(address: Address, repo: str, repo_type: RepoType, revision: str | None) -> _Snapshot:
    """Return the commit and the files of a repository at a revision."""
    api = HfApi(endpoint=_endpoint(), token=_token(address))
    ask = api.model_info if repo_type == "model" else api.dataset_info

    def snapshot() -> _Snapshot:
        with _refusals(address, revision):
            info = ask(repo, revision=revision, files_metadata=True, timeout=60)
        files = {sibling.rfilename: sibling for sibling in info.siblings or []}
        card = vars(info.card_data) if info.card_data else {}
        return _Snapshot(address, repo, repo_type, str(info.sha), files, card)

    return with_retries(address.field, snapshot)


@contextmanager
def _refusals(address: Address, revision: str | None) -> Iterator[None]:
    """Translate errors of the hub's client. Their texts are dropped, because they can contain signed URLs."""
    try:
        with transient_http_errors():
            yield
    except OfflineModeIsEnabled as error:
        raise address.wrong(
            "cannot be downloaded, because HF_HUB_OFFLINE is set",
            "unset HF_HUB_OFFLINE, or copy the files to a volume",
        ) from error
    except HFValidationError as error:
        raise address.wrong("this is not a valid repository name", "use hf://ORG/NAME") from error
    except GatedRepoError as error:
        raise address.refused("the repository is gated: request access on its page") from error
    except RepositoryNotFoundError as error:
        if error.response.status_code == httpx2.codes.UNAUTHORIZED and address.secret is not None:
            raise address.refused(f"the repository does not exist, or {KEY} is wrong") from error
        raise address.not_found(
            f"{address.uri} does not exist or is private",
            f"check the name; for a private repository, set secretName to a Secret with {KEY}",
        ) from error
    except RevisionNotFoundError as error:
        raise address.not_found(f"{address.uri} has no revision {revision}") from error
    except EntryNotFoundError as error:
        raise address.not_found(
            f"the hub lists a file of {address.uri}, but cannot find it",
            "check the repository's files on the hub",
        ) from error
    except HfHubHTTPError as error:
        status, headers = error.response.status_code, error.response.headers
        reset = _RESET.search(headers.get("RateLimit", ""))
        if status == httpx2.codes.TOO_MANY_REQUESTS and reset is not None:
            headers = httpx2.Headers({"Retry-After": reset[1]})
        check_status(status, headers)
        if status in (httpx2.codes.UNAUTHORIZED, httpx2.codes.FORBIDDEN):
            raise address.refused(f"the hub answered with status {status}") from error
        raise address.wrong(f"the hub does not accept this request (status {status})") from error


def _token(address: Address) -> str | None:
    """Return the token in the Secret. Returns None without a Secret: then the client uses the environment
    variable HF_TOKEN or the token of a login."""
    return address.secret[KEY] if address.secret is not None else None


def _endpoint() -> str | None:
    return os.environ.get("HF_ENDPOINT") or None
