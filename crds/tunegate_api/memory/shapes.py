"""The sizes of a model and a pass, and the memory that a stage needs."""

from collections.abc import Sequence
from typing import Annotated, Literal, Self

from pydantic import Field

from tunegate_api.meta import Listed, StatusModel

Accelerator = Literal["GPU", "CPU"]


class LinearShape(StatusModel):
    """The linear layers with the same name and shape."""

    name: str
    """Name of the layers, for example ``q_proj``."""
    reads: str
    """Name of the input of the layers. Layers of a block with the same name have the same input."""
    inputs: int
    outputs: int
    count: int
    """Number of such layers in the whole model."""

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

    @property
    def embedding(self) -> int:
        """Number of weights of the input embedding. An output head that is not tied to it has as many."""
        return self.vocabulary * self.hidden_size

    @property
    def linear(self) -> int:
        """Number of weights of linear layers, which quantization stores in 4 bits."""
        return sum(one.weights for one in self.linears)

    @property
    def is_tied(self) -> bool:
        """Whether the output head is tied to the embedding. The number of parameters is then too small for
        both."""
        return self.parameters - self.linear < 2 * self.embedding

    def targets(self, modules: Sequence[str]) -> list[LinearShape]:
        """Return the layers that get an adapter. As in PEFT, a target module is a layer's name or the end of
        its path."""
        if list(modules) == ["all-linear"]:
            return self.linears
        names = {module.rpartition(".")[2] for module in modules}
        return [one for one in self.linears if one.name in names]

    def adapter_weights(self, modules: Sequence[str], rank: int) -> int:
        """Return the number of weights of an adapter: two factors of that rank for each target module (LoRA,
        arXiv 2106.09685, section 4.1)."""
        return sum((one.inputs + one.outputs) * rank * one.count for one in self.targets(modules))


class Pass(StatusModel):
    """A forward and backward pass."""

    examples: int
    """Number of examples. A preference pair counts as two."""
    tokens: int
    """Number of tokens of all examples."""
    longest: int
    """Length of the longest example in tokens."""
    squares: int
    """Number of token pairs that attention computes: the sum of the squared lengths."""
    keys: int = 0
    """Number of keys that attention reads. If examples have a shared prefix that is computed once, each of
    them reads it again. 0 means ``tokens``."""
    labelled: int
    """Number of tokens with loss, in all examples."""

    @classmethod
    def of(cls, lengths: Sequence[int], labelled: int, segments: Sequence[tuple[int, int]] = ()) -> Self:
        """Return the pass for examples of these ``lengths`` in tokens.

        If examples have shared prefixes, ``segments`` has for each separately computed segment its number of
        tokens, and the number of tokens that these attend to.
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
    """The largest batch of an evaluation."""

    prompts: int
    longest: int
    """Length of the longest prompt in tokens."""
    new_tokens: int
    """Maximum number of generated tokens per prompt."""


class Memory(StatusModel):
    """Memory of a stage by part, in bytes, at the peak of a training step."""

    weights: int
    """Weights of the base model."""
    adapter: int
    """Weights of the adapter, in float32."""
    optimizer: int
    """Optimizer state and, if the peak is during the optimizer update, its temporary tensors."""
    gradients: int
    activations: int
    """Activations of the layers that backward needs."""
    logits: int
    """Logits of the tokens with loss, and their gradients."""
    evaluation: int
    """Memory of an evaluation in addition to weights, adapter and optimizer. An evaluation has no gradients,
    activations and logits, so only the larger of both counts."""

    @property
    def total(self) -> int:
        training = self.gradients + self.activations + self.logits
        return self.weights + self.adapter + self.optimizer + max(training, self.evaluation)
