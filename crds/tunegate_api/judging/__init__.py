"""Judgement: the cases of golden sets, their outcomes, and the verdict. No I/O."""
