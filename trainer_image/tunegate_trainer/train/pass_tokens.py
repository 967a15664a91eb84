"""Choose the number of tokens per forward pass that fits the GPU, and reduce it if a pass does not fit."""

import logging
from pathlib import Path

from tunegate_api.contract.plan import ModelPlan, StagePlan
from tunegate_api.contract.shapes import Pass
from tunegate_api.memory.fitting import fit
from tunegate_trainer.process.errors import CudaOutOfMemoryError
from tunegate_trainer.process.files import write_atomic

logger = logging.getLogger(__name__)

CHECKPOINTING_FROM = 1_000_000_000
"""Number of parameters from which activation checkpointing is used if nothing is known about the memory of a
stage."""
TOKENS_IF_UNKNOWN = 1536
"""Maximum number of tokens per pass if nothing is known about the memory of a stage."""
FILE = "pass-tokens"
"""Name of the file with the reduced number of tokens per pass, with which a later attempt starts. The word
``recompute`` follows if it also recomputes activations."""
_RECOMPUTE = "recompute"


class PassTooLargeError(Exception):
    """A forward or backward pass did not fit the memory of the GPU."""

    def __init__(self, message: str, *, tokens: int, units: int) -> None:
        """``message`` is PyTorch's error message. The pass had ``tokens`` in ``units`` rows or pairs."""
        super().__init__(message)
        self.tokens, self.units = tokens, units


def fitted(
    stage: StagePlan, model: ModelPlan, gpu_bytes: int | None, *, mean_tokens: float, processes: int = 1
) -> StagePlan:
    """Return the stage with the tokens per pass and the activation checkpointing that fit a GPU with
    ``gpu_bytes``, if the data role has not decided about them, because it did not know the GPU.

    ``gpu_bytes`` is None on a CPU: the stage is then returned unchanged. ``mean_tokens`` is the mean length
    of a row or pair.
    """
    if gpu_bytes is None or stage.activation_checkpointing is not None:
        return stage
    largest, least = stage.largest_pass, stage.least_pass
    if model.shape is None or largest is None or least is None:
        tokens = min(stage.parameters.pass_tokens, TOKENS_IF_UNKNOWN)
        return _computed(stage, tokens, recomputes=model.parameters >= CHECKPOINTING_FROM)
    found = fit(
        model.shape,
        stage,
        gpu_bytes,
        processes=processes,
        largest=lambda tokens: [_part(largest, tokens), *([least] if least.tokens > tokens else [])],
        mean_tokens=mean_tokens,
        generation=stage.largest_generation,
    )
    tokens = found.pass_tokens if found else 1
    logger.info(
        "at most %d tokens per pass, activations are %s",
        tokens,
        "kept" if found and not found.checkpointing else "recomputed",
    )
    return _computed(stage, tokens, recomputes=found is None or found.checkpointing)


def _computed(stage: StagePlan, pass_tokens: int, *, recomputes: bool | None) -> StagePlan:
    parameters = stage.parameters.model_copy(update={"pass_tokens": pass_tokens})
    return stage.model_copy(update={"activation_checkpointing": recomputes, "parameters": parameters})


def _part(largest: Pass, most: int) -> Pass:
    """Return a pass with at most ``most`` tokens that needs at least as much memory as each such pass of the
    stage, given its ``largest`` pass."""
    tokens, longest = min(most, largest.tokens), min(most, largest.longest)
    return largest.model_copy(
        update={
            "examples": max(1, largest.examples * tokens // largest.tokens),
            "tokens": tokens,
            "longest": longest,
            "squares": min(tokens * longest, largest.squares),
            "keys": tokens,
            "labelled": min(tokens, largest.labelled),
        }
    )


def with_pass_tokens(stage: StagePlan, folder: Path) -> StagePlan:
    """Return the stage with the number of tokens per pass and the activation checkpointing that were stored
    in ``folder``, unless the stage already needs less memory."""
    try:
        tokens, *words = (folder / FILE).read_text().split()
        smaller = min(int(tokens), stage.parameters.pass_tokens)
    except (FileNotFoundError, ValueError):
        return stage
    return _computed(stage, smaller, recomputes=_RECOMPUTE in words or stage.activation_checkpointing)


def need_less_memory(stage: StagePlan, folder: Path, error: PassTooLargeError, processes: int = 1) -> None:
    """Store how the rest of the stage needs less memory than the pass that did not fit: activations are
    recomputed if they were kept, and otherwise passes have fewer tokens, see :func:`halve_pass`."""
    if stage.activation_checkpointing is not False:
        halve_pass(stage, folder, error, processes)
        return
    logger.warning("out of GPU memory: continuing with recomputed activations")
    write_atomic(folder / FILE, f"{stage.parameters.pass_tokens} {_RECOMPUTE}\n")


def memory_hint(stage: StagePlan) -> str:
    """Return a hint on how the stage can use less GPU memory. Options that the stage already uses are left
    out."""
    if stage.parameters.adapter == "None":
        smaller = "train an adapter instead of all weights, "
    elif stage.parameters.quantization is None:
        where = " in the stage that makes the adapter" if stage.starts_from == "Adapter" else ""
        smaller = f"set quantization: NF4{where} to load the base in 4 bits, "
    else:
        smaller = ""
    return f"lower training.maxLength, {smaller}or request a GPU with more memory"


def halve_pass(stage: StagePlan, folder: Path, error: PassTooLargeError, processes: int = 1) -> None:
    """Store a reduced number of tokens per pass, for the rest of the stage: half of the tokens in the pass
    that did not fit. The number of examples per optimizer step stays the same.

    With several ``processes``, it is a quarter, because each reduction uses one of the limited number of
    attempts. Raises :class:`CudaOutOfMemoryError` if the pass had a single example or pair.
    """
    if error.units == 1:
        raise CudaOutOfMemoryError(
            f"the GPU is out of memory with one {stage.parameters.unit} of {error.tokens} tokens per pass: "
            f"{error}",
            memory_hint(stage),
        )
    tokens = min(stage.parameters.pass_tokens, error.tokens)
    smaller = max(1, tokens // (2 if processes == 1 else 4))
    logger.warning("out of GPU memory: continuing with at most %d tokens per pass", smaller)
    words = [str(smaller), *([_RECOMPUTE] if stage.activation_checkpointing else [])]
    write_atomic(folder / FILE, " ".join(words) + "\n")
