"""What a stage is trained with where its spec leaves it open, by method, size of the model and rows.

docs/parameters.md has the reasons and the sources.
"""

from tunegate_api.v1alpha1.stages import Stage

BATCH_SIZE = 16
"""Examples of an optimizer step."""
SMALL, LARGE = 1_000_000_000, 20_000_000_000
"""Parameters: below the first a model bears higher learning rates, from the second on only lower ones."""
MEDIUM = 4_000_000_000
"""The same where all weights are trained."""
FEW_ROWS, MANY_ROWS, MOST_ROWS = 500, 10_000, 50_000
RANK, RANK_OF_MANY_ROWS = 16, 64


def learning_rate(stage: Stage, parameters: int) -> float:
    """The peak learning rate for a model of so many ``parameters``."""
    if stage.method == "DPO":
        return 5e-6 if stage.adapter else 5e-7
    if stage.adapter:
        return 5e-4 if parameters < SMALL else 2e-4 if parameters < LARGE else 1e-4
    return 5e-5 if parameters < SMALL else 2e-5 if parameters < MEDIUM else 1e-5


def epochs(stage: Stage, rows: int) -> int:
    """Passes over so many training ``rows``, of DPO pairs."""
    if stage.method == "DPO":
        return 1
    if rows < FEW_ROWS:
        return 5
    return 3 if rows <= MANY_ROWS else 2 if rows <= MOST_ROWS else 1


def lora_rank(rows: int) -> int:
    """The rank of a new adapter that learns from so many ``rows`` or pairs."""
    return RANK if rows <= MANY_ROWS else RANK_OF_MANY_ROWS
