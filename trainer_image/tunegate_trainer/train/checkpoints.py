"""Save and find checkpoints on the storage volume. A checkpoint without a DONE marker is incomplete and
ignored."""

import json
import logging
import shutil
from fnmatch import fnmatch
from pathlib import Path

from tunegate_trainer.process.epoch import Writer
from tunegate_trainer.process.files import is_complete, refuse_unreadable, remove, seal, verify

logger = logging.getLogger(__name__)

_WEIGHTS = (
    "adapter_model.safetensors",
    "adapter_config.json",
    "model*.safetensors",
    "model.safetensors.index.json",
    "config.json",
)
_STATE = ("optimizer.pt", "scheduler.pt", "rng_state*.pth", "trainer_state.json")
"""Files that the transformers Trainer saves and that a checkpoint keeps: ``_WEIGHTS`` are needed for
evaluation and publishing, ``_STATE`` is needed for resuming."""
KEPT_STATES = 2
"""Number of newest checkpoints whose state for resuming is kept. Two are kept, in case the newest one is
damaged."""


class CheckpointFolder:
    """The checkpoints of one stage, written by one writer.

    ``step-N`` has the weights, ``state-N`` the optimizer and other state for resuming. If all weights are
    trained, the state is twice as large as the weights, so only the newest ``KEPT_STATES`` are kept.
    """

    def __init__(self, folder: Path, writer: Writer) -> None:
        self._folder = folder
        self._writer = writer
        self.scratch = folder / f"scratch-{writer.epoch:06d}"
        """The folder in which this process prepares checkpoints."""
        self._damaged: set[int] = set()

    @property
    def writes(self) -> bool:
        """Whether this process writes checkpoints, as the primary rank does."""
        return self._writer.writes

    def path(self, step: int) -> Path:
        return self._folder / f"step-{step:06d}"

    def state(self, step: int) -> Path:
        return self._folder / f"state-{step:06d}"

    def clean(self) -> None:
        """Remove the incomplete checkpoints that earlier processes left. Raises :class:`Superseded` if this
        process is no longer the writer."""
        self._writer.check()  # never remove files of a later writer
        if not self.writes:
            return
        for pattern in ("scratch-*", "step-*", "state-*"):
            for path in self._folder.glob(pattern):
                if path != self.scratch and (pattern == "scratch-*" or not is_complete(path)):
                    logger.info("removing %s, which was never completed", path.name)
                    shutil.rmtree(path, ignore_errors=True)

    def complete_steps(self) -> list[int]:
        """Return the sorted steps of the complete checkpoints.

        Checkpoints that were found damaged are left out until training has saved them again.
        """
        steps = [
            int(path.name.removeprefix("step-")) for path in self._folder.glob("step-*") if is_complete(path)
        ]
        return sorted(set(steps) - self._damaged)

    def newest(self) -> int | None:
        """Return the step of the newest undamaged checkpoint, or None without one. Damaged checkpoints are
        logged.

        Raises :class:`StorageError` if a file cannot be read: the checkpoint may be undamaged and must not be
        removed.
        """
        for step in reversed(self.complete_steps()):
            problems = [*verify(self.path(step)), *verify(self.state(step))]
            if not problems:
                return step
            refuse_unreadable(f"checkpoint {self.path(step).name}", problems)
            self._damaged.add(step)
            logger.warning(
                "not resuming from damaged checkpoint %s: %s", self.path(step).name, "; ".join(problems)
            )
        return None

    def publish(self, saved: Path, step: int) -> None:
        """Turn the folder ``saved``, which the Trainer wrote, into the checkpoint of ``step``.

        Unneeded files are removed. All other files are hashed and moved to their final folders.

        Raises :class:`Superseded` if this process is no longer the writer.
        """
        if not self.writes:
            return
        state = saved.with_name(f"{saved.name}-state")
        state.mkdir()
        for path in list(saved.iterdir()):
            if _matches(path, _STATE):
                path.rename(state / path.name)
            elif not _matches(path, _WEIGHTS):
                shutil.rmtree(path) if path.is_dir() else path.unlink()
        sort_adapter_config(saved)
        self._writer.check()
        seal(state)
        seal(saved)
        self._writer.check()
        for made, target in (
            (state, self.state(step)),
            (saved, self.path(step)),
        ):  # the weights last: they make the checkpoint complete
            remove(target)
            made.rename(target)
        self._damaged.discard(step)

    def drop(self, steps: list[int]) -> None:
        """Remove the weights of these steps, and all states except those of the ``KEPT_STATES`` newest
        checkpoints."""
        self._writer.check()
        if not self.writes:
            return
        for step in steps:
            remove(self.path(step))
        kept = {self.state(step) for step in self.complete_steps()[-KEPT_STATES:]}
        for path in self._folder.glob("state-*"):
            if path not in kept:
                remove(path)

    def close(self) -> None:
        """Remove the scratch folder."""
        if self.writes:
            shutil.rmtree(self.scratch, ignore_errors=True)


def _matches(path: Path, patterns: tuple[str, ...]) -> bool:
    return any(fnmatch(path.name, pattern) for pattern in patterns)


def sort_adapter_config(folder: Path) -> None:
    """Sort the keys and lists of adapter_config.json, if there is one, so that equal runs write equal files.

    PEFT writes lists in the random order of a set.
    """
    path = folder / "adapter_config.json"
    if not path.exists():
        return
    config = json.loads(path.read_text())
    for key, value in config.items():
        if isinstance(value, list) and all(isinstance(item, str) for item in value):
            config[key] = sorted(value)
    path.write_text(json.dumps(config, indent=2, sort_keys=True) + "\n")
