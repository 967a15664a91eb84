"""The rank and world size of this process, read from the environment without importing PyTorch."""

import os
from dataclasses import dataclass
from pathlib import Path

from tunegate_api.contract.process import MASTER_VARIABLE, NODE_VARIABLE
from tunegate_api.v1alpha2.pods import Resources

LOCAL_RANK_VARIABLE = "TUNEGATE_LOCAL_RANK"
"""Name of the environment variable with the rank of this process within its pod. The launcher sets it."""
TERMINATION_VARIABLE = "TUNEGATE_TERMINATION"
"""Name of the environment variable with the path of the file to which a launched process writes its
termination message. The launcher reads this file."""


@dataclass(frozen=True)
class Topology:
    """The position of this process among the ``nodes`` x ``local_size`` ranks of a run."""

    node: int
    nodes: int
    local_rank: int
    local_size: int
    master: str
    """HOST:PORT at which the primary rank listens."""

    @classmethod
    def of(cls, resources: Resources) -> "Topology":
        """Return the position of this process in a run with these ``resources``."""
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
    def world_size(self) -> int:
        return self.nodes * self.local_size


def is_primary() -> bool:
    """Return whether this process is the primary rank, which writes checkpoints and sends reports."""
    return all(os.environ.get(name, "0") == "0" for name in (NODE_VARIABLE, LOCAL_RANK_VARIABLE))


def is_launched() -> bool:
    """Return whether the launcher of this pod started this process as one of several ranks."""
    return LOCAL_RANK_VARIABLE in os.environ


def termination_file(root: Path) -> Path:
    """Return the file to which this process writes its termination message."""
    return Path(os.environ.get(TERMINATION_VARIABLE, root / "termination.json"))
