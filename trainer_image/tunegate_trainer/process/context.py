"""The context of a role: its request and plan, its folders, and its reports."""

import logging
import os
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime
from functools import cached_property
from pathlib import Path
from typing import Protocol

from tunegate_api.contract.baselines import BASELINES_VARIABLE, MeasuredBaseline, read_baselines
from tunegate_api.contract.plan import JudgePlan, Plan
from tunegate_api.contract.process import DEFAULT_ROOT, ROOT_VARIABLE, Role
from tunegate_api.contract.report import Report
from tunegate_api.contract.request import GateRequest, Request
from tunegate_api.contract.workspace import Workspace
from tunegate_api.judging.approval import DECISION_VARIABLE, read_decision
from tunegate_api.judging.review import ReviewRecord
from tunegate_api.v1alpha2.evaluation_status import PersonDecision
from tunegate_trainer.process.credentials import Secret, read_secret
from tunegate_trainer.process.errors import TrainerError
from tunegate_trainer.process.files import sha256_file, write_model
from tunegate_trainer.process.interruption import Interruption
from tunegate_trainer.process.report_sender import ReportAddress, ReportSender
from tunegate_trainer.process.services import Services

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class Options:
    """The command line options of a role. An option that was not given is None."""

    stage: str | None = None
    """For the train role, the stage to train. For the gate role, the stage of the checkpoint to evaluate."""
    step: int | None = None
    """For the gate role, the step of the checkpoint to evaluate."""
    start_step: int | None = None
    """For the train role, the step of the previous stage's checkpoint to start from. Not needed by the first
    stage."""
    accepted_step: int | None = None
    """For the train role, the step of the checkpoint at which a person decided to continue after a stop."""
    digest: str | None = None
    """For the publish and cleanup roles, the digest of the artifact that passed."""
    trackers: tuple[str, ...] | None = None
    """For the track role, the trackers to send to. None means all trackers of the job."""
    failure: str | None = None
    """For the track role, the reason why the job failed. None if it did not fail."""
    deleted_job: str | None = None
    """For the cleanup role, the uid of a job that was deleted. None if the job only ended."""


class Trackers(Protocol):
    """Sends a job's metrics to its experiment trackers while a role runs."""

    def wait(self) -> list[str]:
        """Wait until all senders have ended. Return the trackers that do not have all metrics."""

    def finish(self) -> None:
        """Tell each sender to make its last attempt. Does not wait; :meth:`close` waits for these
        attempts."""

    def close(self) -> list[str]:
        """Wait for the last attempts, with a timeout. Return the trackers that do not have all metrics."""

    def abandon(self) -> None:
        """Kill all senders at once. They make no last attempt to send metrics."""


@dataclass
class Context:
    """The context of one process of a role. Paths are below ``root``, see :mod:`tunegate_api.contract`."""

    role: Role
    attempt: int = 1
    options: Options = field(default_factory=Options)
    interruption: Interruption = field(default_factory=Interruption)
    root: Path = field(default_factory=lambda: Path(os.environ.get(ROOT_VARIABLE, DEFAULT_ROOT)))
    baselines: Mapping[str, frozenset[str]] = field(
        default_factory=lambda: read_baselines(os.environ.get(BASELINES_VARIABLE, ""))
    )
    """The digests that the operator has recorded for cached baselines, by the key of the baseline."""
    decision: PersonDecision | None = field(
        default_factory=lambda: read_decision(os.environ.get(DECISION_VARIABLE))
    )
    """The decision of a person about the final verdict. Only the roles publish and track have one. None if no
    decision was needed."""
    measured_baselines: dict[str, MeasuredBaseline] = field(default_factory=dict)
    """The cached baselines that this process wrote or used, by key. They go into the termination message."""
    services: Services = field(default_factory=Services)
    """The guardrails and judges of gates, which are probed once, and which servers were down."""
    dry_run_faults: dict[str, str] = field(default_factory=dict)
    """The first fault of each gate in a dry run, by the name of the gate, see :meth:`tolerating`."""
    is_primary: bool = True
    """Whether this process sends reports: in a distributed run only the primary rank does."""
    report_sender: ReportSender | None = None
    """Sends reports to the operator. None if reports are only written to files, as on a laptop."""
    trackers: Trackers | None = None
    """Sends metrics to the job's experiment trackers. None if the job has no trackers."""

    @cached_property
    def request(self) -> Request:
        return Request.model_validate_json((self.root / "request" / "request.json").read_bytes())

    @contextmanager
    def tolerating(self, gate: GateRequest) -> Iterator[None]:
        """Leave this block on a :class:`TrainerError`, with a warning, if ``gate`` is in a dry run. Otherwise
        raise the error."""
        try:
            yield
        except TrainerError as error:
            if not gate.spec.dry_run:
                raise
            warning = f"EvalGate {gate.name} is in a dry run, so the job continues: {error}"
            logger.warning("%s", warning)
            self.dry_run_faults.setdefault(gate.name, warning)

    @cached_property
    def plan(self) -> Plan:
        return Plan.model_validate_json((self.root / "plan" / "plan.json").read_bytes())

    @cached_property
    def gate_judges(self) -> Mapping[str, JudgePlan]:
        """The calibrations of the judges of gates, by the name of the gate. They are in the plan; a process
        without a plan sets them."""
        return self.plan.gate_judges

    @cached_property
    def review(self) -> ReviewRecord | None:
        """The scores with which the review of the data was decided. None in the data role, for a job without
        ``data.quality``, and if the ConfigMap with the scores was deleted."""
        try:
            text = (self.root / "review" / "review.json").read_bytes()
        except FileNotFoundError:
            return None
        return ReviewRecord.model_validate_json(text)

    @property
    def stage(self) -> str | None:
        """The stage that this process trains. None for all other roles: their reports have no stage."""
        return self.options.stage if self.role is Role.TRAIN else None

    @property
    def workspace(self) -> Path:
        """The storage volume."""
        return self.root / "workspace"

    def secret(self, name: str) -> Secret:
        """Return the Secret of this name, which must be mounted for this role.

        Raises :class:`CredentialsError` if the Secret cannot be read. The returned Secret raises the same
        error when a missing key is read.
        """
        return read_secret(self.root / "secrets" / name)

    @cached_property
    def paths(self) -> Workspace:
        """This job's folders, relative to ``workspace``."""
        return Workspace(self.request.uid)

    @cached_property
    def report(self) -> Report:
        """The last report of this role and stage, or an empty one. Changed only by :meth:`send_report`."""
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

    def start_report_sender(self) -> None:
        """Start sending reports to the operator, including unsent reports of the job's earlier pods.

        Does nothing if the environment has no address for reports, or if this is not the primary rank.
        """
        address = ReportAddress.from_environment(self.root)
        if address and self.is_primary:
            self.report_sender = ReportSender(address, self.workspace / self.paths.outbox)

    def send_report(self, **changes: object) -> None:
        """Write the last report with these ``changes`` to the outbox, and send it to the operator.

        Only the primary rank does this.
        """
        if not self.is_primary:
            return
        report = self.report.model_copy(
            update={**changes, "sequence": self.report.sequence + 1, "time": datetime.now(UTC)}
        )
        self.report = report
        write_model(self.report_file, report)
        if self.report_sender:
            self.report_sender.notify(urgent=not changes.keys() <= {"progress", "usage"})

    @property
    def report_file(self) -> Path:
        return self.workspace / self.paths.outbox / self.report.file_name

    @property
    def report_sha256(self) -> str | None:
        return sha256_file(self.report_file) if self.report_file.exists() else None
