"""Experiment tracking: copy a job's metrics from the volume to MLflow and Weights & Biases.

There is no queue: each attempt compares the files with the metrics that the tracker has, and sends the
difference. If an attempt fails, the next attempt or pod sends the missing metrics. Metrics are sent by a
separate process, so that a slow, unreachable or misconfigured tracker does not delay training.
"""
