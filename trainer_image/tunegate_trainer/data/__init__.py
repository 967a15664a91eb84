"""Data: sources, rows, split and plan, before any GPU is asked for."""

from tunegate_trainer.data.role import run

__all__ = ["run"]
