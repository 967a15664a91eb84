"""Losses and gradients of plain transformers: eager attention, one example at a time, without padding."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from torch.nn.functional import cross_entropy
from transformers import AutoConfig

from tunegate_trainer.models.architecture import auto_class
from tunegate_trainer.tokens.examples import IGNORED, Example, completion_tokens


def eager_model(folder: Path) -> Any:
    """Load a model with eager attention in float32."""
    make = auto_class(AutoConfig.from_pretrained(folder))
    return make.from_pretrained(folder, attn_implementation="eager", dtype=torch.float32).eval()


def completion_loss(model: Any, example: Example) -> torch.Tensor:
    """Return the summed loss of an example's completion."""
    logits = model(input_ids=torch.tensor([example["input_ids"]])).logits[0, :-1]
    labels = torch.tensor(example["labels"])[1:]
    return cross_entropy(logits.float(), labels, ignore_index=IGNORED, reduction="sum")


def batch_loss(model: Any, examples: Sequence[Example]) -> torch.Tensor:
    """Return the mean loss over the completion tokens of all examples."""
    total = sum(map(completion_tokens, examples))
    return torch.stack([completion_loss(model, one) for one in examples]).sum() / total


def gradient_norm(model: Any) -> float:
    """Return the norm of all gradients together."""
    gradients = [p.grad.norm() for p in model.parameters() if p.grad is not None]
    return torch.stack(gradients).norm().item()


def greedy_answer(model: Any, prompt: list[int], new_tokens: int, stop: int) -> list[int]:
    """Return what ``model.generate`` adds to a prompt."""
    ids = torch.tensor([prompt])
    found = model.generate(
        ids,
        attention_mask=torch.ones_like(ids),
        max_new_tokens=new_tokens,
        do_sample=False,
        eos_token_id=stop,
        pad_token_id=stop,
    )
    answer: list[int] = found[0, len(prompt) :].tolist()
    return answer
