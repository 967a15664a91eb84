"""Greedy outputs of a model on fixed cases, judged case by case."""
