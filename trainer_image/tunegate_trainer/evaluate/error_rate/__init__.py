"""Measure the error rate of gates: repeated evaluations of the artifact show which cases change their outcome
by chance, and evaluations of models that are made worse on purpose show what a gate finds."""
