"""Errors that a user can act on. Each knows the exit code that it ends the process with."""

import os
import re
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from tunegate_api.contract import ExitCode
from tunegate_api.v1alpha1.finetunejob_status import Failure, Reason


def printable(text: str) -> str:
    """``text`` as UTF-8 can write it: a file's name need not be."""
    return text.encode("utf-8", "backslashreplace").decode()


class TrainerError(Exception):
    """What went wrong, with the field, file or row, and what to do about it. Shown without a traceback."""

    exit_code = ExitCode.USER_ERROR
    reason = Reason.USER_ERROR

    def __init__(self, message: str, hint: str = "") -> None:
        super().__init__(printable(message))
        self.hint = printable(hint)

    @property
    def failure(self) -> Failure:
        return Failure(reason=self.reason, message=str(self), hint=self.hint)


class BadDataError(TrainerError):
    """Rows that cannot be trained on or judged by."""

    exit_code, reason = ExitCode.BAD_DATA, Reason.BAD_DATA


class TooFewRowsError(BadDataError):
    """Fewer rows than the goal needs."""

    reason = Reason.TOO_FEW_ROWS


class SourceNotFoundError(TrainerError):
    """A model or a file that is not there."""

    exit_code, reason = ExitCode.NOT_FOUND, Reason.NOT_FOUND


class CredentialsError(TrainerError):
    """Credentials that are missing or refused. Its words name the Secret and the key, never a value."""

    exit_code, reason = ExitCode.CREDENTIALS, Reason.CREDENTIALS


class UserError(TrainerError):
    """A specification that cannot work with this model or data."""


class GpuTooSmallError(UserError):
    """A stage that cannot fit the GPU that the job would get."""

    reason = Reason.GPU_TOO_SMALL


class NoAcceleratorError(TrainerError):
    """A GPU was asked for and there is none."""

    exit_code, reason = ExitCode.NO_ACCELERATOR, Reason.NO_ACCELERATOR


class UnreachableError(TrainerError):
    """A server that does not answer, for several tries. Worth another attempt."""

    exit_code, reason = ExitCode.UNREACHABLE, Reason.UNREACHABLE


class StorageError(TrainerError):
    """The volume is full, read-only, or another user's. Worth another attempt, since volumes are grown."""

    exit_code, reason = ExitCode.STORAGE, Reason.STORAGE


class UndeliveredError(TrainerError):
    """Reports that the operator did not acknowledge. Worth another try."""

    exit_code, reason = ExitCode.INTERNAL_ERROR, Reason.REPORT_MISSING


class TrackersBehindError(TrainerError):
    """Trackers that were not told everything. Worth another try."""

    exit_code, reason = ExitCode.INTERNAL_ERROR, Reason.TRACKER_BEHIND


class PeerLostError(TrainerError):
    """Another of the processes that train together is gone, and knows why. Worth another attempt."""

    exit_code, reason = ExitCode.INTERNAL_ERROR, Reason.PEER_LOST


class CudaOutOfMemoryError(TrainerError):
    """The GPU's memory does not hold what was asked for. It will not on another try either."""

    exit_code, reason = ExitCode.CUDA_OUT_OF_MEMORY, Reason.CUDA_OUT_OF_MEMORY


class FewerExamplesError(TrainerError):
    """A pass did not fit one of several GPUs. On another attempt all begin with fewer examples a pass."""

    exit_code, reason = ExitCode.INTERNAL_ERROR, Reason.CUDA_OUT_OF_MEMORY


_FULL_GPU = re.compile(r"(?i)(cuda|triton).*out of memory|CU\w+_STATUS_ALLOC_FAILED")
"""How CUDA and its libraries say it where PyTorch's allocator does not."""


def is_out_of_memory(error: BaseException) -> bool:
    """Whether an error says that the GPU's memory is full."""
    torch = sys.modules.get("torch")  # without it, nothing was on a GPU
    if torch is None or not isinstance(error, RuntimeError):
        return False
    return isinstance(error, torch.OutOfMemoryError) or _FULL_GPU.search(str(error)) is not None


@contextmanager
def out_of_memory_explained(less_memory: Callable[[], str], doing: str = "") -> Iterator[None]:
    """Within this block, raise :class:`CudaOutOfMemoryError` where the GPU's memory is full.

    ``less_memory`` returns the hint, what would take less of it. ``doing`` says what did not fit.
    """
    try:
        yield
    except RuntimeError as error:
        if not is_out_of_memory(error):
            raise
        message = f"the GPU is out of memory {doing}".rstrip()
        raise CudaOutOfMemoryError(f"{message}: {error}", less_memory()) from error


def unreadable(what: str) -> UserError:
    """The error for a file or folder that is there and may not be read. ``what`` names it."""
    return UserError(
        f"{what} cannot be read: permission denied",
        f"the trainer runs as user {os.getuid()}: let it read the files, and enter their folders",
    )
