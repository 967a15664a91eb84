"""The memory of one transformer block and of the layers around the blocks, in bytes.

A block is like that of Llama: RMSNorm, attention with rotary position embeddings and grouped queries, and a
gated MLP. The counts follow what autograd saves in the model code of transformers and in PEFT's LoRA layers.
The tests of this package compare them with the memory that PyTorch allocates.
"""

from functools import cached_property

from tunegate_api.contract.plan import TrainingParameters
from tunegate_api.contract.shapes import Accelerator, GenerationBatch, LinearShape, ModelShape, Pass, Sharding

FLOAT32, BFLOAT16, INT64 = 4, 2, 8
_BYTES = {"float32": FLOAT32, "float16": 2, "bfloat16": BFLOAT16}
_NF4_BYTES = 0.5 + 1 / 64 + FLOAT32 / (64 * 256)
"""Bytes per weight in NF4: 4 bits, an 8-bit scale per 64 weights, and a float32 scale per 256 of the 8-bit
scales (QLoRA, arXiv 2305.14314, section 3)."""
_SHORT = 256
"""Maximum length of an example for which attention on a CPU keeps all probabilities. The trainer's
``train/attention.py`` has the same limit."""


def base_weights(model: ModelShape, *, stored: int, is_quantized: bool) -> int:
    """Return the bytes of a base model's weights, of which those that are not quantized have ``stored`` bytes
    each."""
    in_4_bits = model.quantized if is_quantized else 0
    return round(in_4_bits * _NF4_BYTES) + (model.parameters - in_4_bits) * stored


class Block:
    """The memory of each part for one model, stage and pass. All properties are in bytes, unless stated
    otherwise."""

    def __init__(
        self,
        model: ModelShape,
        stage: TrainingParameters,
        largest: Pass,
        accelerator: Accelerator,
        sharding: Sharding | None = None,
    ) -> None:
        self._model, self._stage, self._pass = model, stage, largest
        self._on_gpu = accelerator == "GPU"
        self.has_adapter = stage.adapter != "None"
        # A sharded model computes in the type in which it gathers weights.
        self._stored = sharding.gathered if sharding else _BYTES[stage.dtype]
        self._has_kernels = self._on_gpu and model.takes_kernels and sharding is None
        # A GPU multiplies in bfloat16. If weights and hidden states are float32, it multiplies copies.
        self._multiplies_copies = self._on_gpu and not self.has_adapter and self._stored == FLOAT32
        self._computed = BFLOAT16 if self._on_gpu else self._stored
        self._query = model.heads * model.head_size

    # Needed in every step

    @property
    def weights(self) -> int:
        """Weights of the base model."""
        is_quantized = self._stage.quantization is not None
        return base_weights(self._model, stored=_BYTES[self._stage.dtype], is_quantized=is_quantized)

    @cached_property
    def trained(self) -> int:
        """Number of trained weights: all weights of the model, or only the weights of the adapter."""
        if not self.has_adapter:
            return self._model.parameters
        return self._model.adapter_weights(self._stage.target_modules or [], self._rank)

    @property
    def moments(self) -> int:
        """Number of values in the optimizer state. AdamW has two values per trained weight (arXiv
        1711.05101). Adafactor has one value per row and per column of a matrix, and one per weight of a norm
        (arXiv 1804.04235)."""
        if not self._is_adafactor:
            return 2 * self.trained
        if self.has_adapter:
            return sum(
                (one.inputs + one.outputs + 2 * self._rank * one.matrices) * one.count
                for one in self._targets
            )
        model = self._model
        matrices = sum((one.inputs + one.outputs) * one.matrices * one.count for one in model.linears)
        ends = (model.vocabulary + model.hidden_size) * (1 if model.is_tied else 2)
        return matrices + ends + (2 * model.layers + 1) * model.hidden_size

    @property
    def update(self) -> int:
        """Temporary tensors of an optimizer update. On a GPU, the fused AdamW needs none, and the other AdamW
        updates all weight tensors at once (``foreach`` of torch.optim.AdamW), so it needs temporary tensors
        for all of them. Otherwise, one weight tensor is updated at a time."""
        if self._on_gpu and not self._is_adafactor:
            return 0 if self._stage.optim == "adamw_torch_fused" else FLOAT32 * self.trained
        sizes = [one.weights // one.count for one in self._model.linears] + [self._model.embedding]
        if self.has_adapter:
            sizes = [max(one.inputs, one.outputs) * self._rank * one.matrices for one in self._targets]
        return 2 * FLOAT32 * max(sizes, default=0)

    # Activations of a block

    @cached_property
    def stream(self) -> int:
        """Hidden states before a block. With activation checkpointing, no other activations of the block are
        kept."""
        return self._hidden(FLOAT32 if self._multiplies_copies else self._stored)

    @cached_property
    def saved(self) -> int:
        """All activations that one block keeps for the backward pass."""
        own = 2 * self._norm + self._query_norms + self._attention + self._gate + self._linear_inputs
        return own + self._experts + self._trained_experts + self._changed_weights

    @property
    def _norm(self) -> int:
        """Activations of a norm: the input in float32 and, if the norm is trained, the normalized values. A
        kernel keeps the input as it is."""
        return self.stream if self._has_kernels else self._hidden(FLOAT32 + self._normalized)

    @property
    def _query_norms(self) -> int:
        """Activations of the norms of queries and keys, as those of other norms."""
        if not self._model.has_query_norms:
            return 0
        keys = self._model.key_value_heads * self._model.head_size
        each = self._computed if self._has_kernels else FLOAT32 + self._normalized
        return self._pass.tokens * (self._query + keys) * each

    @property
    def _attention(self) -> int:
        """Activations of attention: queries, keys, values and the output. On a CPU, keys and values are
        repeated for each query head, unless the pass has a single example that is longer than ``_SHORT``."""
        each = self._pass.tokens * self._query
        read = 2 * self._pass.keys * self._query
        if self._model.keeps_probabilities:
            return self._computed * (each + read) + self._probabilities
        if not self._on_gpu and self._pass.longest <= _SHORT:  # in float32, with all probabilities
            return FLOAT32 * (each + read + self._model.heads * self._pass.squares)
        sums = FLOAT32 * self._model.heads * self._pass.tokens
        if self._on_gpu or self._pass.examples == 1:  # needs no mask, and no repeated keys and values
            keys = self._pass.tokens * self._model.key_value_heads * self._model.head_size
            return self._computed * (2 * each + 2 * keys) + sums
        return self._computed * (2 * each + read + self._pass.squares) + sums

    @property
    def _gate(self) -> int:
        """Activations of the gated MLP: the gate before its activation function, the values that the gate is
        multiplied with and, without a kernel, the gate after its activation function."""
        kept = 2 if self._has_kernels else 3
        return kept * self._pass.tokens * self._model.intermediate_size * self._computed

    @property
    def _probabilities(self) -> int:
        """The attention probabilities of all pairs of tokens. 0 with fused attention."""
        heads = self._model.heads if self._model.keeps_probabilities else 0
        return self._computed * heads * self._pass.squares

    @property
    def _experts(self) -> int:
        """Activations of the routed experts, as a mean over all blocks. For each expert of a token: the
        values of its gate, its output, which is multiplied with a weight, and its position in four orders.
        For each token: the probabilities of all experts."""
        experts = self._model.experts
        if experts is None:
            return 0
        values = self._computed * (experts.kept_values * experts.size + self._model.hidden_size)
        each = experts.per_token * (values + 4 * INT64) + FLOAT32 * experts.experts
        return self._pass.tokens * each * experts.layers // self._model.layers

    @property
    def _trained_experts(self) -> int:
        """The inputs of the tensors of experts that are trained, for each expert of a token, as a mean over
        all blocks."""
        trained = self._targets if self.has_adapter else self._model.linears
        per_token = self._model.experts.per_token if self._model.experts else 0
        inputs = sum(one.inputs * one.count for one in trained if one.is_stacked)
        return self._computed * self._pass.tokens * per_token * inputs // self._model.layers

    @property
    def _changed_weights(self) -> int:
        """The sums of the weights that PEFT changes and the products of the adapter's matrices, as a mean
        over all blocks."""
        return self._stored * sum(one.weights for one in self._changed) // self._model.layers

    @property
    def _linear_inputs(self) -> int:
        """Inputs of the layers with trained weights, which are needed to compute the gradients of these
        weights."""
        layers = self._model.layers
        with_gradient = self._changed if self.has_adapter else self._model.linears
        whole = [one for one in with_gradient if not one.is_stacked]
        trained = [one for one in self._targets if one not in self._changed]
        if self._multiplies_copies:
            return self._pass.tokens * BFLOAT16 * _inputs(whole) // layers  # a copy for each layer
        of_whole = self._computed * _read_once(whole)
        if not self.has_adapter:
            return self._pass.tokens * of_whole
        each, shared = _inputs(trained) // layers, _read_once(trained)
        of_number = BFLOAT16 if self._on_gpu else FLOAT32
        # The input of the second factor.
        of_adapter = of_number * self._rank * sum(one.count for one in trained) // layers
        if self._stage.lora_dropout:  # the input of each adapter after dropout, and the dropout mask
            inputs = each * (of_number + (1 if self._on_gpu else FLOAT32))
        else:  # on a CPU, if the base has another type than the adapter, a copy for each layer
            inputs = of_number * (shared if self._on_gpu or self._stored == FLOAT32 else each)
        return self._pass.tokens * (of_adapter + inputs + of_whole)

    # Outside the blocks

    @property
    def ends(self) -> int:
        """Activations outside the transformer blocks: the last norm and the rotary position embeddings. On a
        CPU, also the mask that separates examples; on a GPU, the copy of an adapter in bfloat16. In full
        fine-tuning, also the hidden states of the tokens with loss."""
        tokens, more = self._pass.tokens, 0
        if not self._on_gpu and self._pass.examples > 1:
            more += tokens**2
        if self._on_gpu and self.has_adapter:
            more += BFLOAT16 * self.trained
        if not self.has_adapter:
            more += self._pass.labelled * self.stream // self._pass.tokens
        return self._norm + 2 * tokens * self._model.head_size * self._stored + more

    @property
    def copies(self) -> int:
        """Copies of all weight matrices in bfloat16. A GPU computes with them in full fine-tuning, and
        autocast keeps them. 0 with an adapter, without a GPU, or if FSDP gathers weights in bfloat16."""
        return self.head_copy + BFLOAT16 * self._model.linear if self._multiplies_copies else 0

    @property
    def head_copy(self) -> int:
        """The part of :attr:`copies` that is the copy of the output head."""
        return BFLOAT16 * self._model.embedding if self._multiplies_copies else 0

    @property
    def block_copies(self) -> int:
        """The part of :attr:`copies` that is the copies of one block."""
        return (self.copies - self.head_copy) // self._model.layers

    @property
    def head_gradient(self) -> int:
        """Gradient of the output head. 0 if an adapter is trained."""
        return 0 if self.has_adapter else FLOAT32 * self._model.embedding

    @property
    def embedding_gradient(self) -> int:
        """Gradient of the input embedding, if the output head is tied to it. It is needed in addition to
        ``head_gradient``, the gradient of the output head. 0 if the output head is not tied, or if an adapter
        is trained."""
        return self.head_gradient if self._model.is_tied else 0

    @property
    def backward(self) -> int:
        """Gradients of hidden states in the backward pass of a block's MLP, and dequantized weights. They are
        needed in addition to the kept activations."""
        inner, hidden = self._pass.tokens * self._model.intermediate_size, self._hidden(1)
        of_weights = self._dequantized + 2 * self._probabilities
        if experts := self._model.experts:
            inner += self._pass.tokens * experts.per_token * (experts.size + self._model.hidden_size)
        # The gradient of a changed tensor, and that of its change.
        of_weights += 2 * self._stored * max((one.weights // one.count for one in self._changed), default=0)
        if self.has_adapter and self._stored < FLOAT32 and not self._on_gpu:
            return (2 * inner + 2 * hidden) * FLOAT32 + of_weights
        return (2 * inner + 2 * hidden) * self._computed + of_weights

    @property
    def _dequantized(self) -> int:
        """The dequantized weights of the largest linear layer. 0 without quantization."""
        if not self._stage.quantization:
            return 0
        layers = [one.inputs * one.outputs for one in self._model.linears if not one.is_stacked]
        return max(layers, default=0) * self._stored

    # Evaluation

    def generating(self, largest: GenerationBatch) -> int:
        """Return the memory that is needed to generate the outputs of the batch ``largest``.

        The memory at two moments is computed, and the larger is returned. While the prompts are read, memory
        contains the keys and values of the prompts, and the activations of a block. At the end of generation,
        it contains the keys and values of all tokens, and those of one layer twice, because they are copied
        when they are extended. Without fused attention, they are copied for each query head.
        """
        model, prompts = self._model, largest.prompts * largest.longest
        token = 2 * model.key_value_heads * model.head_size * self._stored
        # The gate, and the output of the layer that it is multiplied with. The output of an adapter counts
        # twice, in float32, and three times on a CPU with a base of another type. If the adapter is merged,
        # only the product of gate and layer counts.
        sums = 1 if self._is_merged else 2 if self._on_gpu or self._stored == FLOAT32 else 3
        # A layer that computes both factors of the gate at once has twice as many outputs.
        both = any(one.outputs == 2 * model.intermediate_size for one in model.linears)
        sums *= 2 if both else 1
        inner = model.intermediate_size * (2 * self._stored + (sums * FLOAT32 if self.has_adapter else 0))
        hidden = model.hidden_size * (2 * self._stored + 2 * FLOAT32)
        if experts := model.experts:  # copies of the token, and the values of the gate
            inner += (
                experts.per_token
                * self._stored
                * (2 * model.hidden_size + experts.kept_values * experts.size)
            )
        if model.has_query_norms:
            inner += self._query * FLOAT32
        mask = largest.longest * (1 + self._stored)
        if model.keeps_probabilities:
            mask += 2 * self._stored * model.heads * largest.longest
        reading = prompts * (inner + hidden + mask) + token * largest.prompts * self._cached(largest.longest)
        merged = FLOAT32 * sum(one.weights for one in self._targets) if self._is_merged else 0
        longest = largest.longest + largest.new_tokens
        copied = 2 * self._query * self._stored if model.keeps_probabilities else token
        grown = self.cache(largest) + largest.prompts * copied * longest
        logits = largest.prompts * model.vocabulary * self._stored
        return max(reading, grown) + logits + self._dequantized + merged + self.copies

    def cache(self, largest: GenerationBatch) -> int:
        """Return the memory of the keys and values of all tokens of a batch."""
        token = 2 * self._model.key_value_heads * self._model.head_size * self._stored
        return largest.prompts * token * self._cached(largest.longest + largest.new_tokens)

    # Helpers

    @property
    def _normalized(self) -> int:
        """Bytes of a normalized value, which is kept for the gradient of a trained norm."""
        if self.has_adapter:
            return 0
        return FLOAT32 if self._multiplies_copies else self._stored

    def _cached(self, longest: int) -> int:
        """Return how many tokens of a text the caches of all layers have together. A layer with a window
        keeps the tokens that the next one attends to."""
        windowed = self._model.windowed_layers
        return (self._model.layers - windowed) * longest + windowed * min(longest, self._model.window - 1)

    @property
    def _is_adafactor(self) -> bool:
        return self._stage.optim == "adafactor"

    @property
    def _rank(self) -> int:
        return self._stage.lora_r or 0

    @property
    def _is_merged(self) -> bool:
        """Whether an evaluation merges the adapter into a copy of the weights, see the trainer's
        ``evaluate/merged.py``."""
        return self.has_adapter and self._stored == FLOAT32 and not self._stage.quantization

    @cached_property
    def _targets(self) -> list[LinearShape]:
        return self._model.targets(self._stage.target_modules or []) if self.has_adapter else []

    @cached_property
    def _changed(self) -> list[LinearShape]:
        """The targets whose weights PEFT changes in each pass, instead of adding the output of an adapter."""
        return self._model.changed(self._stage.target_modules or []) if self.has_adapter else []

    def _hidden(self, bytes_each: int) -> int:
        return self._pass.tokens * self._model.hidden_size * bytes_each


def _inputs(linears: list[LinearShape]) -> int:
    """Return the number of values per token that layers read, if each layer has a copy of its input."""
    return sum(one.inputs * one.count for one in linears)


def _read_once(linears: list[LinearShape]) -> int:
    """Return the number of values per token that the layers of a block read, if layers with the same input
    share it."""
    return sum(inputs for _, inputs in {(one.reads, one.inputs) for one in linears})
