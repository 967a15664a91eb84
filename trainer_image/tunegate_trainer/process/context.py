"""What every role knows: its request and plan, its folders, and how to report."""

import os
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from functools import cached_property
from pathlib import Path
from typing import Protocol

from tunegate_api.baselines import BASELINES_VARIABLE, MeasuredBaseline, read_baselines
from tunegate_api.contract import DEFAULT_ROOT, ROOT_VARIABLE, Report, Request, Role
from tunegate_api.plan import Plan
from tunegate_api.workspace import Workspace
from tunegate_trainer.process.credentials import Secret, read_secret
from tunegate_trainer.process.files import sha256_file, write_model
from tunegate_trainer.process.interruption import Interruption
from tunegate_trainer.process.report_sender import Courier, ReportAddress


@dataclass(frozen=True)
class Options:
    """What the operator asks of a role on the command line. None where the role does not take it."""

    stage: str | None = None
    """train: the stage; gate: the stage of the checkpoint to judge."""
    step: int | None = None
    """gate: the checkpoint to judge."""
    start_step: int | None = None
    """train: the checkpoint of the stage before to start from."""
    accepted_step: int | None = None
    """train: the checkpoint at which a person said to continue."""
    digest: str | None = None
    """publish, cleanup: the artifact that passed."""
    trackers: tuple[str, ...] | None = None
    """track: which ones; None: all."""
    failure: str | None = None
    """track: why the job failed, if it did."""


class Trackers(Protocol):
    """What sends a job's metrics to its experiment trackers while a role runs."""

    def wait(self) -> list[str]:
        """Wait until all of them ended by themselves. Returns the trackers that are behind."""

    def finish(self) -> None:
        """Ask each for its last try, and return at once."""

    def close(self) -> list[str]:
        """Wait a bounded time for the last try of each. Returns the trackers that are behind."""

    def abandon(self) -> None:
        """End what still runs, without a last try."""


@dataclass
class Context:
    """One process of one role. Paths are below ``root``, see :mod:`tunegate_api.contract`."""

    role: Role
    attempt: int = 1
    options: Options = field(default_factory=Options)
    interruption: Interruption = field(default_factory=Interruption)
    root: Path = field(default_factory=lambda: Path(os.environ.get(ROOT_VARIABLE, DEFAULT_ROOT)))
    baselines: Mapping[str, frozenset[str]] = field(
        default_factory=lambda: read_baselines(os.environ.get(BASELINES_VARIABLE, ""))
    )
    """The recorded digests of cached baselines, by key."""
    measured_baselines: dict[str, MeasuredBaseline] = field(default_factory=dict)
    """Those that this process wrote or used, by key, for its termination message."""
    speaks: bool = True
    """Whether it reports: of the processes that train together, only the first one does."""
    courier: Courier | None = None
    """Brings reports to the operator; None where files are all of the reporting."""
    trackers: Trackers | None = None
    """Tell the job's experiment trackers; None where it has none."""

    @cached_property
    def request(self) -> Request:
        return Request.model_validate_json((self.root / "request" / "request.json").read_bytes())

    @cached_property
    def plan(self) -> Plan:
        return Plan.model_validate_json((self.root / "plan" / "plan.json").read_bytes())

    @property
    def stage(self) -> str | None:
        """The stage that this process trains and reports: only training is reported a stage at a time."""
        return self.options.stage if self.role is Role.TRAIN else None

    @property
    def workspace(self) -> Path:
        """The storage volume."""
        return self.root / "workspace"

    def secret(self, name: str) -> Secret:
        """The Secret that the spec names, where this role is one that needs it.

        Raises :class:`CredentialsError` if it cannot be read, or later for a key that it does not have.
        """
        return read_secret(self.root / "secrets" / name)

    @cached_property
    def paths(self) -> Workspace:
        """This job's folders, relative to ``workspace``."""
        return Workspace(self.request.uid)

    @cached_property
    def report(self) -> Report:
        """The last report of this role and stage, or an empty first one. Changed only by :meth:`tell`."""
        empty = Report(
            job_uid=self.request.uid,
            role=self.role,
            stage=self.stage,
            attempt=self.attempt,
            sequence=0,
            time=datetime.now(UTC),
        )
        try:
            last = Report.model_validate_json(
                (self.workspace / self.paths.outbox / empty.file_name).read_bytes()
            )
        except FileNotFoundError:
            return empty
        return last.model_copy(update={"attempt": self.attempt, "outcome": None, "failure": None})

    def open_courier(self) -> None:
        """Send reports to the operator from now on, if it has an address; also what earlier pods left."""
        address = ReportAddress.from_environment(self.root)
        if address and self.speaks:
            self.courier = Courier(address, self.workspace / self.paths.outbox)

    def tell(self, **changes: object) -> None:
        """Report to the operator: what changed, on top of all that was reported before."""
        if not self.speaks:
            return
        report = self.report.model_copy(
            update={**changes, "sequence": self.report.sequence + 1, "time": datetime.now(UTC)}
        )
        self.__dict__["report"] = report
        write_model(self.report_file, report)
        if self.courier:
            self.courier.notify(urgent=not changes.keys() <= {"progress", "usage"})

    @property
    def report_file(self) -> Path:
        return self.workspace / self.paths.outbox / self.report.file_name

    @property
    def report_sha256(self) -> str | None:
        return sha256_file(self.report_file) if self.report_file.exists() else None
