"""Where this process stands among those that train one model: read from the environment, without PyTorch."""

import os
from dataclasses import dataclass
from pathlib import Path

from tunegate_api.contract import MASTER_VARIABLE, NODE_VARIABLE
from tunegate_api.v1alpha1.pods import Resources

LOCAL_RANK_VARIABLE = "TUNEGATE_LOCAL_RANK"
"""Which of a pod's processes this is. Set by :mod:`tunegate_trainer.distributed.launcher`."""
TERMINATION_VARIABLE = "TUNEGATE_TERMINATION"
"""Where such a process leaves its termination message, for the one that started it."""


@dataclass(frozen=True)
class Place:
    """One of ``nodes`` x ``local_size`` processes."""

    node: int
    nodes: int
    local_rank: int
    local_size: int
    master: str
    """HOST:PORT at which they meet."""

    @classmethod
    def of(cls, resources: Resources) -> "Place":
        """This process's place in a training that asks for ``resources``."""
        return cls(
            node=int(os.environ.get(NODE_VARIABLE, "0")),
            nodes=resources.nodes,
            local_rank=int(os.environ.get(LOCAL_RANK_VARIABLE, "0")),
            local_size=resources.processes_per_node,
            master=os.environ.get(MASTER_VARIABLE, ""),
        )

    @property
    def rank(self) -> int:
        return self.node * self.local_size + self.local_rank

    @property
    def size(self) -> int:
        return self.nodes * self.local_size


def is_first() -> bool:
    """Whether this process decides, writes and reports for all that train with it."""
    return all(os.environ.get(name, "0") == "0" for name in (NODE_VARIABLE, LOCAL_RANK_VARIABLE))


def is_launched() -> bool:
    """Whether another process of this pod started this one to train with it."""
    return LOCAL_RANK_VARIABLE in os.environ


def termination_file(root: Path) -> Path:
    """Where this process says how it ended."""
    return Path(os.environ.get(TERMINATION_VARIABLE, root / "termination.json"))
