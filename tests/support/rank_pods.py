"""The ranks of a distributed training run, each as a process of its own."""

import os
import socket
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

from support.trainer_root import STAGE, TrainerRoot
from support.waiting import eventually
from tunegate_api.contract.process import MASTER_VARIABLE, NODE_VARIABLE, ROOT_VARIABLE, Termination


class Pods:
    """The ranks of one attempt, each with the root of its own pod. They share the workspace."""

    def __init__(
        self,
        root: TrainerRoot,
        *arguments: str,
        stage: str = STAGE,
        only: int = 2,
        before: str = "",
        number: str = NODE_VARIABLE,
    ) -> None:
        """Start the first ``only`` of the two ranks, each after running the code ``before``.

        ``number`` is the environment variable with the number of a rank. By default, it is that of the rank's
        node. With that of the local rank, both ranks are on one node.
        """
        call = ["train", "--stage", stage, *arguments]
        code = f"{before}\nfrom tunegate_trainer.main import exit_at_once, main\nexit_at_once(main({call}))"
        self.roots = [self._pod(root, node) for node in range(only)]
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            self.master = f"127.0.0.1:{free.getsockname()[1]}"
        self.processes = [
            subprocess.Popen(
                [sys.executable, "-m", "tunegate_trainer.code", code],
                env=os.environ | {ROOT_VARIABLE: str(path), number: str(node), MASTER_VARIABLE: self.master},
                stdout=subprocess.PIPE,
                stderr=subprocess.STDOUT,
            )
            for node, path in enumerate(self.roots)
        ]

    def _pod(self, root: TrainerRoot, node: int) -> Path:
        path = root.path.with_name(f"{root.path.name}-node-{node}")
        path.mkdir(exist_ok=True)
        for name in ("request", "plan", "workspace"):
            (path / name).unlink(missing_ok=True)
            (path / name).symlink_to(root.path / name)
        return path

    def wait_until(self, happened: Callable[[], object], what: str) -> None:
        """Wait until something has happened or a rank has ended. On a timeout, kill all ranks."""
        try:
            eventually(lambda: happened() or self.any_has_ended(), seconds=240, what=what)
        except AssertionError:
            for process in self.processes:
                process.kill()
            self.end()
            raise

    def any_has_ended(self) -> bool:
        return any(process.poll() is not None for process in self.processes)

    def end(self) -> list[int]:
        """Wait until all ranks have ended, and return their exit codes."""
        try:
            logs = [process.communicate(timeout=300)[0].decode() for process in self.processes]
        except subprocess.TimeoutExpired:
            for process in self.processes:
                process.kill()
                process.communicate()
            raise
        sys.stdout.write("\n\n".join(logs))  # shown if the test fails
        return [process.returncode for process in self.processes]

    def termination(self, node: int) -> Termination:
        return Termination.model_validate_json((self.roots[node] / "termination.json").read_bytes())
