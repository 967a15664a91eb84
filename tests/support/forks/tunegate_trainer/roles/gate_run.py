"""``python -m tunegate_trainer.roles.gate_run``."""

from fork_client import run_role

run_role("tunegate_trainer.roles.gate_run")
