"""Publish a version: its evidence and model card, the history of versions, and the publish targets."""
