"""``python -m tunegate_trainer.code CODE``: like ``python -c CODE``, in a fork of the trainer's server."""

from fork_client import run_role

run_role("code")
