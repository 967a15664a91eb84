"""Validation of manifests beyond the types of their fields, and the error messages."""
