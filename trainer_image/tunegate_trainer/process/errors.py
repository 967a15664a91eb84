"""Errors that a user can act on. Each class has a reason, and the exit code with which the process ends."""

import errno
import os
import re
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from tunegate_api.contract.process import ExitCode
from tunegate_api.meta import printable
from tunegate_api.v1alpha2.finetunejob_status import Failure
from tunegate_api.v1alpha2.reasons import Reason


class TrainerError(Exception):
    """An error whose message names the field, file or row, and whose hint says what the user can do.

    It is shown without a traceback.
    """

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
    """The job requests more GPUs than the machine has, or the machine has none."""

    exit_code, reason = ExitCode.NO_ACCELERATOR, Reason.NO_ACCELERATOR


class UnreachableError(TrainerError):
    """A server did not answer after several retries. A later attempt may succeed."""

    exit_code, reason = ExitCode.UNREACHABLE, Reason.UNREACHABLE


class StorageError(TrainerError):
    """Files on the volume are damaged, missing or unreadable, or the volume is full or read-only.

    A later attempt may succeed, for example because volumes can grow.
    """

    exit_code, reason = ExitCode.STORAGE, Reason.STORAGE


class UndeliveredError(TrainerError):
    """The operator has not acknowledged some reports. A later attempt may succeed."""

    exit_code, reason = ExitCode.INTERNAL_ERROR, Reason.REPORT_MISSING


class TrackersBehindError(TrainerError):
    """Some trackers did not receive all metrics. A later attempt may succeed."""

    exit_code, reason = ExitCode.INTERNAL_ERROR, Reason.TRACKER_BEHIND


class PeerLostError(TrainerError):
    """The connection to another rank is lost. The other rank reports the cause. A later attempt may
    succeed."""

    exit_code, reason = ExitCode.INTERNAL_ERROR, Reason.PEER_LOST


class CudaOutOfMemoryError(TrainerError):
    """The GPU is out of memory. Another attempt would fail too."""

    exit_code, reason = ExitCode.CUDA_OUT_OF_MEMORY, Reason.CUDA_OUT_OF_MEMORY


class RetryWithLessMemoryError(TrainerError):
    """In multi-GPU training, a pass did not fit the memory of a GPU. In the next attempt, all ranks recompute
    activations or use fewer tokens per pass."""

    exit_code, reason = ExitCode.INTERNAL_ERROR, Reason.CUDA_OUT_OF_MEMORY


_STORAGE_ERRNOS = (errno.ENOSPC, errno.EROFS, errno.EDQUOT)
_STORAGE_WORDS = (*map(os.strerror, _STORAGE_ERRNOS), "PytorchStreamWriter failed", "inline_container.cc")
"""Words in error messages of PyTorch and safetensors that mean that the volume is full or read-only. The last
two are in messages of PyTorch that give no reason."""
_FULL_GPU = re.compile(r"(?i)(cuda|triton).*out of memory|CU\w+_STATUS_ALLOC_FAILED")
"""Matches the messages of out-of-memory errors that PyTorch does not raise as OutOfMemoryError."""


def is_out_of_memory(error: BaseException) -> bool:
    """Return whether an error means that the GPU is out of memory."""
    torch = sys.modules.get("torch")  # if it is not imported, the GPU was not used
    if torch is None or not isinstance(error, RuntimeError):
        return False
    return isinstance(error, torch.OutOfMemoryError) or _FULL_GPU.search(str(error)) is not None


@contextmanager
def out_of_memory_explained(hint: Callable[[], str], doing: str = "") -> Iterator[None]:
    """Turn an out-of-memory error in this block into :class:`CudaOutOfMemoryError`.

    ``hint`` returns a hint on using less memory. ``doing``, such as "while ...", says in the message what the
    process was doing.
    """
    try:
        yield
    except RuntimeError as error:
        if not is_out_of_memory(error):
            raise
        message = f"the GPU is out of memory {doing}".rstrip()
        raise CudaOutOfMemoryError(f"{message}: {error}", hint()) from error


def known_error(error: Exception) -> TrainerError | None:
    """Return the error that the user sees instead of a library's error: for lack of GPU memory, and for a
    volume that cannot be used. A TrainerError is returned as it is. Returns None for any other error."""
    if isinstance(error, TrainerError):
        return error
    if is_out_of_memory(error):
        return CudaOutOfMemoryError(
            f"the GPU is out of memory: {error}",
            "lower training.maxLength, set quantization: NF4 to load the base in 4 bits, or request a GPU "
            "with more memory",
        )
    is_storage = isinstance(error, OSError) and error.errno in _STORAGE_ERRNOS
    if is_storage or any(words in str(error) for words in _STORAGE_WORDS):
        return StorageError(f"cannot write to the volume: {error}", "grow the volume, or free space on it")
    # Paths that a user configures are checked when they are read, so this path is in the workspace.
    if isinstance(error, PermissionError) and error.filename is not None:
        return StorageError(
            f"the volume cannot be used: {error}",
            f"the trainer runs as user {os.getuid()}: give this user read and write permission on the volume",
        )
    return None


def unreadable(what: str) -> UserError:
    """Return the error for a file or folder that exists but cannot be read for lack of permission. ``what``
    names the file or folder."""
    return UserError(
        f"{what} cannot be read: permission denied",
        f"the trainer runs as user {os.getuid()}: give this user read permission for the files and "
        "their folders",
    )
