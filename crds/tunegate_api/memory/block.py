"""What one transformer block keeps for backward, and what stands around the blocks, in bytes.

Blocks as Llama has them: RMSNorm, attention with rotary positions and grouped queries, a gated MLP. The
counts are of what autograd saves in the model code of transformers and in PEFT's LoRA layers; the test of
this package holds them against the allocator.
"""

from functools import cached_property

from tunegate_api.memory.shapes import Accelerator, GenerationBatch, LinearShape, ModelShape, Pass
from tunegate_api.plan import TrainingParameters

FLOAT32, BFLOAT16 = 4, 2
_BYTES = {"float32": FLOAT32, "float16": 2, "bfloat16": BFLOAT16}
_NF4_BYTES = 0.5 + 1 / 64 + FLOAT32 / (64 * 256)
"""Of a weight in 4 bits: with the scale of each 64 in 8 bits, and a second one of each 256 of these (QLoRA,
arXiv 2305.14314, section 3)."""
_SHORT = 256
"""Tokens of an example up to which attention on a CPU keeps all probabilities, as train/attention.py has
it."""


class Block:
    """The parts of one model, stage and pass."""

    def __init__(
        self, model: ModelShape, stage: TrainingParameters, largest: Pass, accelerator: Accelerator
    ) -> None:
        self._model, self._stage, self._pass = model, stage, largest
        self._on_gpu = accelerator == "GPU"
        self.has_adapter = stage.adapter != "None"
        self._stored = _BYTES[stage.dtype]
        # Of all weights, which are float32, a GPU multiplies bfloat16 copies; between the layers is float32.
        self._autocast = self._on_gpu and not self.has_adapter
        self._computed = BFLOAT16 if self._autocast else self._stored
        self._query = model.heads * model.head_size

    # What is there in every step

    @property
    def weights(self) -> int:
        """Of the base."""
        model, quantized = self._model, self._model.linear if self._stage.quantization else 0
        return round(quantized * _NF4_BYTES) + (model.parameters - quantized) * self._stored

    @cached_property
    def trained(self) -> int:
        """Numbers that are trained: all, or an adapter's."""
        if not self.has_adapter:
            return self._model.parameters
        return self._model.adapter_weights(self._stage.target_modules or [], self._rank)

    @property
    def moments(self) -> int:
        """Numbers that the optimizer keeps: AdamW two of each trained weight (arXiv 1711.05101), Adafactor
        one of each row and column of a matrix, and of each weight of a norm (arXiv 1804.04235)."""
        if not self._is_adafactor:
            return 2 * self.trained
        if self.has_adapter:
            return sum((one.inputs + one.outputs + 2 * self._rank) * one.count for one in self._targets)
        model = self._model
        matrices = sum((one.inputs + one.outputs) * one.count for one in model.linears)
        ends = (model.vocabulary + model.hidden_size) * (1 if model.is_tied else 2)
        return matrices + ends + (2 * model.layers + 1) * model.hidden_size

    @property
    def update(self) -> int:
        """What an optimizer computes while it changes weights: of one tensor after the other, but AdamW on a
        GPU of all of them at once (``foreach`` of torch.optim.AdamW)."""
        if self._on_gpu and not self._is_adafactor:
            return FLOAT32 * self.trained
        sizes = [one.inputs * one.outputs for one in self._model.linears] + [self._model.embedding]
        if self.has_adapter:
            sizes = [max(one.inputs, one.outputs) * self._rank for one in self._targets]
        return 2 * FLOAT32 * max(sizes, default=0)

    # What a block keeps

    @cached_property
    def stream(self) -> int:
        """The hidden states before a block: all that is kept of one that is computed again."""
        return self._hidden(FLOAT32 if self._autocast else self._stored)

    @cached_property
    def saved(self) -> int:
        """All that one block keeps for backward."""
        return 2 * self._norm + self._attention + self._gate + self._linear_inputs

    @property
    def _norm(self) -> int:
        """A norm keeps its input in float32, a trained one also what it scales."""
        return self._hidden(FLOAT32) * (1 if self.has_adapter else 2)

    @property
    def _attention(self) -> int:
        """Queries, keys and values, repeated for each query head, and the output."""
        each = self._pass.tokens * self._query
        read = 2 * (self._pass.keys or self._pass.tokens) * self._query
        if not self._on_gpu and self._pass.longest <= _SHORT:  # in float32, with all probabilities
            return FLOAT32 * (each + read + self._model.heads * self._pass.squares)
        sums = FLOAT32 * self._model.heads * self._pass.tokens
        if self._pass.examples == 1:  # needs no mask, and no repetition
            keys = self._pass.tokens * self._model.key_value_heads * self._model.head_size
            return self._computed * (2 * each + 2 * keys) + sums
        mask = self._pass.tokens**2 if self._on_gpu else self._pass.squares
        return self._computed * (2 * each + read + mask) + sums

    @property
    def _gate(self) -> int:
        """The gate before and after its activation function, and what it is multiplied with."""
        return 3 * self._pass.tokens * self._model.intermediate_size * self._computed

    @property
    def _linear_inputs(self) -> int:
        """What trained weights are multiplied with: their gradients need it."""
        trained = self._targets if self.has_adapter else self._model.linears
        layers, of_adapter = self._model.layers, 0
        each = sum(one.inputs * one.count for one in trained) // layers
        shared = sum(inputs for _, inputs in {(one.reads, one.inputs) for one in trained})
        if self._autocast:
            return self._pass.tokens * BFLOAT16 * each  # a copy for each layer
        if self.has_adapter:  # the second factor's input
            of_adapter = FLOAT32 * self._rank * sum(one.count for one in trained) // layers
        if self._stage.lora_dropout:  # what is left of the input of each adapter, and which
            inputs = each * (FLOAT32 + (1 if self._on_gpu else FLOAT32))
        else:  # below an adapter of another type a copy for each
            inputs = FLOAT32 * (shared if self._stored == FLOAT32 else each)
        return self._pass.tokens * (of_adapter + inputs)

    # What stands around the blocks

    @property
    def ends(self) -> int:
        """The last norm, the rotary positions, and a mask that tells examples apart."""
        tokens = self._pass.tokens
        mask = tokens**2 if self._pass.examples > 1 else 0
        hidden = 0 if self.has_adapter else self._pass.labelled * self._model.hidden_size * FLOAT32
        return self._norm + 2 * tokens * self._model.head_size * self._stored + mask + hidden

    @property
    def copies(self) -> int:
        """Of all weights that a GPU multiplies, in bfloat16."""
        return BFLOAT16 * (self._model.linear + self._model.embedding) if self._autocast else 0

    @property
    def head_gradient(self) -> int:
        """Of the output head, where it is trained: the largest tensor beside the embedding."""
        return 0 if self.has_adapter else FLOAT32 * self._model.embedding

    @property
    def embedding_gradient(self) -> int:
        """Of the embedding, beside the one of a head that is tied to it."""
        return self.head_gradient if self._model.is_tied else 0

    @property
    def backward(self) -> int:
        """Gradients of hidden states while a block's MLP goes backward, beside all that the block kept."""
        inner, hidden = self._pass.tokens * self._model.intermediate_size, self._hidden(1)
        of_weights = self._dequantized
        if self.has_adapter and self._stored < FLOAT32:
            return (2 * inner + 2 * hidden) * FLOAT32 + of_weights
        return (2 * inner + 2 * hidden) * self._computed + of_weights

    @property
    def _dequantized(self) -> int:
        """The largest layer as it is multiplied with."""
        if not self._stage.quantization:
            return 0
        return max((one.inputs * one.outputs for one in self._model.linears), default=0) * self._stored

    # Evaluation

    def generating(self, largest: GenerationBatch) -> int:
        """Keys and values of the prompts and what a block needs to read them; or in the end, of all tokens
        and a second copy of one layer's, which grow."""
        model, prompts = self._model, largest.prompts * largest.longest
        token = 2 * model.key_value_heads * model.head_size * self._stored
        # The gate, and the layer that it is multiplied with, with the adapter's part twice, in float32; a CPU
        # adds that to nothing but float32. An adapter inside the weights has no part, and the product counts.
        sums = 1 if self._is_merged else 2 if self._on_gpu or self._stored == FLOAT32 else 3
        inner = model.intermediate_size * (2 * self._stored + (sums * FLOAT32 if self.has_adapter else 0))
        hidden = model.hidden_size * (2 * self._stored + 2 * FLOAT32)
        mask = largest.longest * (1 + self._stored)
        reading = prompts * (token * model.layers + inner + hidden + mask)
        merged = FLOAT32 * sum(one.weights for one in self._targets) if self._is_merged else 0
        grown = (prompts + largest.prompts * largest.new_tokens) * token * (model.layers + 1)
        logits = largest.prompts * model.vocabulary * self._stored
        return max(reading, grown) + logits + self._dequantized + merged + self.copies

    # Inside

    @property
    def _is_adafactor(self) -> bool:
        return self._stage.optim == "adafactor"

    @property
    def _rank(self) -> int:
        return self._stage.lora_r or 0

    @property
    def _is_merged(self) -> bool:
        """Whether an evaluation puts the adapter into a copy of the weights, see the trainer's
        ``evaluate/merged.py``."""
        return self.has_adapter and self._stored == FLOAT32 and not self._stage.quantization

    @cached_property
    def _targets(self) -> list[LinearShape]:
        return self._model.targets(self._stage.target_modules or []) if self.has_adapter else []

    def _hidden(self, bytes_each: int) -> int:
        return self._pass.tokens * self._model.hidden_size * bytes_each
