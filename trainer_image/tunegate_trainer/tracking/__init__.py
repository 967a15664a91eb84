"""Experiment tracking: what a job left on the volume so far, also in MLflow and in Weights & Biases.

No queue: each time the files are compared with what the tracker has, and the difference is sent. Whatever
kept a tracker from hearing, the next try, pod or attempt sends it. A process of its own does that, so that a
tracker that is slow, away or wrong costs training nothing.
"""
