"""Base models: fetch, verify and load them, and inspect their architectures."""
