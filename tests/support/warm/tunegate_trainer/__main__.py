"""``python -m tunegate_trainer``."""

from tunegate_trainer._fork import run

run("tunegate_trainer")
