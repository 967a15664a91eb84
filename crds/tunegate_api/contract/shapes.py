"""The sizes of a model and a pass, and the memory that a stage needs."""

from collections.abc import Sequence
from typing import Annotated, Literal, NamedTuple, Self

from pydantic import Field

from tunegate_api.meta import Listed, StatusModel

Accelerator = Literal["GPU", "CPU"]

_WEIGHT = ".weight"
"""The end of a target module that is the name of a weight instead of a layer."""


class LinearShape(StatusModel):
    """The linear layers of a model, or the tensors with the weights of experts, that have the same name and
    shape."""

    name: str
    """Path of the layers in a block of the model, for example ``self_attn.q_proj``."""
    reads: str
    """Name of the tensor that the layers read. Layers of a block with the same ``reads`` have the same
    input."""
    inputs: int
    outputs: int
    count: int
    """Number of layers with this name and shape in the whole model."""
    matrices: int = 1
    """Number of matrices in a tensor: the number of experts if one tensor has the weights of all, else 1."""
    in_all_linear: bool = True
    """Whether ``all-linear`` includes the layers. False for routed experts, and for routers."""

    @property
    def weights(self) -> int:
        return self.inputs * self.outputs * self.matrices * self.count

    @property
    def is_stacked(self) -> bool:
        """Whether a tensor has the weights of several experts. PEFT adds the product of an adapter's matrices
        to the whole tensor in each forward pass, and bitsandbytes does not quantize the tensor."""
        return self.matrices > 1


class ExpertsShape(StatusModel):
    """The routed experts of a model."""

    layers: int
    """Number of layers with experts."""
    experts: int
    """Number of experts in a layer."""
    per_token: int
    """Number of experts that compute each token. In some architectures, all experts do."""
    size: int
    """Intermediate size of an expert."""
    kept_values: int
    """Number of values that the gate of an expert keeps for the backward pass, per token and per unit of
    ``size``."""


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
    """All linear layers except the output head, and the tensors of experts."""
    quantized: int
    """Number of weights that ``quantization: NF4`` stores in 4 bits."""
    experts: ExpertsShape | None = None
    """The routed experts. None if all weights of the model compute every token."""
    has_query_norms: bool = False
    """Whether attention normalizes queries and keys."""
    keeps_probabilities: bool = False
    """Whether attention keeps a probability for each pair of tokens, because the model has no fused
    attention."""
    windowed_layers: int = 0
    """Number of layers in which a token attends only to the last ``window`` tokens."""
    window: int = 0
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
        """Number of weights of linear layers and experts."""
        return sum(one.weights for one in self.linears)

    @property
    def is_tied(self) -> bool:
        """Whether the output head and the embedding share one matrix. This is the case if the number of
        parameters is too small for two matrices."""
        return self.parameters - self.linear < 2 * self.embedding

    def targets(self, modules: Sequence[str]) -> list[LinearShape]:
        """Return the layers and tensors that get an adapter. As in PEFT, a target module is a layer's name or
        the end of its path. The tensor of experts with this name is meant only if no layer has the name."""
        if list(modules) == ["all-linear"]:
            return [one for one in self.linears if one.in_all_linear]
        return [one for one in self.linears if any(self._is_target(one, name) for name in modules)]

    def _is_target(self, one: LinearShape, module: str) -> bool:
        name = module.removesuffix(_WEIGHT)
        if not _ends_with(one.name, name):
            return False
        is_layer = any(_ends_with(each.name, name) for each in self.linears if not each.is_stacked)
        return not (one.is_stacked and is_layer)

    def changed(self, modules: Sequence[str]) -> list[LinearShape]:
        """Return the targets whose weights PEFT changes itself in each pass, by adding the product of an
        adapter's matrices: the tensors of experts, and the layers of which ``modules`` names the weight."""
        weights = [name for name in modules if name.endswith(_WEIGHT)]
        return [
            one
            for one in self.targets(modules)
            if one.is_stacked or any(self._is_target(one, name) for name in weights)
        ]

    def adapter_weights(self, modules: Sequence[str], rank: int) -> int:
        """Return the number of weights of a LoRA adapter: two matrices of rank ``rank`` per target module
        (arXiv 2106.09685, section 4.1), and for experts two per expert."""
        return sum(
            (one.inputs + one.outputs) * rank * one.matrices * one.count for one in self.targets(modules)
        )


def _ends_with(path: str, name: str) -> bool:
    """Return whether the module at ``path`` in a block has this name, which may also contain the path of the
    block."""
    return f".{path}".endswith(f".{name}") or name.endswith(f".{path}")


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
    keys: int
    """Number of keys that attention reads. If examples have a shared prefix, its keys are computed once, but
    each example reads them."""
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


class Sharding(NamedTuple):
    """How FSDP shards a model."""

    ranks: int
    gathered: int
    """Number of bytes of a gathered weight. Shards have 4 bytes per weight."""


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
