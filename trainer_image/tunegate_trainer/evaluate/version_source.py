"""The interface of an address with published versions."""

from collections.abc import Sequence
from pathlib import Path
from typing import Protocol

from tunegate_api.contract.published import PublishedVersion
from tunegate_api.contract.request import GateRequest


class VersionSource(Protocol):
    """An address with published versions. Every publish target is one."""

    def newest_versions(self, gates: Sequence[GateRequest], own: str) -> dict[str, list[PublishedVersion]]:
        """Return, by gate, the versions that the job's model is compared with, without ``own``, its
        own version."""
        ...

    def fetch(self, version: PublishedVersion) -> Path:
        """Return a folder with the files of ``version``. They must not be changed."""
        ...
