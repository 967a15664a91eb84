"""Twenty interruptions at random moments, also in starts and checkpoint writes, do not change the results."""

import json
import os
import random
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

from support.trainer_root import STAGE, TrainerRoot, dpo_plan
from tunegate_api.contract.process import ROOT_VARIABLE, ExitCode
from tunegate_trainer.process.files import is_complete, verify

pytestmark = [pytest.mark.resume, pytest.mark.timeout(1800)]

STEPS = 300
EVERY = 10
INTERRUPTIONS = 10
"""The number of interruptions per stage. The job has two stages."""
SIGTERM_WRITE = 5
"""The number of the interruption during a write that is a SIGTERM instead of a SIGKILL."""
SEED = 20260303


class Attempts:
    """The attempts of one stage, each in its own process."""

    def __init__(self, root: TrainerRoot, stage: str, start_step: int | None) -> None:
        self._root, self._stage, self._start_step = root, stage, start_step
        self.folder = root.workspace / root.paths.stage(stage)
        self.number = 0

    def start(self) -> subprocess.Popen[bytes]:
        self.number += 1
        start = ["--start-step", str(self._start_step)] if self._start_step else []
        return subprocess.Popen(
            [
                *(sys.executable, "-m", "tunegate_trainer", "train", "--stage", self._stage),
                *("--attempt", str(self.number), *start),
            ],
            env=os.environ | {ROOT_VARIABLE: str(self._root.path), "OMP_NUM_THREADS": "1"},
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
        )

    def interrupt(self, when: Callable[[], bool], delay: float, kind: signal.Signals) -> bool:
        """Run one attempt, and send a signal ``delay`` seconds after ``when``. Return False if it ended
        before."""
        process = self.start()
        deadline = time.monotonic() + 120
        while not when() and process.poll() is None:
            assert time.monotonic() < deadline, "the moment never came"
            time.sleep(0.0005)
        time.sleep(delay)
        if process.poll() is None:
            process.send_signal(kind)
        log, _ = process.communicate(timeout=120)
        expected = -signal.SIGKILL if kind == signal.SIGKILL else ExitCode.INTERRUPTED
        assert process.returncode in (expected, ExitCode.OK), log.decode()[-3000:]
        return process.returncode != ExitCode.OK

    def finish(self) -> float:
        """Run an attempt without interruption. Return the seconds until its first step."""
        process, begin, before = self.start(), time.monotonic(), self.lines()
        while self.lines() == before and process.poll() is None and time.monotonic() < begin + 120:
            time.sleep(0.01)
        until_first_step = time.monotonic() - begin
        log, _ = process.communicate(timeout=300)
        assert process.returncode == ExitCode.OK, log.decode()[-3000:]
        return until_first_step

    def lines(self) -> int:
        path = self.folder / "losses.jsonl"
        return path.read_bytes().count(b"\n") if path.exists() else 0

    def is_saving(self) -> bool:
        """Return whether a checkpoint is being written and not yet complete."""
        return any(True for _ in self.folder.glob("scratch-*/checkpoint-*"))


def interrupt_repeatedly(attempts: Attempts, rng: random.Random, start_seconds: float) -> list[str]:
    """Interrupt the stage repeatedly, and return a description of each interruption.

    An attempt takes ``start_seconds`` until its first step. In the second half of them it loads and merges
    models, evaluates the base model, and computes the DPO reference.
    """
    done: list[str] = []
    while len(done) < INTERRUPTIONS:
        kind = rng.choice([signal.SIGKILL, signal.SIGTERM])
        seen = attempts.lines()
        at_start, in_write = len(done) % 3 == 0, len(done) % 3 == 2
        if in_write:  # one of them is SIGTERM, which lets the write finish
            kind = signal.SIGTERM if len(done) == SIGTERM_WRITE else signal.SIGKILL
            moment, delay = attempts.is_saving, rng.uniform(0, 0.004)
        elif at_start:
            moment, delay = (lambda: True), rng.uniform(0.5, 1) * start_seconds
        else:
            moment, delay = (lambda seen=seen: attempts.lines() > seen), rng.uniform(0, 0.6)
        if not attempts.interrupt(moment, delay, kind):
            break
        # At a start, there may be partial files of an earlier attempt.
        cut_short = attempts.is_saving() and not at_start
        assert not (cut_short and kind is signal.SIGTERM), "what is being written is finished"
        if in_write and kind is signal.SIGKILL and not cut_short:
            continue  # the write was complete before the signal came: try the next one
        where = "inside the checkpoint after" if cut_short or (in_write and kind is signal.SIGTERM) else "at"
        done.append(f"{kind.name} {where} step {attempts.lines()}")
    return done


@pytest.fixture
def make_both(make_root) -> Callable[[], TrainerRoot]:
    def make() -> TrainerRoot:
        steps = tuple(range(EVERY, STEPS + 1, EVERY))
        return make_root(checkpoint_steps=steps, later=[dpo_plan(checkpoint_steps=steps)])

    return make


def test_twenty_interruptions_do_not_change_the_results(make_both):
    whole, root = make_both(), make_both()
    rng = random.Random(SEED)
    done = []
    for stage, start_step in ((STAGE, None), ("dpo", STEPS)):
        start_seconds = Attempts(whole, stage, start_step).finish()
        attempts = Attempts(root, stage, start_step)
        done += [f"{stage}: {what}" for what in interrupt_repeatedly(attempts, rng, start_seconds)]
        attempts.finish()
    assert len(done) == 2 * INTERRUPTIONS, done
    for stage in (STAGE, "dpo"):
        for kind in ("SIGKILL", "SIGTERM"):
            assert any(what.startswith(f"{stage}: {kind} inside the checkpoint") for what in done), done
        assert any(what.startswith(stage) and what.endswith("at step 0") for what in done), done
    for stage in (STAGE, "dpo"):
        assert root.losses(stage) == pytest.approx(whole.losses(stage), rel=1e-4)
        assert root.losses(stage) == whole.losses(stage), "to the last bit, with one thread"
        left, right = (weights(r.checkpoint(STEPS, stage)) for r in (whole, root))
        assert all(torch.equal(left[name], right[name]) for name in left)
        for step in (0, EVERY, STEPS):
            before, after = (r.evaluation(step, stage) for r in (whole, root))
            assert (after.outcomes, after.digest) == (before.outcomes, before.digest)
        folder = root.workspace / root.paths.stage(stage)
        assert not list(folder.glob("scratch-*"))
        for checkpoint in folder.glob("step-*"):
            assert is_complete(checkpoint)
            assert not verify(checkpoint)
        assert [line["step"] for line in losses(folder)] == list(range(1, STEPS + 1))


def weights(checkpoint: Path) -> dict[str, torch.Tensor]:
    found: dict[str, torch.Tensor] = load_file(checkpoint / "adapter_model.safetensors")
    return found


def losses(folder: Path) -> list[dict[str, float]]:
    return [json.loads(line) for line in (folder / "losses.jsonl").read_text().splitlines()]
