"""Read the Secrets that are mounted into this pod. Their values never appear in logs, reports or errors."""

import os
from collections.abc import Mapping
from pathlib import Path

from tunegate_trainer.process.errors import CredentialsError


class Secret(dict[str, str]):
    """The keys and values of a Secret. Reading a missing key raises :class:`CredentialsError`; use ``in`` or
    ``get`` for optional keys."""

    def __init__(self, name: str, values: Mapping[str, str]) -> None:
        super().__init__(values)
        self.name = name

    def __missing__(self, key: str) -> str:
        raise CredentialsError(
            f"Secret {self.name} has no key {key}", f"the Secret has: {', '.join(sorted(self)) or 'no keys'}"
        )

    def __repr__(self) -> str:
        return f"Secret({self.name!r})"


class Environment(Secret):
    """The environment variables in place of a Secret, used on a laptop if no manifest has that Secret."""

    def __missing__(self, key: str) -> str:
        raise CredentialsError(
            f"there is no Secret {self.name}, and the environment variable {key} is not set",
            f"add a Secret {self.name} with the key {key} to the manifests, or set {key}",
        )


def read_secret(folder: Path) -> Secret:
    """Return the Secret that is mounted at ``folder``, or the environment variables if none is mounted.

    Line breaks at the end of a value are removed. Editors and shells add them, but they are never part of a
    credential.
    """
    try:
        values = {
            path.name: path.read_text(encoding="utf-8", errors="replace").rstrip("\r\n")
            for path in folder.glob("*")
            if not path.name.startswith("..")  # kubelet's own links and folders
        }
    except PermissionError as error:
        raise CredentialsError(
            f"Secret {folder.name} cannot be read: permission denied",
            f"the trainer runs as user {os.getuid()}: give this user read permission for the mounted files",
        ) from error
    return Secret(folder.name, values) if values else Environment(folder.name, os.environ)
