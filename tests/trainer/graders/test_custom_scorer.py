"""A scorer of a user that hangs, or that needs packages which roles hide."""

import ctypes
import re
import subprocess
import sys
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path
from textwrap import dedent
from threading import Event

import numpy as np
import pytest

from tunegate_api.messages import Message
from tunegate_api.verdict.counts import Counts
from tunegate_api.verdict.outcomes import ERROR, PASS
from tunegate_trainer.evaluate.expected import Expected
from tunegate_trainer.evaluate.scoring import score_cases
from tunegate_trainer.evaluate.sets import Case
from tunegate_trainer.graders import Output, Sample, Score
from tunegate_trainer.graders.custom import CustomGrader
from tunegate_trainer.tokens.rows import Row

ROW = Row(id="row", prompt=[Message(role="user", content="?")], completion="yes")


class Hanging:
    """A scorer that waits forever, and retries after every exception."""

    def score(self, samples: Sequence[Sample]) -> list[Score]:
        del samples
        while True:
            with suppress(Exception):
                Event().wait()


class Deadlocked:
    """A scorer that waits in compiled code, which cannot be interrupted."""

    def score(self, samples: Sequence[Sample]) -> list[Score]:
        del samples
        mutex, library = ctypes.create_string_buffer(64), ctypes.CDLL(None)
        while True:
            library.pthread_mutex_lock(mutex)


def test_outputs_are_errors_if_the_scorer_hangs():
    scorer = CustomGrader(Hanging(), min_seconds=0.01, seconds_per_output=0.02)
    case = Case("a", [], "?", "?", ROW, {"custom": [Expected(scorer, "yes")]})
    for scores in score_cases([case] * 2, [Output("yes", truncated=False)] * 2):
        assert scores["custom"].outcome == ERROR
        assert "the scorer took more than 0.05 s for 2 outputs; set timeouts" in scores["custom"].explanation


class Counting:
    """A scorer that returns these counts for each output."""

    def __init__(self, counts: Counts) -> None:
        self._counts = counts

    def score(self, samples: Sequence[Sample]) -> list[Score]:
        return [Score(PASS, counts=self._counts) for _ in samples]


@pytest.mark.parametrize("counts", [Counts(True, 1), Counts(np.int64(1), np.int64(1))])
def test_counts_of_other_integer_types_are_whole_numbers(counts):
    (score,) = CustomGrader(Counting(counts)).score([Sample("?", "yes", "yes", ROW)])
    assert str(score.counts) == "1/1"


@pytest.mark.parametrize("counts", [Counts(0.83, 1), Counts(5.0, 10)])
def test_non_integer_counts_are_an_error_with_the_reason(counts):
    (score,) = CustomGrader(Counting(counts)).score([Sample("?", "yes", "yes", ROW)])
    assert score.outcome == ERROR
    assert f"counts that are not whole numbers: {counts}" in score.explanation


@pytest.mark.usefixtures("warm_roles")
def test_process_ends_if_the_scorer_cannot_be_stopped():
    code = f"""
        from {Path(__file__).stem} import CustomGrader, Deadlocked
        CustomGrader(Deadlocked(), 0.01, 0, grace_seconds=0.01).score([])
    """
    done = run_python(code, Path(__file__).parent)
    assert done.returncode == 1
    assert re.match(r'Timeout .*test_custom_scorer.py", line \d+ in score\n', done.stderr, re.DOTALL)


@pytest.mark.usefixtures("warm_roles")
def test_scorer_can_import_packages_that_roles_hide(tmp_path):
    (tmp_path / "metrics-1.0.dist-info").mkdir()
    (tmp_path / "metrics-1.0.dist-info" / "entry_points.txt").write_text("[tunegate.scorers]\nf1 = our_f1:f1")
    (tmp_path / "our_f1.py").write_text(
        dedent("""
            from sklearn.metrics import f1_score

            class F1:
                def score(self, samples):
                    import wandb
                    return [f1_score([1], [1]) for _ in samples]

            f1 = F1()
        """)
    )
    code = """
        from tunegate_trainer.graders.custom import custom_grader
        from tunegate_trainer.process.packages import hide

        hide("scipy", "sklearn", "wandb")
        print(custom_grader("f1").scorer.score(["sample"]))
    """
    done = run_python(code, tmp_path)
    assert done.stdout == "[1.0]\n", done.stderr


def run_python(code: str, folder: Path) -> subprocess.CompletedProcess[str]:
    """Run code in a new process that can import the modules in ``folder``."""
    paths = f"import sys\nsys.path[:0] = [{str(folder)!r}]\n"
    return subprocess.run(
        [sys.executable, "-m", "tunegate_trainer.code", paths + dedent(code)],
        check=False,
        capture_output=True,
        text=True,
        timeout=120,
    )
