"""``python -m tunegate_trainer.roles.sample``."""

from fork_client import run_role

run_role("tunegate_trainer.roles.sample")
