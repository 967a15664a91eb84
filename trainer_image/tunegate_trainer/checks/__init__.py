"""Checks of data, golden sets and templates before training."""
