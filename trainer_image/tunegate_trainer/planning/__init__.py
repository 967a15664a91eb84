"""The plan: what a spec leaves open, resolved before a GPU is asked for."""
