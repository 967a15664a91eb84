"""Names of the files in ``evals/STAGE/step-N/`` and ``gate/``: one for each set of cases, and the result."""

from tunegate_trainer.tokens.rows import PAIRS_PREFIX

RESULT = "result.json"
"""Written last: a folder without it does not count."""


def golden_file(gate: str) -> str:
    """The cases of a gate's golden set, one line each."""
    return f"golden-{gate}.jsonl"


def rows_file(split: str) -> str:
    """The held-out rows of ``split``, ``dev`` or ``test``, one line each."""
    return f"{split}.jsonl"


def pairs_file(split: str) -> str:
    """The held-out pairs of ``split``, one line each."""
    return f"{PAIRS_PREFIX}{split}.jsonl"


def base_file(name: str) -> str:
    """What the base model scored, beside the file ``name`` of the artifact."""
    return f"base-{name}"
