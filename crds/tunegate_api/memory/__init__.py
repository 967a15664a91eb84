"""Estimate the memory of a training stage from the sizes of its tensors, without a GPU.

``shapes`` has the types. ``block`` computes the memory of one transformer block. ``estimate`` adds up the
memory of a stage for its largest pass. ``fitting`` decides whether a stage fits on a GPU, and suggests
changes if it does not fit.
"""
