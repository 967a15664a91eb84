"""``python -m tunegate_trainer.code CODE``: like ``python -c CODE``, in a fork of the warm trainer."""

from tunegate_trainer._fork import run

run("code")
