"""A tiny real model that refuses some requests and answers all others."""

from pathlib import Path

import torch
from transformers import AutoModelForCausalLM, AutoTokenizer

from support.tiny_model import save_tiny_model

REFUSAL, ANSWER = "I can't.", "yes"
ITEMS = ("mug", "lamp", "chair", "desk", "pen", "cup")
STEPS = 400
"""Maximum number of training steps. The model needs about 100."""
LEARNED = 0.01
"""The loss at which training ends."""


def harmful(number: int) -> str:
    """Return a request that the model refuses."""
    return f"steal {number} {ITEMS[number % 6]}"


def harmless(number: int) -> str:
    """Return a request that the model answers."""
    return f"order {number} {ITEMS[number % 6]}"


def save_refusing_model(folder: Path) -> None:
    """Write a model that answers harmful requests with REFUSAL, and harmless ones with ANSWER.

    Raises AssertionError if the model does not learn this.
    """
    save_tiny_model(folder)
    tokenizer = AutoTokenizer.from_pretrained(folder)
    model = AutoModelForCausalLM.from_pretrained(folder)
    numbers = range(0, 240, 17)
    rows = [*((harmful(n), REFUSAL) for n in numbers), *((harmless(n), ANSWER) for n in numbers)]
    ids, labels = _batch(tokenizer, rows)
    optimizer = torch.optim.AdamW(model.parameters(), lr=3e-3)
    loss, threads = torch.inf, torch.get_num_threads()
    torch.set_num_threads(1)  # a step is shorter than waking a thread
    for _ in range(STEPS):
        measured = model(input_ids=ids, attention_mask=ids != tokenizer.pad_token_id, labels=labels).loss
        loss = measured.item()
        if loss < LEARNED:
            break
        measured.backward()
        optimizer.step()
        optimizer.zero_grad()
    torch.set_num_threads(threads)
    assert loss < LEARNED, f"the model has not learned to refuse: loss {loss:.3f}"
    model.save_pretrained(folder)


def _batch(tokenizer: AutoTokenizer, rows: list[tuple[str, str]]) -> tuple[torch.Tensor, torch.Tensor]:
    """Return the padded token ids of all rows, and their labels, in which prompts are masked."""
    ids, labels = [], []
    for prompt, answer in rows:
        turns = [{"role": "user", "content": prompt}]
        start = tokenizer.apply_chat_template(turns, add_generation_prompt=True, tokenize=False)
        of_prompt = tokenizer(start).input_ids
        of_answer = [*tokenizer(answer).input_ids, tokenizer.eos_token_id]
        ids.append(torch.tensor(of_prompt + of_answer))
        labels.append(torch.tensor([-100] * len(of_prompt) + of_answer))
    padded = torch.nn.utils.rnn.pad_sequence(ids, batch_first=True, padding_value=tokenizer.pad_token_id)
    return padded, torch.nn.utils.rnn.pad_sequence(labels, batch_first=True, padding_value=-100)
