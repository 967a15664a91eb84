"""Experiment tracking: copy a job's metrics from the volume to MLflow and Weights & Biases.

There is no queue: each attempt compares the files with what the tracker has, and sends the difference. If an
attempt fails, the next attempt or pod sends the rest. A separate process does this, so that a slow,
unreachable or misconfigured tracker does not delay training.
"""
