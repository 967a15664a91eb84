"""Checkpoints on the workspace: complete and hashed, or absent."""

import json
import logging
import shutil
from fnmatch import fnmatch
from pathlib import Path

from tunegate_trainer.files import is_complete, remove, seal, verify
from tunegate_trainer.train.writer import Writer

logger = logging.getLogger(__name__)

_KEPT = (
    "adapter_model.safetensors",
    "adapter_config.json",
    "model*.safetensors",
    "model.safetensors.index.json",
    "config.json",
    "optimizer.pt",
    "scheduler.pt",
    "rng_state.pth",
    "trainer_state.json",
)
"""What resuming and publishing need of what the Trainer saves."""


class CheckpointFolder:
    """The checkpoints of one stage, written by one writer."""

    def __init__(self, folder: Path, writer: Writer) -> None:
        self._folder = folder
        self._writer = writer
        self.scratch = folder / f"scratch-{writer.epoch:06d}"
        """Where this process saves before a checkpoint is complete."""

    def path(self, step: int) -> Path:
        return self._folder / f"step-{step:06d}"

    def clean(self) -> None:
        """Remove what earlier processes left half done."""
        for path in [*self._folder.glob("scratch-*"), *self._folder.glob("step-*")]:
            if path != self.scratch and not is_complete(path):
                logger.info("removing %s, which was never completed", path.name)
                shutil.rmtree(path, ignore_errors=True)

    def complete_steps(self) -> list[int]:
        """Steps of the complete checkpoints, whether or not their bytes are still sound, in order."""
        return sorted(
            int(path.name.removeprefix("step-")) for path in self._folder.glob("step-*") if is_complete(path)
        )

    def newest(self) -> int | None:
        """The newest checkpoint whose files are as they were written; damaged ones are logged and skipped."""
        for step in reversed(self.complete_steps()):
            problems = verify(self.path(step))
            if not problems:
                return step
            logger.warning(
                "checkpoint %s is damaged and not resumed from: %s", self.path(step).name, "; ".join(problems)
            )
        return None

    def publish(self, saved: Path, step: int) -> None:
        """Make what the Trainer saved in ``saved`` the checkpoint of ``step``: trim, hash, rename.

        Raises :class:`Superseded` if this process is no longer the writer.
        """
        for path in saved.iterdir():
            if not any(fnmatch(path.name, pattern) for pattern in _KEPT):
                shutil.rmtree(path) if path.is_dir() else path.unlink()
        sort_adapter_config(saved)
        self._writer.check()
        seal(saved)
        self._writer.check()
        target = self.path(step)
        remove(target)
        saved.rename(target)

    def drop(self, steps: list[int]) -> None:
        """Remove checkpoints that nothing refers to any more."""
        self._writer.check()
        for step in steps:
            remove(self.path(step))

    def close(self) -> None:
        """Remove the scratch folder."""
        shutil.rmtree(self.scratch, ignore_errors=True)


def sort_adapter_config(folder: Path) -> None:
    """Order the adapter's configuration, if it has one: PEFT writes lists in the order of a set, and equal
    runs should have equal bytes."""
    path = folder / "adapter_config.json"
    if not path.exists():
        return
    config = json.loads(path.read_text())
    for key, value in config.items():
        if isinstance(value, list) and all(isinstance(item, str) for item in value):
            config[key] = sorted(value)
    path.write_text(json.dumps(config, indent=2, sort_keys=True) + "\n")
