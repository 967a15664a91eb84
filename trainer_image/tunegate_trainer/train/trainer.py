"""TRL's SFTTrainer with the loss of completions alone, computed at no other position."""

import math
from pathlib import Path
from typing import Any

import torch
from peft import PeftModel
from torch.nn.functional import cross_entropy
from transformers import Trainer
from trl.trainer.sft_trainer import SFTTrainer

from tunegate_trainer.errors import UserError
from tunegate_trainer.model import load_weights
from tunegate_trainer.train.examples import IGNORED


class CompletionTrainer(SFTTrainer):
    """Trains on flattened micro-batches (``padding_free``), and applies the LM head where a label is.

    SFTTrainer computes logits, entropy and accuracy for every token: on short completions that is most of a
    CPU step, and on a GPU the memory of tokens x vocabulary.
    """

    loss_is_scaled_for_ga = True  # type: ignore[assignment]
    """The loss is divided by the completion tokens of the whole optimizer step."""
    tokens = 0
    """Tokens trained on by this process, prompts included."""
    weights = Path()
    """The checkpoint that a resumed run goes on from; its state is what ``train`` is given."""

    def compute_loss(
        self,
        model: Any,
        inputs: dict[str, Any],
        return_outputs: bool = False,
        num_items_in_batch: torch.Tensor | int | None = None,
    ) -> Any:
        """Cross-entropy summed over the completion tokens of one micro-batch, over those of the whole step.

        ``inputs`` holds one row of concatenated examples, with ``position_ids`` that start again at each.
        """
        labels = inputs.pop("labels")[0, 1:]
        predictors = (labels != IGNORED).nonzero().flatten()
        # Below an adapter the base has its own type, and autocast would only cast back and forth.
        autocast = self.args.device.type == "cuda" and not isinstance(self.model, PeftModel)
        with torch.autocast("cuda", torch.bfloat16, enabled=autocast):
            outputs = model(**inputs, logits_to_keep=predictors, use_cache=False)
        targets = labels[predictors]
        loss = cross_entropy(outputs.logits[0].float(), targets, reduction="sum")
        loss = loss / (targets.numel() if num_items_in_batch is None else num_items_in_batch)
        self.tokens += inputs["input_ids"].numel()
        return (loss, outputs) if return_outputs else loss

    def log(self, logs: dict[str, float], start_time: float | None = None) -> None:  # noqa: ARG002 - overridden
        """Hand a step's numbers to the callbacks; the state, which every checkpoint holds, keeps none."""
        if "loss" not in logs:
            return
        if not math.isfinite(logs["loss"]):
            raise UserError(
                f"training diverged: the loss is {logs['loss']} at step {self.state.global_step}",
                "lower training.learningRate, or raise training.warmupFraction",
            )
        self.control = self.callback_handler.on_log(self.args, self.state, self.control, logs)

    def _load_from_checkpoint(self, resume_from_checkpoint: str, model: Any = None) -> None:
        del resume_from_checkpoint, model  # that folder has the state alone
        load_weights(self.model, self.weights)

    def _save_checkpoint(self, model: Any, trial: Any) -> None:
        Trainer._save_checkpoint(self, model, trial)  # without SFTTrainer's model card

    def _save(self, output_dir: str | None = None, state_dict: Any = None) -> None:  # noqa: ARG002 - overridden
        model: Any = self.model
        if isinstance(model, PeftModel):
            # Only the adapter: "auto" would ask the hub for the base model's vocabulary.
            model.save_pretrained(str(output_dir), save_embedding_layers=False)
        else:
            model.save_pretrained(output_dir)
