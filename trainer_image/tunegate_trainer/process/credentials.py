"""The Secrets that were mounted into this pod, and nowhere else: never in logs, reports or errors."""

import os
from collections.abc import Mapping
from pathlib import Path

from tunegate_trainer.process.errors import CredentialsError


class Secret(dict[str, str]):
    """The keys and values of a Secret. Reading a key that it does not have raises :class:`CredentialsError`;
    ``in`` and ``get`` ask whether it has one."""

    def __init__(self, name: str, values: Mapping[str, str]) -> None:
        super().__init__(values)
        self.name = name

    def __missing__(self, key: str) -> str:
        raise CredentialsError(
            f"Secret {self.name} has no key {key}", f"it has: {', '.join(sorted(self)) or 'none'}"
        )

    def __repr__(self) -> str:
        return f"Secret({self.name!r})"


class Environment(Secret):
    """The environment in place of a Secret, as on a laptop whose manifests have none of that name."""

    def __missing__(self, key: str) -> str:
        raise CredentialsError(
            f"there is no Secret {self.name}, and the environment variable {key} is not set",
            f"add a Secret {self.name} with the key {key} to the manifests, or set {key}",
        )


def read_secret(folder: Path) -> Secret:
    """The Secret that is mounted at ``folder``, by its name; the environment where nothing is.

    Line breaks at a value's end are no part of it: files and shells add them, and no credential has one.
    """
    try:
        values = {
            path.name: path.read_text(encoding="utf-8", errors="replace").rstrip("\r\n")
            for path in folder.glob("*")
            if not path.name.startswith("..")  # what kubelet keeps beside the keys
        }
    except PermissionError as error:
        raise CredentialsError(
            f"Secret {folder.name} cannot be read: permission denied",
            f"the trainer runs as user {os.getuid()}: let it read the mounted files",
        ) from error
    return Secret(folder.name, values) if values else Environment(folder.name, os.environ)
