"""The trainer's command: run one role of one job.

At the end, the process sends a last report, renders the HTML report, and writes the termination message. The
roles report, track and cleanup only write the termination message.
"""

import argparse
import gc
import logging
import os
import sys
import tempfile
import traceback
import warnings
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from importlib import import_module
from types import ModuleType
from typing import NoReturn

from pydantic import ValidationError

from tunegate_api.contract.baselines import MeasuredBaseline
from tunegate_api.contract.process import ExitCode, Outcome, Role, Termination
from tunegate_api.v1alpha2.finetunejob_status import Failure
from tunegate_api.v1alpha2.reasons import Reason
from tunegate_trainer.distributed import topology
from tunegate_trainer.distributed.launcher import launch
from tunegate_trainer.process.context import Context, Options
from tunegate_trainer.process.errors import PeerLostError, TrainerError, known_error
from tunegate_trainer.process.interruption import Interrupted, Interruption, Superseded
from tunegate_trainer.process.local_addresses import refuse_local_addresses
from tunegate_trainer.process.packages import hide
from tunegate_trainer.tracking.process import start_trackers

logger = logging.getLogger(__name__)

_UNUSED = ("scipy", "sklearn", "wandb")
"""Packages that libraries import if they are installed, but that roles need rarely or never. Trackers, which
need wandb, run in separate processes; the check ``distribution_shift`` shows scipy and sklearn again."""
_TERMINATION_BYTES = 4096
"""The maximum size of a termination message in bytes. Kubernetes cuts longer messages."""


@dataclass(frozen=True)
class End:
    """How a role ended."""

    outcome: Outcome
    exit_code: ExitCode
    failure: Failure | None = None
    silent: bool = False
    """True if another pod took over and writes this job's reports."""


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one role. Return the exit code, see :class:`tunegate_api.contract.process.ExitCode`."""
    parsed = _parser().parse_args(arguments)
    logging.basicConfig(
        level=logging.INFO if topology.is_primary() or not topology.is_launched() else logging.WARNING,
        format="%(asctime)s %(levelname)s %(message)s",
        datefmt="%H:%M:%S",
        stream=sys.stderr,
    )
    refuse_local_addresses()
    context = Context(
        role=Role(parsed.role),
        attempt=parsed.attempt,
        options=Options(
            stage=parsed.stage,
            step=parsed.step,
            start_step=parsed.start_step,
            accepted_step=parsed.accepted_step,
            digest=parsed.digest,
            trackers=tuple(parsed.trackers.split(",")) if parsed.trackers else None,
            failure=parsed.failure,
            deleted_job=parsed.deleted_job,
        ),
        is_primary=topology.is_primary(),
    )
    processes = 1 if topology.is_launched() else _processes(context)
    if processes > 1:
        return launch(sys.argv[1:] if arguments is None else arguments, processes, context.root)
    interruption = context.interruption
    interruption.install()

    def work() -> Outcome:
        context.start_report_sender()
        _set_up_libraries(context.role)
        if arguments is None and not context.role.is_chore:  # called as a command, not from a test
            _hide_unused(context)
        if context.role.sends_metrics:
            context.trackers = start_trackers(context)
        try:
            # Imported only now: a role loads only what it needs, and after the environment is set up.
            outcome: Outcome = _load(f"roles.{context.role}", interruption).run(context)
        except (PeerLostError, ImportError) as error:
            # SIGTERM also ended the other ranks, or interrupted an import.
            if interruption.requested:
                raise Interrupted from error
            raise
        interruption.ignore()  # the rest is short and must always run
        return outcome

    end = end_of(work)
    gc.unfreeze()  # some libraries report objects that are still frozen at exit as leaks
    interruption.ignore()
    report_sha256 = _report_end(context, end)
    _write_termination(context, end, report_sha256)  # already now, because the process may be killed below
    behind = _send_rest(context, end)
    if behind is not None:
        _write_termination(context, end, report_sha256, behind)
    return int(end.exit_code)


def _processes(context: Context) -> int:
    """Return how many ranks this pod runs: 1 for all roles except train. Also 1 if the request cannot be
    read; the role then reports this error."""
    if context.role is not Role.TRAIN:
        return 1
    try:
        return context.request.spec.resources.processes_per_node
    except (OSError, ValidationError):
        return 1


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="tunegate_trainer", description=__doc__)
    parser.add_argument("role", choices=[str(role) for role in Role], help="what to do")
    parser.add_argument("--attempt", type=int, default=1, help="number of this attempt, from 1")
    parser.add_argument("--stage", help="train: the stage; gate: the stage of the checkpoint to evaluate")
    parser.add_argument("--step", type=int, help="gate: the step of the checkpoint to evaluate")
    parser.add_argument(
        "--start-step", type=int, help="train: the step of the previous stage's checkpoint to start from"
    )
    parser.add_argument(
        "--accepted-step", type=int, help="train: the step at which a person decided to continue"
    )
    parser.add_argument("--digest", help="publish, cleanup: the digest of the artifact that passed")
    parser.add_argument("--deleted-job", help="cleanup: the uid of a deleted job, of which no file is kept")
    parser.add_argument("--trackers", help="track: the trackers, separated by commas; default: all")
    parser.add_argument("--failure", help="track: why the job failed, if it did")
    return parser


def _load(name: str, interruption: Interruption) -> ModuleType:
    """Import a module of the trainer with its dependencies.

    SIGTERM is handled after the import, because libraries turn an exception during an import into errors of
    their own. Garbage collection is off during the import and skips the imported objects afterwards. None of
    these 600,000 objects is garbage, and scanning them repeatedly would take a sixth of a role's start.
    """
    gc.disable()
    try:
        with interruption.deferred():
            module = import_module(f"tunegate_trainer.{name}")
    finally:
        gc.freeze()
        gc.enable()
    interruption.check()
    return module


def _set_up_libraries(role: Role) -> None:
    """Set the environment variables that PyTorch and the hub's client read when they are imported."""
    if role is not Role.DATA:  # the data role downloads everything that the others need
        os.environ["HF_HUB_OFFLINE"] = "1"
    os.environ["HF_HUB_DISABLE_TELEMETRY"] = "1"
    # Libraries write caches to the home folder, and a pod's user may have none that is writable.
    if not os.access(os.path.expanduser("~"), os.W_OK):
        os.environ["HOME"] = tempfile.gettempdir()
    # PyTorch's threads wait for each other by spinning, by default for milliseconds. If other processes use
    # the cores too, that doubles a step's time: with two busy processes on two cores, 12.0 s instead of 6.5.
    os.environ.setdefault("GOMP_SPINCOUNT", "10000")
    # One process uses one GPU. If several are visible, as on a workstation, the Trainer would use all of
    # them.
    if not topology.is_launched():
        os.environ.setdefault("CUDA_VISIBLE_DEVICES", "0")
    # Passes differ in length, which fragments GPU memory. Expandable segments reduce this. If a driver does
    # not support them (some virtual GPUs), set PYTORCH_ALLOC_CONF in podTemplate.env.
    if role is Role.TRAIN and not {"PYTORCH_ALLOC_CONF", "PYTORCH_CUDA_ALLOC_CONF"} & os.environ.keys():
        os.environ["PYTORCH_ALLOC_CONF"] = "expandable_segments:True"
    # Warnings that a user cannot act on: a kernel that bitsandbytes lacks, and an old name that peft 0.21
    # uses.
    logging.getLogger("bitsandbytes").setLevel(logging.ERROR)
    # It logs every URL, also signed ones, which give read access to anybody.
    logging.getLogger("httpx2").setLevel(logging.WARNING)
    warnings.filterwarnings("ignore", "`is_gradient_checkpointing` is deprecated", FutureWarning)


def _hide_unused(context: Context) -> None:
    """Hide packages that libraries import if they are installed, but that this job does not need."""
    hide(*_UNUSED if _is_quantized(context) else (*_UNUSED, "bitsandbytes"))


def _is_quantized(context: Context) -> bool:
    """Return whether a stage of this job, or of the job that it starts from, has a 4-bit base model."""
    request = context.request
    found = [stage.quantization for stage in request.spec.stages]
    if request.start_from:
        found.append(request.start_from.trained.quantization)
    if context.role is not Role.DATA:  # the data role writes the plan, so it has none yet
        found += [stage.parameters.quantization for stage in context.plan.stages]
    return any(found)


def exit_at_once(code: int) -> NoReturn:
    """Exit at once, without unloading the libraries. Call it when everything is written.

    Unloading would take a second or more, and after distributed training a connection thread would abort the
    process.
    """
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(code)


def end_of(work: Callable[[], Outcome]) -> End:
    """Do the work and return how it ended. Errors are logged to stderr."""
    try:
        return End(work(), ExitCode.OK)
    except Superseded:
        return End(Outcome.INTERRUPTED, ExitCode.INTERRUPTED, silent=True)
    except Interrupted:
        logger.info("interrupted: the next attempt resumes from the last checkpoint")
        return End(Outcome.INTERRUPTED, ExitCode.INTERRUPTED)
    except Exception as error:  # noqa: BLE001 - the last handler of the process
        known = known_error(error)
        if known is not None:
            return _failed(known)
        traceback.print_exc()
        failure = Failure(reason=Reason.INTERNAL_ERROR, message=f"{type(error).__name__}: {error}")
        return End(Outcome.FAILED, ExitCode.INTERNAL_ERROR, failure)


def _failed(error: TrainerError) -> End:
    logger.error("%s", error)
    if error.hint:
        logger.error("hint: %s", error.hint)
    return End(Outcome.FAILED, error.exit_code, error.failure)


def _report_end(context: Context, end: End) -> str | None:
    """Send the last report and render the HTML report. If one of them fails, the other is still done.

    Return the digest of the last report, or None if no last report was written.
    """
    report_sha256 = None
    if context.is_primary and not end.silent and not context.role.is_chore:
        try:
            context.send_report(outcome=end.outcome, failure=end.failure)
            report_sha256 = context.report_sha256
        except Exception as error:  # noqa: BLE001 - the termination message still says how it ended
            logger.warning("the last report could not be written: %s", error)
        try:
            render = import_module("tunegate_trainer.report").render
            render(context.workspace, context.request, context.review, context.decision)
        except Exception:
            # The HTML report is for people only, so the outcome stays the same.
            logger.warning("report.html could not be rendered", exc_info=True)
    return report_sha256


def _write_termination(
    context: Context, end: End, report_sha256: str | None, trackers_behind: list[str] | None = None
) -> None:
    """Write the termination message. If that fails, only log a warning."""
    try:
        # In place: in a pod the file is a mount in a read-only folder, so no file can be renamed to it.
        topology.termination_file(context.root).write_text(
            termination_text(end, report_sha256, trackers_behind, [*context.measured_baselines.values()]),
            encoding="utf-8",
        )
    except OSError as error:
        logger.warning("termination.json could not be written: %s", error)


def _send_rest(context: Context, end: End) -> list[str] | None:
    """Send the remaining reports and metrics at the same time, and wait for both with a timeout.

    Return the trackers that do not have all metrics. Return None if the job has no trackers, or if another
    pod took over.
    """
    trackers = context.trackers
    if trackers and not end.silent:
        trackers.finish()
    if context.report_sender:
        context.report_sender.close()
    if trackers is None:
        return None
    if end.silent:
        trackers.abandon()
        return None
    return trackers.close()


def termination_text(
    end: End,
    report_sha256: str | None,
    trackers_behind: list[str] | None = None,
    baselines: Sequence[MeasuredBaseline] = (),
) -> str:
    """Return the termination message, short enough for Kubernetes to keep all of it.

    If it is too long, message and hint of the failure are shortened first, and then the oldest ``baselines``
    are left out.
    """
    failure = end.failure
    for length, kept in [(1024, len(baselines)), *((256, n) for n in range(len(baselines), -1, -1))]:
        if failure is not None:
            failure = failure.model_copy(
                update={"message": failure.message[:length], "hint": failure.hint[:length]}
            )
        text = Termination(
            exit_code=end.exit_code,
            outcome=end.outcome,
            failure=failure,
            report_sha256=report_sha256,
            trackers_behind=trackers_behind,
            baselines=list(baselines[len(baselines) - kept :]),
        ).model_dump_json(by_alias=True, exclude_none=True)
        if len(text.encode()) <= _TERMINATION_BYTES:
            break
    return text
