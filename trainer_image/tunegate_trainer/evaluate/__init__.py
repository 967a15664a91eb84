"""Evaluate a model: generate greedy outputs for fixed cases, and score each case."""
