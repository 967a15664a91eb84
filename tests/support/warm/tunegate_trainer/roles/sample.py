"""``python -m tunegate_trainer.roles.sample``."""

from tunegate_trainer._fork import run

run("tunegate_trainer.roles.sample")
