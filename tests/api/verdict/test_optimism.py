"""By how much the best of several measured pass rates is too high."""

import random
from statistics import fmean

import pytest

from tunegate_api.verdict.optimism import best_rate, optimism, optimism_text


@pytest.mark.parametrize(
    ("measurements", "cases", "rate"), [(2, 20, 0.5), (10, 50, 0.922), (5, 100, 0.3), (20, 30, 0.98)]
)
def test_expected_best_rate_agrees_with_a_simulation(measurements, cases, rate):
    numbers = random.Random(7)

    def measured() -> float:
        return sum(numbers.random() < rate for _ in range(cases)) / cases

    simulated = fmean(max(measured() for _ in range(measurements)) for _ in range(1500))
    assert best_rate(measurements, cases, rate) == pytest.approx(simulated, abs=0.004)


@pytest.mark.parametrize("rate", [0.0, 0.25, 1.0])
def test_one_measurement_is_not_optimistic(rate):
    assert best_rate(1, 40, rate) == pytest.approx(rate)
    assert optimism(1, 30, 40) == 0


def test_best_of_ten_at_97_percent_truly_has_92_percent():
    """The best of ten independent rates on 50 cases of a model with 92.2 % reads 97.4 % on average."""
    assert best_rate(10, 50, 0.922) == pytest.approx(0.974, abs=0.0005)
    # If only 4 of the 50 cases toss a coin, the best reads 95.1 %.
    assert 0.922 + (4 * best_rate(10, 4, 0.5) - 2) / 50 == pytest.approx(0.951, abs=0.0005)
    assert optimism(10, 487, 500, independent=50) == pytest.approx(5.2, abs=0.05)


def test_optimism_grows_with_measurements_and_falls_with_cases():
    assert optimism(2, 45, 50) < optimism(10, 45, 50) < optimism(40, 45, 50)
    assert optimism(10, 900, 1000) < optimism(10, 90, 100) < optimism(10, 45, 50)


def test_passing_every_case_may_be_optimistic_but_not_passing_none():
    assert 3 < optimism(10, 50, 50) < 8
    assert optimism(10, 0, 50) == pytest.approx(0, abs=0.01)
    assert optimism(10, 0, 0) == 0


def test_upper_bound_is_rounded_up():
    assert [optimism_text(points) for points in (0.0, 5.0, 5.04, 5.05)] == ["0.0", "5.0", "5.1", "5.1"]
