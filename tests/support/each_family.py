"""Run a test with each model family: with a dozen of them in ``make test-slow``, and with the others in
``make test-exhaustive``."""

import pytest

from support.families import FAMILIES

DOZEN = (
    "llama-3.1",
    "phi-3.5-mini",
    "gemma-2",
    "gemma-4",
    "qwen3",
    "gpt-2",
    "mixtral",
    "gpt-oss",
    "deepseek-v3",
    "llama-4-(text)",
    "qwen3-next",
    "qwen2.5-vl",
)
"""Of each feature, one family: softcap, sliding window, sinks, MoE, MLA, hybrid, longrope, multimodal."""

each_trained_family = pytest.mark.parametrize(
    "family",
    [
        pytest.param(
            family, id=family.id, marks=pytest.mark.slow if family.id in DOZEN else pytest.mark.exhaustive
        )
        for family in FAMILIES
    ],
)
assert set(DOZEN) <= {family.id for family in FAMILIES}
