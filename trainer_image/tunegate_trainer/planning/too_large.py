"""Refuse a job whose stages or final gate do not fit one GPU, before a GPU is requested."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import NamedTuple

from tunegate_api.contract.plan import StagePlan, TrainingParameters
from tunegate_api.contract.request import Request
from tunegate_api.contract.shapes import GenerationBatch, Memory, ModelShape
from tunegate_api.memory.estimate import judging
from tunegate_api.memory.fitting import (
    KEPT_FREE,
    LARGEST_GPU,
    Remedy,
    by_part,
    fits,
    hint,
    hint_of,
    least_memory,
    needed,
    size_text,
    smaller_weights,
)
from tunegate_trainer.planning.sizing import gpu_bytes
from tunegate_trainer.process.errors import GpuTooSmallError

_BYTES = {"float32": 4.0, "float16": 2.0, "bfloat16": 2.0}
_NF4_BYTES = 0.5


class GpuLimit(NamedTuple):
    """The memory of one GPU."""

    size: int
    text: str


@dataclass(frozen=True)
class GateMemory:
    """Everything that decides how much memory the final gate needs."""

    request: Request
    shape: ModelShape | None
    """The shape of the model. None if it is not known."""
    parameters: int
    """The number of parameters of the model."""
    stages: Sequence[StagePlan]
    batches: Sequence[GenerationBatch]
    """The largest batches of the evaluations. Empty if they are not known."""
    stored: str
    """The dtype of the base model's stored weights."""
    is_merged: bool = False
    """Whether the model was merged for this job, see ``is_merged`` of the model's plan."""

    def memory(self) -> Memory | None:
        """Return the memory that the gate needs. Returns None if the shape of the model is not known."""
        if self.shape is None:
            return None
        return self._judging(self.shape, self._last, self.batches, whole=self._is_whole)

    def least_weights(self) -> int:
        """Return a lower bound of the memory of the weights, for a model of unknown shape."""
        if not self._is_whole and self._last.quantization:
            return round(_NF4_BYTES * self.parameters)
        dtype = self.stored if self._is_whole else self._last.dtype
        return round(_BYTES[dtype] * self.parameters)

    def remedies(self, shape: ModelShape, size: int) -> Iterator[Remedy]:
        """Yield single changes of the job with which the gate fits a GPU with ``size`` bytes."""
        found = [*self._smaller_batches(shape), *self._without_merging(shape), *self._smaller_weights(shape)]
        yield from (one for one in found if fits(one.memory, size))

    def _smaller_batches(self, shape: ModelShape) -> Iterator[Remedy]:
        """Yield a batch with one prompt."""
        if max((one.prompts for one in self.batches), default=1) > 1:
            single = [one.model_copy(update={"prompts": 1}) for one in self.batches]
            memory = self._judging(shape, self._last, single, whole=self._is_whole)
            yield Remedy("evaluation.batchSize: 1", memory)

    def _without_merging(self, shape: ModelShape) -> Iterator[Remedy]:
        if self._is_whole and not self._is_whole_without_merging:
            memory = self._judging(shape, self._last, self.batches, whole=False)
            yield Remedy("artifact.form: Adapter", memory)

    def _smaller_weights(self, shape: ModelShape) -> Iterator[Remedy]:
        if self.request.spec.artifact.form == "Merged" or self.is_merged or len(self.stages) > 1:
            return  # the artifact has all weights in 16 bits, or earlier stages decide about them
        for change, update in smaller_weights(self._last):
            changed = self._last.model_copy(update=update)
            yield Remedy(change, self._judging(shape, changed, self.batches, whole=False))

    @property
    def _last(self) -> TrainingParameters:
        return self.stages[-1].parameters

    @property
    def _is_whole(self) -> bool:
        """Whether the artifact that the gate role builds contains all weights."""
        return self.request.spec.artifact.form == "Merged" or self._is_whole_without_merging

    @property
    def _is_whole_without_merging(self) -> bool:
        """Whether the artifact contains all weights even with the form Adapter."""
        is_of_base = all(stage.starts_from == "Adapter" for stage in self.stages[1:])
        return self._last.adapter == "None" or not is_of_base or self.is_merged

    def _judging(
        self,
        shape: ModelShape,
        parameters: TrainingParameters,
        batches: Sequence[GenerationBatch],
        *,
        whole: bool,
    ) -> Memory:
        accelerator = self.request.spec.resources.accelerator
        dtype = self.stored if accelerator == "GPU" else parameters.dtype
        return judging(shape, parameters, batches, accelerator=accelerator, whole=dtype if whole else None)


def too_large_error(gate: GateMemory) -> GpuTooSmallError | None:
    """Return the error for a job that does not fit one GPU: for the first stage that does not fit, or else
    for the final gate. Returns None if they fit, or without a GPU.

    If ``resources.gpu.memory`` is not set, only a job that fits no GPU is refused. If the shape of the model
    is not known, only a job is refused whose weights alone do not fit.
    """
    limit, model = _limit(gate.request), gate.shape
    if limit is None:
        return None
    if model is None:
        return _weights_error(gate, limit)
    for stage in gate.stages:
        error = _stage_error(gate.request, stage, model, limit)
        if error:
            return error
    return _gate_error(gate, model, limit)


def _limit(request: Request) -> GpuLimit | None:
    """Return the memory of the job's GPUs or, if it is not set, that of the largest GPU. Returns None without
    a GPU."""
    if request.spec.resources.accelerator == "CPU":
        return None
    size = gpu_bytes(request)
    if size is not None:
        return GpuLimit(size, f"resources.gpu.memory is {size_text(size)}")
    return GpuLimit(
        LARGEST_GPU, f"resources.gpu.memory is not set, and the largest GPU has {size_text(LARGEST_GPU)}"
    )


def _stage_error(
    request: Request, stage: StagePlan, model: ModelShape, limit: GpuLimit
) -> GpuTooSmallError | None:
    processes = request.spec.resources.processes
    memory, least = least_memory(model, stage, processes), stage.least_pass
    if memory is None or least is None or fits(memory, limit.size):
        return None
    return GpuTooSmallError(
        f"stage {stage.name} needs an estimated {size_text(needed(memory))}, but {limit.text}: "
        f"{by_part(memory)} for one {stage.parameters.unit} of {least.longest} tokens per pass, plus "
        f"{KEPT_FREE} kept free",
        hint(model, stage, memory, limit.size, processes),
    )


def _gate_error(gate: GateMemory, model: ModelShape, limit: GpuLimit) -> GpuTooSmallError | None:
    """Return the error for a job whose final gate does not fit, because a model that cannot be evaluated
    would be trained for nothing."""
    memory = gate.memory()
    if memory is None or fits(memory, limit.size):
        return None
    return GpuTooSmallError(
        f"the final gate evaluates the result of stage {gate.stages[-1].name} on one GPU, which needs an "
        f"estimated {size_text(needed(memory))}, but {limit.text}: {by_part(memory)}, plus {KEPT_FREE} kept "
        "free",
        hint_of(gate.remedies(model, limit.size), memory, limit.size),
    )


def _weights_error(gate: GateMemory, limit: GpuLimit) -> GpuTooSmallError | None:
    weights = gate.least_weights()
    if weights <= limit.size:
        return None
    return GpuTooSmallError(
        f"the final gate evaluates the result of stage {gate.stages[-1].name} on one GPU, and its weights "
        f"alone need {size_text(weights)}, but {limit.text}",
        "use a smaller model"
        if weights > LARGEST_GPU
        else f"use a GPU with more than {size_text(weights)}, or a smaller model",
    )
