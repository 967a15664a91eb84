"""Defaults of training parameters, by training method, model size and number of rows.

docs/parameters.md has the reasons and the sources.
"""

from tunegate_api.v1alpha2.pods import Resources
from tunegate_api.v1alpha2.stages import Stage

BATCH_SIZE = 16
"""Examples per optimizer step."""
SMALL, LARGE = 1_000_000_000, 20_000_000_000
"""Two model sizes in parameters. Models smaller than ``SMALL`` get a higher learning rate. Adapters of models
of size ``LARGE`` or more get a lower learning rate."""
MEDIUM = 4_000_000_000
"""Model size in parameters. If all weights are trained, models of this size or more get a lower learning
rate."""
FEW_ROWS, MANY_ROWS, MOST_ROWS = 500, 10_000, 50_000
RANK, RANK_OF_MANY_ROWS = 16, 64


def learning_rate(stage: Stage, parameters: int) -> float:
    """Return the peak learning rate for a model with this number of ``parameters``."""
    if stage.method == "DPO":
        return 5e-6 if stage.adapter else 5e-7
    if stage.adapter:
        return 5e-4 if parameters < SMALL else 2e-4 if parameters < LARGE else 1e-4
    return 5e-5 if parameters < SMALL else 2e-5 if parameters < MEDIUM else 1e-5


def epochs(stage: Stage, rows: int) -> int:
    """Return the number of passes over this number of training ``rows``, or pairs for DPO."""
    if stage.method == "DPO":
        return 1
    if rows < FEW_ROWS:
        return 5
    return 3 if rows <= MANY_ROWS else 2 if rows <= MOST_ROWS else 1


def adamw(resources: Resources) -> str:
    """Return the name of AdamW in transformers: on GPUs the one that updates all weights in one kernel."""
    return "adamw_torch_fused" if resources.accelerator == "GPU" else "adamw_torch"


def lora_rank(rows: int) -> int:
    """Return the rank of a new adapter that is trained on this number of ``rows`` or pairs."""
    return RANK if rows <= MANY_ROWS else RANK_OF_MANY_ROWS
