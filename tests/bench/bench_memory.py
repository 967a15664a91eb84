"""Compare the memory estimate with every byte that training allocates on a CPU: ``make bench-memory``.

Trains small random models with every training method, then models with the sizes of SmolLM2-135M. Prints a
table, and writes build/bench/memory.json. Each value is the estimate divided by the allocated bytes.
"""

import os
import sys
import tempfile
from collections.abc import Iterator
from dataclasses import replace
from importlib.metadata import version
from pathlib import Path

ROOT = Path(__file__).parents[2]
sys.path[:0] = [str(ROOT), str(ROOT / "tests")]
os.environ["HF_HUB_OFFLINE"] = "1"
os.environ["HF_HUB_DISABLE_TELEMETRY"] = "1"

from measures import Measure, run

from support.tensor_memory import CONFIGURATIONS, FULL, LORA, Configuration, measured

SMOLLM2 = {
    "vocab_size": 49_152,
    "hidden_size": 576,
    "intermediate_size": 1536,
    "num_hidden_layers": 30,
    "num_attention_heads": 9,
    "num_key_value_heads": 3,
    "tie_word_embeddings": True,
}
ROWS = ((180, 60), (150, 40))
LARGER = (
    Configuration("SmolLM2-135M, all weights", FULL, SMOLLM2, ROWS),
    Configuration("SmolLM2-135M, LoRA on all linear", LORA, SMOLLM2, ROWS),
    Configuration("SmolLM2-135M, QLoRA", LORA | {"quantization": "NF4"}, SMOLLM2, ROWS),
    Configuration("SmolLM2-135M, LoRA, recomputed", LORA, SMOLLM2, ((900, 100),), 1, checkpointing=True),
)


def main() -> int:
    return run(
        "memory",
        {"small": lambda: _measures(CONFIGURATIONS), "smollm2": lambda: _measures(LARGER)},
        versions=", ".join(
            f"{name} {version(name)}" for name in ("torch", "transformers", "trl", "peft", "bitsandbytes")
        ),
    )


def _measures(configurations: tuple[Configuration, ...]) -> Iterator[Measure]:
    for one in configurations:
        with tempfile.TemporaryDirectory() as folder:
            allocated, estimated = measured(one, Path(folder))
        ratio = estimated.total / allocated.peak
        measure = Measure(one.name, round(ratio, 3), "ratio", "0.9-1.1")
        yield replace(measure, peer=f"{allocated.peak / 10**6:.1f} MB allocated")


if __name__ == "__main__":
    sys.exit(main())
