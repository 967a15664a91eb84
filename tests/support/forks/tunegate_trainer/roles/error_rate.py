"""``python -m tunegate_trainer.roles.error_rate``."""

from fork_client import run_role

run_role("tunegate_trainer.roles.error_rate")
