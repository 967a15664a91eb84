"""The trainers for SFT and DPO. Losses are computed only for labelled tokens."""

from collections.abc import Sequence
from typing import Any

import torch

from tunegate_trainer.train.overrides import PreferenceCollator, StageTrainer
from tunegate_trainer.train.preference import preference_losses

_EQUAL = 1e-3
"""Maximum difference of two log-probabilities that can be due to float32 rounding. If the answers of a pair
differ by less, neither answer counts as preferred."""


class CompletionTrainer(StageTrainer):
    """The trainer for SFT. Its loss is the cross-entropy of the completions."""

    def pass_loss(
        self, model: Any, inputs: dict[str, Any], num_items_in_batch: torch.Tensor | int | None
    ) -> torch.Tensor:
        """Return the summed loss of a pass's completion tokens, divided by the number of completion
        tokens in the whole optimizer step.

        The loss is multiplied by the world size, because the gradients are averaged over the ranks.
        ``inputs`` has one row of concatenated examples, with ``position_ids`` that restart at each example.
        """
        losses, _, balance = self.token_losses(model, inputs)
        loss = losses.sum() / (losses.numel() if num_items_in_batch is None else num_items_in_batch)
        loss = loss * self._ranks.world_size  # because DDP averages over ranks
        return self.add_balance_loss(loss, balance, in_step=num_items_in_batch is not None)


class PreferenceTrainer(StageTrainer):
    """The trainer for DPO, with the same losses as TRL, on packed pairs.

    TRL's DPOTrainer is not used: it pads pairs, computes the reference in every epoch, and keeps the
    reference as a second adapter, which would change in a resumed run.
    """

    _unit = 2

    def __init__(self, *, loss: str, beta: float, **arguments: Any) -> None:
        self._loss, self._beta = loss, beta
        self.reward_sums: torch.Tensor = torch.zeros(2, dtype=torch.float64)
        super().__init__(**arguments)
        self.data_collator = PreferenceCollator(pad_token_id=0, padding_free=True)

    def _selected(self, inputs: dict[str, Any], group: Sequence[int]) -> dict[str, Any]:
        return super()._selected(inputs, group) | {"reference": inputs["reference"][group]}

    def pass_loss(
        self, model: Any, inputs: dict[str, Any], num_items_in_batch: torch.Tensor | int | None
    ) -> torch.Tensor:
        """Return the summed loss of a pass's pairs, divided by this rank's number of pairs in the
        optimizer step.

        Also adds to ``reward_sums``. The log-ratio of an answer is its log-probability under the model minus
        its log-probability under the reference model. The reward margin of a pair is beta times the
        difference of two log-ratios: that of the chosen answer minus that of the rejected answer (equation 5
        of arXiv 2305.18290).
        """
        reference = inputs.pop("reference")
        losses, answers, balance = self.token_losses(model, inputs)
        empty = torch.zeros(reference.numel(), device=losses.device)
        log_probs = empty.index_add(0, answers, -losses).view_as(reference)
        lengths = empty.index_add(0, answers, torch.ones_like(losses)).view_as(reference)
        log_ratios = log_probs - reference
        pairs = preference_losses(log_ratios, lengths, loss=self._loss, beta=self._beta)
        # Margins are float32, so their sums in float64 are exact, and so is the difference between two steps.
        margins = (self._beta * (log_ratios[:, 0] - log_ratios[:, 1])).detach().double()
        self.reward_sums = self.reward_sums.to(margins.device) + torch.stack(
            [margins.sum(), (margins > self._beta * _EQUAL).sum().double()]
        )
        mine = self.args.per_device_train_batch_size * self.args.gradient_accumulation_steps
        loss = pairs.sum() / (pairs.numel() if num_items_in_batch is None else mine)
        return self.add_balance_loss(loss, balance, in_step=num_items_in_batch is not None)
