"""Scorers: one module per family, and one line per scorer in :mod:`.table`."""

from tunegate_trainer.evaluate.scorers.scorer import Output, Sample, Score, Scorer
from tunegate_trainer.evaluate.scorers.table import SCORERS

__all__ = ["SCORERS", "Output", "Sample", "Score", "Scorer"]
