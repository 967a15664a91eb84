"""Pauses between retries."""

from itertools import islice

from tunegate_trainer.process.backoff import backoff


def test_backoff_pauses_double_up_to_the_longest() -> None:
    assert list(islice(backoff(0.5, 3), 6)) == [0.5, 1, 2, 3, 3, 3]
