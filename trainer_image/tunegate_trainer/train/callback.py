"""The trainer callback, which handles losses, reports, checkpoints, evaluations, the stop rule and SIGTERM
between optimizer steps."""

import logging
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from transformers import TrainerCallback, TrainerControl, TrainerState, TrainingArguments

from tunegate_api.verdict.stop_rule import StopAction
from tunegate_trainer.distributed.ranks import Ranks
from tunegate_trainer.process.interruption import Interrupted, Interruption
from tunegate_trainer.train.checkpoints import CheckpointFolder
from tunegate_trainer.train.losses import LossFile
from tunegate_trainer.train.overrides import StageTrainer
from tunegate_trainer.train.progress import ProgressReporter
from tunegate_trainer.train.record import StageRecord

logger = logging.getLogger(__name__)


class StageCallback(TrainerCallback):
    """Controls the training of one stage. All data that its decisions depend on is also on disk, so that a
    resumed run decides in the same way."""

    def __init__(
        self,
        *,
        checkpoints: CheckpointFolder,
        record: StageRecord,
        losses: LossFile,
        progress: ProgressReporter,
        interruption: Interruption,
        evaluate_checkpoint: Callable[[int], None],
        ranks: Ranks,
    ) -> None:
        self._checkpoints = checkpoints
        self._record = record
        self._losses = losses
        self._progress = progress
        self._interruption = interruption
        self._evaluate_checkpoint = evaluate_checkpoint
        self._ranks = ranks
        self._next_step = record.next_step()
        self._tokens = 0
        self._step_tokens = 0
        self._reward_sums = [0.0, 0.0]
        self._step_rewards: list[float] = []
        self._time = 0.0
        self.trainer: StageTrainer | None = None
        """Set after the trainer is created."""

    def on_train_begin(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **_: Any
    ) -> None:
        del args, state, control
        self._time = time.monotonic()

    def on_step_end(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **_: Any
    ) -> None:
        del args
        before, self._tokens = self._tokens, self.trainer.tokens if self.trainer else 0
        # If any rank received SIGTERM, all ranks save and end after this step. A signal that comes later is
        # handled after the next step.
        tokens, interrupted, *self._step_rewards = self._ranks.sum(
            self._tokens - before, self._interruption.requested, *self._new_rewards()
        )
        self._step_tokens = int(tokens)
        control.should_save = state.global_step == self._next_step or bool(interrupted)

    def on_log(
        self,
        args: TrainingArguments,
        state: TrainerState,
        control: TrainerControl,
        logs: dict[str, float] | None = None,
        **_: Any,
    ) -> None:
        del control
        logs = logs or {}
        now = time.monotonic()
        step, seconds, step_tokens = state.global_step, now - self._time, self._step_tokens
        self._time = now
        self._losses.append(
            {
                "step": step,
                "loss": logs["loss"],
                "learning_rate": logs["learning_rate"],
                "grad_norm": logs.get("grad_norm"),
                "seconds": round(seconds, 4),
                "tokens": step_tokens,
                **self._rewards(args),
                "time": round(time.time(), 3),
            }
        )
        logger.info("step %d/%d: loss %.4f, %.1f s", step, state.max_steps, logs["loss"], seconds)
        self._progress.trained(step, logs["loss"], step_tokens, seconds)

    def _new_rewards(self) -> list[float]:
        """Return how much the last optimizer step added to the trainer's reward sums. Empty for SFT."""
        sums = self.trainer.reward_sums if self.trainer else None
        if sums is None:
            return []
        before, self._reward_sums = self._reward_sums, sums.tolist()
        return [now - then for now, then in zip(self._reward_sums, before, strict=True)]

    def _rewards(self, args: TrainingArguments) -> dict[str, float]:
        """Return the reward metrics of the last optimizer step as means over its pairs. Empty for SFT."""
        pairs = args.per_device_train_batch_size * args.gradient_accumulation_steps * self._ranks.world_size
        names = ("reward_margin", "reward_accuracy")
        sums = zip(names, self._step_rewards, strict=False)
        return {name: total / pairs for name, total in sums}

    def on_save(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **_: Any
    ) -> None:
        step = state.global_step
        self._losses.flush()
        self._checkpoints.publish(Path(str(args.output_dir)) / f"checkpoint-{step}", step)
        logger.info("checkpoint %d is complete", step)
        # A checkpoint that an interruption saved between planned ones is removed once the next one is
        # complete.
        stale = set(self._checkpoints.complete_steps()) - set(self._record.steps) - {step}
        self._checkpoints.drop(sorted(s for s in stale if s < step))
        (interrupted,) = self._ranks.sum(self._interruption.requested)
        if interrupted:
            raise Interrupted
        with self._interruption.immediate():
            if step == self._next_step:
                self._evaluate_checkpoint(step)
        self._next_step = self._record.next_step()
        found = self._record.assessment()
        if found and found.assessment.regressing:
            logger.warning("%s: %s: %s", found.assessment.action, found.source, found.assessment.message)
            control.should_training_stop |= found.assessment.action is StopAction.STOP
        self._time = time.monotonic()
