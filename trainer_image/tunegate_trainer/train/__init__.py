"""The train role: one stage, from its starting weights to its last checkpoint, evaluated on the way."""

from tunegate_api.contract import Outcome

from tunegate_trainer.context import Context
from tunegate_trainer.interruption import Interruption


def run(context: Context, interruption: Interruption, accepted_step: int | None = None) -> Outcome:
    """Train ``context.stage``. ``accepted_step`` is the checkpoint at which a person said to continue.

    Returns Completed, Stopped (by the stop rule) or raises: a :class:`TrainerError` that names what is
    wrong, or ``Interrupted`` once everything is saved.
    """
    from tunegate_trainer.train.recipe import train  # torch is not for the other roles

    return train(context, interruption, accepted_step)
