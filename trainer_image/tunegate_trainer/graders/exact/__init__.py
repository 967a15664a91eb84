"""Graders that compare an output with what a case expects, without a server: one module per family."""
