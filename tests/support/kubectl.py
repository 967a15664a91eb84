"""Run the real kubectl, of the version of the API server in the tests."""

import os
import shlex
import subprocess
from pathlib import Path

from support.api_server import BUILD

SECONDS = 60
"""Timeout of a command."""


def kubectl_program() -> Path:
    """Return the path of kubectl, which is built at its first use."""
    built = subprocess.run([BUILD, "kubectl"], check=True, stdout=subprocess.PIPE, text=True)
    return Path(built.stdout.strip()) / "kubectl"


class Kubectl:
    """kubectl with a kubeconfig, in one namespace. Creates a script in ``folder`` that is called kubectl."""

    def __init__(self, folder: Path, kubeconfig: Path, namespace: str) -> None:
        command = [str(kubectl_program()), f"--kubeconfig={kubeconfig}", f"--namespace={namespace}"]
        self._script = folder / "kubectl"
        self._script.write_text(f'#!/bin/sh\nexec {shlex.join(command)} "$@"\n')
        self._script.chmod(0o755)

    def __call__(self, *arguments: str) -> subprocess.CompletedProcess[str]:
        return self._run([str(self._script), *arguments])

    def shell(self, script: str) -> subprocess.CompletedProcess[str]:
        """Run a bash script that calls kubectl."""
        return self._run(["bash", "-c", script])

    def _run(self, command: list[str]) -> subprocess.CompletedProcess[str]:
        path = f"{self._script.parent}{os.pathsep}{os.environ['PATH']}"
        return subprocess.run(
            command,
            env=os.environ | {"PATH": path},
            capture_output=True,
            text=True,
            check=False,
            timeout=SECONDS,
        )
