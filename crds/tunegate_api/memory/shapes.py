"""The sizes that decide what a stage needs, and what it needs by part."""

from collections.abc import Sequence
from typing import Annotated, Literal, Self

from pydantic import Field

from tunegate_api.meta import Listed, StatusModel

Accelerator = Literal["GPU", "CPU"]


class LinearShape(StatusModel):
    """The linear layers of one name and shape."""

    name: str
    """Such as ``q_proj``."""
    reads: str
    """What they are applied to. Layers of one block with the same text here have the same input."""
    inputs: int
    outputs: int
    count: int
    """In the whole model."""

    @property
    def weights(self) -> int:
        return self.inputs * self.outputs * self.count


class ModelShape(StatusModel):
    """The sizes of a model."""

    parameters: int
    """Tied weights count once."""
    vocabulary: int
    hidden_size: int
    layers: int
    heads: int
    key_value_heads: int
    head_size: int
    intermediate_size: int
    linears: Annotated[Listed[LinearShape], Field(max_length=64)]
    """But for the output head."""
    sees_all_before: bool = False
    """Whether each token sees all that is before it, and by attention alone."""

    @property
    def embedding(self) -> int:
        """Weights of the input embedding; an output head that is not tied to it has as many."""
        return self.vocabulary * self.hidden_size

    @property
    def linear(self) -> int:
        """Weights of linear layers: what quantization holds in 4 bits."""
        return sum(one.weights for one in self.linears)

    @property
    def is_tied(self) -> bool:
        """Whether the output head is the embedding: then there is no room for another one."""
        return self.parameters - self.linear < 2 * self.embedding

    def targets(self, modules: Sequence[str]) -> list[LinearShape]:
        """The layers that get an adapter. As in PEFT, a target is a layer's name or the end of its path."""
        if list(modules) == ["all-linear"]:
            return self.linears
        names = {module.rpartition(".")[2] for module in modules}
        return [one for one in self.linears if one.name in names]

    def adapter_weights(self, modules: Sequence[str], rank: int) -> int:
        """Weights of an adapter: two factors of that rank beside each target (LoRA, arXiv 2106.09685, section
        4.1)."""
        return sum((one.inputs + one.outputs) * rank * one.count for one in self.targets(modules))


class Pass(StatusModel):
    """One forward and backward pass."""

    examples: int
    """A pair has two."""
    tokens: int
    """Of all of them."""
    longest: int
    """Tokens of the longest."""
    squares: int
    """Pairs of tokens that attention computes: the sum of their squared lengths."""
    keys: int = 0
    """Tokens that attention reads: where examples go on from a beginning that is computed once, it is read by
    each of them. 0 for ``tokens``."""
    labelled: int
    """Tokens that carry loss, of all of them."""

    @classmethod
    def of(cls, lengths: Sequence[int], labelled: int, parts: Sequence[tuple[int, int]] = ()) -> Self:
        """The pass of examples of these ``lengths`` in tokens. ``parts`` are the tokens of each part that is
        computed by itself, and how many these see, where that is not the examples."""
        parts = parts or [(n, n) for n in lengths]
        return cls(
            examples=len(lengths),
            tokens=sum(own for own, _ in parts),
            longest=max(lengths),
            squares=sum(own * seen for own, seen in parts),
            keys=sum(seen for _, seen in parts),
            labelled=labelled,
        )


class GenerationBatch(StatusModel):
    """The largest batch that an evaluation generates."""

    prompts: int
    longest: int
    """Tokens of the longest prompt."""
    new_tokens: int
    """That are generated at most."""


class Memory(StatusModel):
    """Bytes of a stage at the moment of a step at which most is held, by part."""

    weights: int
    """Of the base model."""
    adapter: int
    """Its weights, in float32."""
    optimizer: int
    """The moments of what is trained, and where the update is that moment, what it needs besides."""
    gradients: int
    activations: int
    """What backward needs of the layers."""
    logits: int
    """Of the tokens that carry loss, with their gradients."""
    evaluation: int
    """What an evaluation needs beside weights, adapter and moments. Counts where it is more than gradients,
    activations and logits, which it does not meet."""

    @property
    def total(self) -> int:
        training = self.gradients + self.activations + self.logits
        return self.weights + self.adapter + self.optimizer + max(training, self.evaluation)
