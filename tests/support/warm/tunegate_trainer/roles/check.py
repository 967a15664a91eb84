"""``python -m tunegate_trainer.roles.check``."""

from tunegate_trainer._fork import run

run("tunegate_trainer.roles.check")
