"""The trainer's command: one role of one job, plan in, results out, exit code.

Every process ends the same way: a last report, the HTML report, the termination message.
"""

import argparse
import errno
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
from typing import Any, NoReturn

from pydantic import ValidationError

from tunegate_api.baselines import MeasuredBaseline
from tunegate_api.contract import ExitCode, Outcome, Role, Termination
from tunegate_api.v1alpha1.finetunejob_status import Failure, Reason
from tunegate_trainer.distributed import topology
from tunegate_trainer.distributed.launcher import launch
from tunegate_trainer.process.context import Context, Options
from tunegate_trainer.process.errors import (
    CudaOutOfMemoryError,
    PeerLostError,
    StorageError,
    TrainerError,
    is_out_of_memory,
    printable,
)
from tunegate_trainer.process.interruption import Interrupted, Interruption, Superseded
from tunegate_trainer.tracking.process import start_trackers

logger = logging.getLogger(__name__)

_UNUSED = ("scipy", "sklearn", "wandb")
"""Packages that libraries import where they find them, and no role needs; trackers have their own process."""
_TERMINATION_BYTES = 4096
"""What Kubernetes keeps of a termination message."""
_STORAGE_ERRNOS = (errno.ENOSPC, errno.EROFS, errno.EDQUOT)
_STORAGE_WORDS = (*map(os.strerror, _STORAGE_ERRNOS), "PytorchStreamWriter failed", "inline_container.cc")
"""In what PyTorch and safetensors say of a volume that takes nothing more; the last two name no reason."""


@dataclass(frozen=True)
class End:
    """How a role ended."""

    outcome: Outcome
    exit_code: ExitCode
    failure: Failure | None = None
    silent: bool = False
    """Another pod writes this job's reports now."""


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one role. Returns the exit code, see :class:`tunegate_api.contract.ExitCode`."""
    parsed = _parser().parse_args(arguments)
    logging.basicConfig(
        level=logging.INFO if topology.is_first() or not topology.is_launched() else logging.WARNING,
        format="%(asctime)s %(levelname)s %(message)s",
        datefmt="%H:%M:%S",
        stream=sys.stderr,
    )
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
        ),
        speaks=topology.is_first(),
    )
    processes = 1 if topology.is_launched() else _processes(context)
    if processes > 1:
        return launch(sys.argv[1:] if arguments is None else arguments, processes, context.root)
    interruption = context.interruption
    interruption.install()

    def work() -> Outcome:
        context.open_courier()
        _set_up_libraries(context.role)
        if arguments is None and not context.role.is_chore:  # the process is the role's own
            _hide_unused(context)
        if context.role.sends_metrics:
            context.trackers = start_trackers(context)
        try:
            # Imported by role: nothing is loaded that it does not need, and the environment was set before.
            outcome: Outcome = _load(f"roles.{context.role}", interruption).run(context)
        except (PeerLostError, ImportError) as error:
            if interruption.requested:  # as the others were; or something was being imported
                raise Interrupted from error
            raise
        interruption.ignore()  # what follows is short, and belongs to every end
        return outcome

    end = end_of(work)
    gc.unfreeze()  # what is there when a process exits, some libraries call a leak
    interruption.ignore()
    report_sha256 = _report_end(context, end)
    _leave_message(context, end, report_sha256)  # what follows may be cut short
    behind = _close(context, end)
    if behind is not None:
        _leave_message(context, end, report_sha256, behind)
    return int(end.exit_code)


def _processes(context: Context) -> int:
    """How many processes of this pod train together. What makes the request unreadable, the role will say."""
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
    parser.add_argument("--stage", help="train: the stage; gate: the stage of the checkpoint to judge")
    parser.add_argument("--step", type=int, help="gate: the checkpoint to judge")
    parser.add_argument(
        "--start-step", type=int, help="train: the checkpoint of the previous stage to start from"
    )
    parser.add_argument(
        "--accepted-step", type=int, help="train: the checkpoint at which a person decided to continue"
    )
    parser.add_argument("--digest", help="publish, cleanup: the artifact that passed")
    parser.add_argument("--trackers", help="track: the trackers, separated by commas; default: all")
    parser.add_argument("--failure", help="track: why the job failed, if it did")
    return parser


def _load(name: str, interruption: Interruption) -> ModuleType:
    """Import a module of ours, and all that it needs.

    SIGTERM waits until that is done: libraries turn what is raised within an import into errors of their own.
    The collector rests meanwhile, and passes over what was imported from then on: of 600,000 objects none is
    garbage, and looking again and again took a sixth of a role's start.
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
    """What must be said before PyTorch and the hub's client are imported."""
    if role is not Role.DATA:  # which fetches everything that the others need
        os.environ["HF_HUB_OFFLINE"] = "1"
    os.environ["HF_HUB_DISABLE_TELEMETRY"] = "1"
    # Caches of libraries lie in the home folder, and a pod's user has none that it may write to.
    if not os.access(os.path.expanduser("~"), os.W_OK):
        os.environ["HOME"] = tempfile.gettempdir()
    # PyTorch's threads wait for each other by spinning, by default for milliseconds. Where other processes
    # want the cores too, that doubles a step's time: two busy neighbours on two cores, 12.0 s and not 6.5.
    os.environ.setdefault("GOMP_SPINCOUNT", "10000")
    # One process uses one GPU. Where several are visible, as on a workstation, the Trainer would take all.
    if not topology.is_launched():
        os.environ.setdefault("CUDA_VISIBLE_DEVICES", "0")
    # Nothing that a user could act on: a kernel that bitsandbytes lacks, and an old name that peft 0.21 uses.
    logging.getLogger("bitsandbytes").setLevel(logging.ERROR)
    # It writes down every address, also those that are signed and let anybody read what is there.
    logging.getLogger("httpx2").setLevel(logging.WARNING)
    warnings.filterwarnings("ignore", "`is_gradient_checkpointing` is deprecated", FutureWarning)


def _hide_unused(context: Context) -> None:
    """Let libraries find no package that they would import and this job does not need: of nine seconds that
    a role's imports take, wandb and bitsandbytes are three."""
    modules: dict[str, Any] = sys.modules
    for name in _UNUSED if _is_quantized(context) else (*_UNUSED, "bitsandbytes"):
        modules.setdefault(name, None)  # which is how Python says that there is none


def _is_quantized(context: Context) -> bool:
    """Whether some stage holds its base in 4 bits, or the job that this one starts from did."""
    request = context.request
    found = [stage.quantization for stage in request.spec.stages]
    if request.start_from:
        found.append(request.start_from.trained.quantization)
    if context.role is not Role.DATA:  # which makes the plan
        found += [stage.parameters.quantization for stage in context.plan.stages]
    return any(found)


def leave(code: int) -> NoReturn:
    """End this process at once: all is written. To take apart what its libraries loaded takes a second or
    more, and where it trained with others a thread of their connections would abort it."""
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(code)


def end_of(work: Callable[[], Outcome]) -> End:
    """Do the work, and say how it ended; whatever went wrong is on stderr."""
    try:
        return End(work(), ExitCode.OK)
    except Superseded:
        return End(Outcome.INTERRUPTED, ExitCode.INTERRUPTED, silent=True)
    except Interrupted:
        logger.info("interrupted: everything is saved; the next attempt resumes from here")
        return End(Outcome.INTERRUPTED, ExitCode.INTERRUPTED)
    except TrainerError as error:
        return _failed(error)
    except Exception as error:  # noqa: BLE001 - the last handler of the process
        known = _known_error(error)
        if known is not None:
            return _failed(known)
        traceback.print_exc()
        failure = Failure(reason=Reason.INTERNAL_ERROR, message=printable(f"{type(error).__name__}: {error}"))
        return End(Outcome.FAILED, ExitCode.INTERNAL_ERROR, failure)


def _failed(error: TrainerError) -> End:
    logger.error("%s", error)
    if error.hint:
        logger.error("hint: %s", error.hint)
    return End(Outcome.FAILED, error.exit_code, error.failure)


def _known_error(error: Exception) -> TrainerError | None:
    """What a library's error means to a user; None for a bug."""
    if is_out_of_memory(error):
        return CudaOutOfMemoryError(
            f"the GPU is out of memory: {error}",
            "lower training.maxLength, set quantization: NF4 to hold the base in 4 bits, or ask for a GPU "
            "with more memory",
        )
    is_storage = isinstance(error, OSError) and error.errno in _STORAGE_ERRNOS
    if is_storage or any(words in str(error) for words in _STORAGE_WORDS):
        return StorageError(f"cannot write to the volume: {error}", "grow the volume, or free space on it")
    # What a user names is checked where it is read; the rest that has a path is the workspace.
    if isinstance(error, PermissionError) and error.filename is not None:
        return StorageError(
            f"the volume cannot be used: {error}",
            f"the trainer runs as user {os.getuid()}: let it read and write there",
        )
    return None


def _report_end(context: Context, end: End) -> str | None:
    """Report the end and render the HTML report, each even if the other fails. Returns the digest of the last
    report, if it is there."""
    report_sha256 = None
    if context.speaks and not end.silent and not context.role.is_chore:
        try:
            context.tell(outcome=end.outcome, failure=end.failure)
            report_sha256 = context.report_sha256
        except Exception as error:  # noqa: BLE001 - the termination message still says how it ended
            logger.warning("the last report could not be written: %s", error)
        try:
            import_module("tunegate_trainer.report").render(context.workspace, context.request)
        except Exception:
            # A report for people changes no outcome.
            logger.warning("report.html could not be rendered", exc_info=True)
    return report_sha256


def _leave_message(
    context: Context, end: End, report_sha256: str | None, trackers_behind: list[str] | None = None
) -> None:
    """Write the termination message; nothing that goes wrong is an error."""
    try:
        # In place: in a pod it is a mount of its own in a read-only folder, where nothing can be renamed.
        topology.termination_file(context.root).write_text(
            termination_text(end, report_sha256, trackers_behind, [*context.measured_baselines.values()]),
            encoding="utf-8",
        )
    except OSError as error:
        logger.warning("termination.json could not be written: %s", error)


def _close(context: Context, end: End) -> list[str] | None:
    """Give what is still to be sent a bounded time: the trackers theirs while the operator gets its own.
    Returns the trackers that are behind, if they were asked."""
    trackers = context.trackers
    if trackers and not end.silent:
        trackers.finish()
    if context.courier:
        context.courier.close()
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
    """The termination message in what Kubernetes keeps of one. Messages of a failure are shortened first,
    then the oldest ``baselines`` are left out."""
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
