"""``python -m tunegate_trainer``."""

from fork_client import run_role

run_role("tunegate_trainer")
