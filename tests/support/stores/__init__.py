"""Servers that speak the protocols from which models and data are fetched, each with the tiny model in it."""

from support.stores.model_store import ModelStore

__all__ = ["ModelStore"]
