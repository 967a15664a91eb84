"""Sizes of public models from their configurations, for tests that calculate with them without weights."""

from tunegate_api.contract.shapes import LinearShape, ModelShape


def llama_like(
    *,
    vocabulary: int,
    hidden: int,
    layers: int,
    heads: int,
    key_value_heads: int,
    intermediate: int,
    tied: bool = False,
    query_biases: bool = False,
) -> ModelShape:
    """Return the sizes of a model with the same architecture as Llama."""
    size = hidden // heads
    keys = key_value_heads * size
    sizes = [
        ("self_attn.q_proj", "self_attn", hidden, hidden),
        ("self_attn.k_proj", "self_attn", hidden, keys),
        ("self_attn.v_proj", "self_attn", hidden, keys),
        ("self_attn.o_proj", "o_proj", hidden, hidden),
        ("mlp.gate_proj", "mlp", hidden, intermediate),
        ("mlp.up_proj", "mlp", hidden, intermediate),
        ("mlp.down_proj", "down_proj", intermediate, hidden),
    ]
    linears = [
        LinearShape(name=name, reads=reads, inputs=inputs, outputs=outputs, count=layers)
        for name, reads, inputs, outputs in sizes
    ]
    norms = (2 * layers + 1) * hidden
    biases = layers * (hidden + 2 * keys) if query_biases else 0
    tables = vocabulary * hidden * (1 if tied else 2)
    return ModelShape(
        parameters=sum(one.weights for one in linears) + norms + biases + tables,
        vocabulary=vocabulary,
        hidden_size=hidden,
        layers=layers,
        heads=heads,
        key_value_heads=key_value_heads,
        head_size=size,
        intermediate_size=intermediate,
        linears=linears,
        quantized=sum(one.weights for one in linears),
        sees_all_before=True,
        takes_kernels=True,
    )


QWEN_7B = llama_like(
    vocabulary=152_064,
    hidden=3584,
    layers=28,
    heads=28,
    key_value_heads=4,
    intermediate=18_944,
    query_biases=True,
)
"""Qwen2.5-7B."""
LLAMA_7B = llama_like(
    vocabulary=32_000, hidden=4096, layers=32, heads=32, key_value_heads=32, intermediate=11_008
)
"""Llama-2-7B."""
SMOLLM2 = llama_like(
    vocabulary=49_152, hidden=576, layers=30, heads=9, key_value_heads=3, intermediate=1536, tied=True
)
"""SmolLM2-135M."""
QWEN_1_5B = llama_like(
    vocabulary=151_936,
    hidden=1536,
    layers=28,
    heads=12,
    key_value_heads=2,
    intermediate=8960,
    tied=True,
    query_biases=True,
)
"""Qwen2.5-1.5B."""
LLAMA_8B = llama_like(
    vocabulary=128_256, hidden=4096, layers=32, heads=32, key_value_heads=8, intermediate=14_336
)
"""Llama-3.1-8B."""
QWEN_14B = llama_like(
    vocabulary=152_064,
    hidden=5120,
    layers=48,
    heads=40,
    key_value_heads=8,
    intermediate=13_824,
    query_biases=True,
)
"""Qwen2.5-14B."""
LLAMA_70B = llama_like(
    vocabulary=128_256, hidden=8192, layers=80, heads=64, key_value_heads=8, intermediate=28_672
)
"""Llama 3 70B."""
LLAMA_405B = llama_like(
    vocabulary=128_256, hidden=16_384, layers=126, heads=128, key_value_heads=8, intermediate=53_248
)
"""Llama 3.1 405B."""
