"""Evaluate a model on fixed cases: generate greedy outputs and score them, and compare log-probabilities of
pairs."""
