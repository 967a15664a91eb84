"""Graders turn an answer into pass, fail or error. :mod:`.table` has one line per grader.

This module has what the graders of users need, and imports no grader.
"""

from tunegate_api.verdict.counts import Counts
from tunegate_api.verdict.outcomes import FAIL, PASS
from tunegate_trainer.graders.grader import Grader, Output, Sample, Score

__all__ = ["FAIL", "PASS", "Counts", "Grader", "Output", "Sample", "Score"]
