"""Data: sources, rows, split and plan, before any GPU is asked for."""
