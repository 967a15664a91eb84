"""Estimate the memory of a training stage from the sizes of its tensors, without a GPU.

``shapes`` has the types, ``block`` the bytes of one transformer block, ``estimate`` their sum for the largest
pass, and ``fitting`` decides whether a stage fits on a GPU, and suggests changes if it does not.
"""
