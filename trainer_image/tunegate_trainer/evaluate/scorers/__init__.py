"""Scorers: one module per family, and one line per scorer in :mod:`.table`."""

from tunegate_api.verdict.counts import Counts
from tunegate_api.verdict.outcomes import FAIL, PASS
from tunegate_trainer.evaluate.scorers.scorer import Output, Sample, Score, Scorer
from tunegate_trainer.evaluate.scorers.table import SCORERS

__all__ = ["FAIL", "PASS", "SCORERS", "Counts", "Output", "Sample", "Score", "Scorer"]
