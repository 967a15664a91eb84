"""Measure by how many points the best of several equally good checkpoints reads too high, and draw it."""

from collections.abc import Iterator
from pathlib import Path

import matplotlib as mpl
import matplotlib.pyplot as plt
import numpy as np
from measures import Measure

from tunegate_api.verdict.optimism import best_rate

SIZES = (20, 50, 100, 200, 500)
CHECKPOINTS = (2, 5, 10, 20)
TRUE_RATE = 0.9
ROUNDS = 50_000
PICTURE = Path(__file__).parents[2] / "docs" / "golden-selection.png"


def selection() -> Iterator[Measure]:
    """Compare the exact expected value with simulated checkpoints that are independent of each other."""
    random = np.random.default_rng(0)
    for checkpoints in CHECKPOINTS:
        for size in SIZES:
            passed = random.binomial(size, TRUE_RATE, (ROUNDS, checkpoints)).max(axis=1)
            simulated = 100 * (float(passed.mean()) / size - TRUE_RATE)
            yield Measure(
                f"best of {checkpoints} checkpoints, {size} cases: too high by",
                round(simulated, 2),
                "points",
                "",
                f"exact: {_too_high(checkpoints, size):.2f} points",
            )
    _draw()


def _too_high(checkpoints: int, size: int) -> float:
    return 100 * (best_rate(checkpoints, size, TRUE_RATE) - TRUE_RATE)


def _draw() -> None:
    mpl.use("agg")
    figure, axis = plt.subplots(figsize=(6, 3.4), layout="constrained")
    for checkpoints, style in zip(CHECKPOINTS, ("o-", "s-", "^-", "d-"), strict=True):
        too_high = [_too_high(checkpoints, size) for size in SIZES]
        axis.plot(range(len(SIZES)), too_high, style, label=f"{checkpoints} checkpoints")
    axis.set_xticks(range(len(SIZES)), [str(size) for size in SIZES])
    axis.set_xlabel("golden cases")
    axis.set_ylabel("best rate is too high by, points")
    axis.set_ylim(bottom=0)
    axis.grid(alpha=0.3)
    axis.legend()
    figure.savefig(PICTURE, dpi=110, metadata={"Software": ""})
