"""Rows in a second prompt template or with a second system prompt."""

import random
from typing import Any

from support.data_faults.clean import DataSet, chat
from support.data_faults.injected import Injected, Row, changed

WRAPPERS = {
    "alpaca": (
        "Below is an instruction that describes a task. Write a response that appropriately completes the "
        "request.\n\n### Instruction:\n{}\n\n### Response:\n"
    ),
    "instruction": "### Instruction:\n{}\n\n### Response:\n",
    "question": "Question: {}\nAnswer:",
    "llama": "[INST] {} [/INST]",
    "chatml": "<|im_start|>user\n{}<|im_end|>\n<|im_start|>assistant\n",
    "turns": "Human: {}\n\nAssistant:",
    "polite": "Hello! Could you please help me with the following?\n\n{}\n\nThank you very much.",
}
"""Prompt templates of other data sets; ``{}`` is the content."""
SYSTEM_PROMPTS = (
    "You are a helpful assistant.",
    "You are a senior engineer who answers questions of colleagues briefly.",
    None,
)
"""System prompts that differ from that of the clean sets. None: the chat has no system prompt."""


def second_template(data: DataSet, *, wrapper: str, share: float, seed: int = 0) -> Injected:
    """Put the content of a share of the rows into another template."""

    def wrap(row: Row, _order: random.Random) -> Row:
        return row | {"prompt": WRAPPERS[wrapper].replace("{}", data.content(row))}

    return changed(data.rows, wrap, count=round(share * len(data.rows)), seed=f"{wrapper} {seed}")


def second_system_prompt(
    data: DataSet, *, system: str | None, share: float, seed: int = 0
) -> tuple[list[dict[str, Any]], frozenset[int]]:
    """Return the chats of a set of which a share have another system prompt, and the lines of these."""
    if data.system is None:
        raise ValueError(f"the rows of the shape {data.shape} have no system prompt")
    order = random.Random(f"{system} {seed}")
    chosen = set(order.sample(range(len(data.rows)), round(share * len(data.rows))))
    chats = [chat(row, data.system if i not in chosen else system or "") for i, row in enumerate(data.rows)]
    if system is None:
        chats = [{"messages": c["messages"][1:]} if i in chosen else c for i, c in enumerate(chats)]
    return chats, frozenset(i + 1 for i in chosen)
