"""Names of the files in the folders ``evals/STAGE/step-N/`` and ``gate/``: one file per set of cases, and
result.json."""

from tunegate_trainer.tokens.rows import PAIRS_PREFIX

RESULT = "result.json"
"""Name of the file with the result. It is written last, so a folder without this file is incomplete."""


def golden_file(gate: str) -> str:
    """Return the name of the file with the results of a gate's golden set, one case per line."""
    return f"golden-{gate}.jsonl"


def rows_file(split: str) -> str:
    """Return the name of the file with the results of held-out rows; ``split`` is ``dev`` or ``test``."""
    return f"{split}.jsonl"


def pairs_file(split: str) -> str:
    """Return the name of the file with the results of held-out pairs; ``split`` is ``dev`` or ``test``."""
    return f"{PAIRS_PREFIX}{split}.jsonl"


def base_file(name: str) -> str:
    """Return the name of the file with the base model's results. ``name`` is the file with the artifact's
    results on the same cases."""
    return f"base-{name}"
