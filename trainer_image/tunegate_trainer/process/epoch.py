"""Let only one process write to a folder. Each writer claims the next epoch by creating a file; the process
with the highest epoch is the writer."""

import logging
import os
from pathlib import Path

from tunegate_trainer.process.interruption import Superseded

logger = logging.getLogger(__name__)


class Writer:
    """This process's claim to write to the folder of a stage, of the gate or of publishing."""

    def __init__(self, folder: Path, epoch: int, *, writes: bool = True) -> None:
        self._folder = folder
        self.epoch = epoch
        self.writes = writes
        """True on the primary rank, False on the other ranks."""

    @classmethod
    def claim(cls, folder: Path) -> "Writer":
        """Become the writer of ``folder``. From now on, :meth:`check` raises an error in earlier writers."""
        folder.mkdir(parents=True, exist_ok=True)
        epoch = _highest(folder) + 1
        while True:
            try:
                os.close(os.open(folder / f"epoch-{epoch:06d}", os.O_CREAT | os.O_EXCL | os.O_WRONLY, 0o644))
            except FileExistsError:
                epoch += 1
            else:
                return cls(folder, epoch)

    def check(self) -> None:
        """Raise :class:`Superseded` if another process has claimed the folder after this one."""
        highest = _highest(self._folder)
        if highest > self.epoch:
            logger.warning("another pod took over (its epoch is %d, ours %d)", highest, self.epoch)
            raise Superseded


def _highest(folder: Path) -> int:
    return max((int(path.name.removeprefix("epoch-")) for path in folder.glob("epoch-*")), default=0)
