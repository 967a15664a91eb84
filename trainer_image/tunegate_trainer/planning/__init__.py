"""Resolve the plan of a job before a GPU is requested."""
