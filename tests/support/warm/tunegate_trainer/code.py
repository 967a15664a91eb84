"""``python -m tunegate_trainer.code CODE``, as ``python -c CODE`` is."""

from tunegate_trainer._fork import run

run("code")
