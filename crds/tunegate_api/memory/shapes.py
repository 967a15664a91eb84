"""The sizes of a model and a pass, and the memory that a stage needs."""

from collections.abc import Sequence
from typing import Annotated, Literal, Self

from pydantic import Field

from tunegate_api.meta import Listed, StatusModel

Accelerator = Literal["GPU", "CPU"]


class LinearShape(StatusModel):
    """The linear layers of a model that have the same name and shape."""

    name: str
    """Name of the layers, for example ``q_proj``."""
    reads: str
    """Name of the tensor that the layers read. Layers of a block with the same ``reads`` have the same
    input."""
    inputs: int
    outputs: int
    count: int
    """Number of layers with this name and shape in the whole model."""

    @property
    def weights(self) -> int:
        return self.inputs * self.outputs * self.count


class ModelShape(StatusModel):
    """The sizes of a model."""

    parameters: int
    """Number of parameters. Tied weights count once."""
    vocabulary: int
    hidden_size: int
    layers: int
    heads: int
    key_value_heads: int
    head_size: int
    intermediate_size: int
    linears: Annotated[Listed[LinearShape], Field(max_length=64)]
    """All linear layers except the output head."""
    sees_all_before: bool = False
    """Whether each token attends to all tokens before it, and the model has no other way to pass information
    between tokens."""
    takes_kernels: bool = False
    """Whether norms and MLPs use fused kernels on a GPU, see the trainer's ``models/fused_layers.py``."""

    @property
    def embedding(self) -> int:
        """Number of weights of the input embedding. An output head that is not tied to the embedding has the
        same number."""
        return self.vocabulary * self.hidden_size

    @property
    def linear(self) -> int:
        """Number of weights of linear layers, which quantization stores in 4 bits."""
        return sum(one.weights for one in self.linears)

    @property
    def is_tied(self) -> bool:
        """Whether the output head and the embedding share one matrix. This is the case if the number of
        parameters is too small for two matrices."""
        return self.parameters - self.linear < 2 * self.embedding

    def targets(self, modules: Sequence[str]) -> list[LinearShape]:
        """Return the layers that get an adapter. As in PEFT, a target module is a layer's name or the end of
        its path."""
        if list(modules) == ["all-linear"]:
            return self.linears
        names = {module.rpartition(".")[2] for module in modules}
        return [one for one in self.linears if one.name in names]

    def adapter_weights(self, modules: Sequence[str], rank: int) -> int:
        """Return the number of weights of a LoRA adapter: two matrices of rank ``rank`` per target module
        (arXiv 2106.09685, section 4.1)."""
        return sum((one.inputs + one.outputs) * rank * one.count for one in self.targets(modules))


class Pass(StatusModel):
    """The sizes of a forward and backward pass."""

    examples: int
    """Number of examples. A preference pair counts as two."""
    tokens: int
    """Number of tokens of all examples."""
    longest: int
    """Length of the longest example in tokens."""
    squares: int
    """Number of token pairs that attention computes: the sum of the squared lengths."""
    keys: int = 0
    """Number of keys that attention reads. If examples have a shared prefix, its keys are computed once, but
    each example reads them. 0 means that the number of keys is ``tokens``."""
    labelled: int
    """Number of tokens with loss, in all examples."""

    @classmethod
    def of(cls, lengths: Sequence[int], labelled: int, segments: Sequence[tuple[int, int]] = ()) -> Self:
        """Return the pass for examples of these ``lengths`` in tokens.

        If examples have shared prefixes, ``segments`` has an entry for each segment that is computed
        separately: the number of tokens in the segment, and the number of tokens that the segment attends to.
        """
        segments = segments or [(n, n) for n in lengths]
        return cls(
            examples=len(lengths),
            tokens=sum(own for own, _ in segments),
            longest=max(lengths),
            squares=sum(own * seen for own, seen in segments),
            keys=sum(seen for _, seen in segments),
            labelled=labelled,
        )


class GenerationBatch(StatusModel):
    """The largest batch of prompts in an evaluation."""

    prompts: int
    longest: int
    """Length of the longest prompt in tokens."""
    new_tokens: int
    """Maximum number of generated tokens per prompt."""


class Memory(StatusModel):
    """Memory of a stage by part, in bytes, at the peak of an optimizer step."""

    weights: int
    """Weights of the base model."""
    adapter: int
    """Weights of the adapter, in float32."""
    optimizer: int
    """Optimizer state and, if the peak is during the optimizer update, its temporary tensors."""
    gradients: int
    activations: int
    """Activations that the backward pass needs, without logits."""
    logits: int
    """Logits of the tokens with loss, and their gradients."""
    evaluation: int
    """Memory that an evaluation needs in addition to weights, adapter and optimizer. The gradients,
    activations and logits of training do not exist during an evaluation, so ``total`` includes either their
    memory or this memory, whichever is larger."""

    @property
    def total(self) -> int:
        training = self.gradients + self.activations + self.logits
        return self.weights + self.adapter + self.optimizer + max(training, self.evaluation)
