"""Errors that a user can act on. Each class has the exit code with which the process ends."""

import os
import re
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from tunegate_api.contract import ExitCode
from tunegate_api.v1alpha1.finetunejob_status import Failure, Reason


def printable(text: str) -> str:
    """Return ``text`` with characters escaped that UTF-8 cannot encode, as a file name may have."""
    return text.encode("utf-8", "backslashreplace").decode()


class TrainerError(Exception):
    """An error that names the field, file or row, with a hint what to do. Shown without a traceback."""

    exit_code = ExitCode.USER_ERROR
    reason = Reason.USER_ERROR

    def __init__(self, message: str, hint: str = "") -> None:
        super().__init__(printable(message))
        self.hint = printable(hint)

    @property
    def failure(self) -> Failure:
        return Failure(reason=self.reason, message=str(self), hint=self.hint)


class BadDataError(TrainerError):
    """Rows that cannot be used for training or evaluation."""

    exit_code, reason = ExitCode.BAD_DATA, Reason.BAD_DATA


class TooFewRowsError(BadDataError):
    """There are fewer rows than the job's goal needs."""

    reason = Reason.TOO_FEW_ROWS


class SourceNotFoundError(TrainerError):
    """A model or a file does not exist."""

    exit_code, reason = ExitCode.NOT_FOUND, Reason.NOT_FOUND


class CredentialsError(TrainerError):
    """Credentials are missing or refused. The message names the Secret and the key, never a value."""

    exit_code, reason = ExitCode.CREDENTIALS, Reason.CREDENTIALS


class UserError(TrainerError):
    """The job's spec does not work with this model or data."""


class GpuTooSmallError(UserError):
    """A stage does not fit the GPU that the job requests."""

    reason = Reason.GPU_TOO_SMALL


class NoAcceleratorError(TrainerError):
    """The job requests a GPU, but the machine has none."""

    exit_code, reason = ExitCode.NO_ACCELERATOR, Reason.NO_ACCELERATOR


class UnreachableError(TrainerError):
    """A server is unreachable after several tries. A later attempt may succeed."""

    exit_code, reason = ExitCode.UNREACHABLE, Reason.UNREACHABLE


class StorageError(TrainerError):
    """The volume is full, read-only, or belongs to another user. A later attempt may succeed, because volumes
    can grow."""

    exit_code, reason = ExitCode.STORAGE, Reason.STORAGE


class UndeliveredError(TrainerError):
    """The operator did not acknowledge all reports. A later attempt may succeed."""

    exit_code, reason = ExitCode.INTERNAL_ERROR, Reason.REPORT_MISSING


class TrackersBehindError(TrainerError):
    """Some trackers did not receive all metrics. A later attempt may succeed."""

    exit_code, reason = ExitCode.INTERNAL_ERROR, Reason.TRACKER_BEHIND


class PeerLostError(TrainerError):
    """The connection to another rank is lost; that rank reports the cause. A later attempt may succeed."""

    exit_code, reason = ExitCode.INTERNAL_ERROR, Reason.PEER_LOST


class CudaOutOfMemoryError(TrainerError):
    """The GPU is out of memory. Another attempt would fail too."""

    exit_code, reason = ExitCode.CUDA_OUT_OF_MEMORY, Reason.CUDA_OUT_OF_MEMORY


class FewerExamplesError(TrainerError):
    """A pass did not fit one of several GPUs. In the next attempt, all ranks use fewer examples per pass."""

    exit_code, reason = ExitCode.INTERNAL_ERROR, Reason.CUDA_OUT_OF_MEMORY


_FULL_GPU = re.compile(r"(?i)(cuda|triton).*out of memory|CU\w+_STATUS_ALLOC_FAILED")
"""Out-of-memory errors of CUDA and its libraries, which PyTorch does not raise as OutOfMemoryError."""


def is_out_of_memory(error: BaseException) -> bool:
    """Return whether an error means that the GPU is out of memory."""
    torch = sys.modules.get("torch")  # if it is not imported, the GPU was not used
    if torch is None or not isinstance(error, RuntimeError):
        return False
    return isinstance(error, torch.OutOfMemoryError) or _FULL_GPU.search(str(error)) is not None


@contextmanager
def out_of_memory_explained(hint: Callable[[], str], doing: str = "") -> Iterator[None]:
    """Turn an out-of-memory error in this block into :class:`CudaOutOfMemoryError`.

    ``hint`` returns the hint how to use less memory. ``doing`` describes what did not fit.
    """
    try:
        yield
    except RuntimeError as error:
        if not is_out_of_memory(error):
            raise
        message = f"the GPU is out of memory {doing}".rstrip()
        raise CudaOutOfMemoryError(f"{message}: {error}", hint()) from error


def unreadable(what: str) -> UserError:
    """Return the error for an existing file or folder without read permission. ``what`` names it."""
    return UserError(
        f"{what} cannot be read: permission denied",
        f"the trainer runs as user {os.getuid()}: let it read the files, and enter their folders",
    )
