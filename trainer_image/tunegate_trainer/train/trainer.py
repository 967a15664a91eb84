"""TRL's SFTTrainer with the losses of completions and of preferences, computed at no other position."""

import math
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import torch
from peft import PeftModel
from torch.distributed.checkpoint.state_dict import (
    StateDictOptions,
    get_optimizer_state_dict,
    set_optimizer_state_dict,
)
from transformers import Trainer, set_seed
from trl.trainer.sft_trainer import DataCollatorForLanguageModeling, SFTTrainer

from tunegate_trainer.distributed.ranks import ALONE, Ranks, is_lost_peer, peer_lost
from tunegate_trainer.models.architecture import is_mixture
from tunegate_trainer.models.loading import FROM_FIRST, is_sharded, load_weights, mixed_precision
from tunegate_trainer.process.errors import UserError, is_out_of_memory
from tunegate_trainer.tokens.likelihood import TokenLosses, token_losses
from tunegate_trainer.tokens.shared_prefix import allows_shared_prefixes, share_prefixes
from tunegate_trainer.train.checkpoints import CheckpointFolder
from tunegate_trainer.train.micro_batch import MicroBatchTooLargeError
from tunegate_trainer.train.preference import preference_losses

_EQUAL = 1e-3
"""Log-probabilities of answers that differ by no more are equal but for rounding, in float32: none is
preferred."""
_WHOLE = StateDictOptions(full_state_dict=True, cpu_offload=True)
"""How sharded state is saved: as a whole, by the first process."""


class StageTrainer(SFTTrainer):
    """Trains on flattened micro-batches (``padding_free``), and keeps what our checkpoints hold.

    Without a GPU SFTTrainer computes logits, entropy and accuracy for every token; see
    :func:`tunegate_trainer.tokens.likelihood.token_losses`.
    """

    loss_is_scaled_for_ga = True  # type: ignore[assignment]
    """Losses are divided by what the whole optimizer step has, whatever its micro-batches."""
    tokens = 0
    """Tokens trained on by this process, prompts included."""
    reward_sums: torch.Tensor | None = None
    """Of DPO, of the shape (2,): the sum of the reward margins of all pairs that this process trained on, and
    how many of them are positive by more than rounding."""
    _weights = Path()
    """The checkpoint that a resumed run goes on from."""

    def __init__(self, *, model: Any, ranks: Ranks = ALONE, **arguments: Any) -> None:
        self._ranks = ranks
        trained = {name: p.data for name, p in model.named_parameters() if p.requires_grad}
        config = model.config.get_text_config()
        routes = getattr(config, "output_router_logits", None)
        super().__init__(model=model, **arguments)
        if routes is not None:  # the loss alone asks for the router's, see token_losses
            config.output_router_logits = routes
        self.aux_loss_enabled &= bool(self.router_aux_loss_coef) and is_mixture(config)
        # Of models whose forward takes no count of items, the Trainer would count none for our losses either.
        self.model_accepts_loss_kwargs = True
        for name, data in trained.items() if not is_sharded(model) else ():
            model.get_parameter(name).data = data  # TRL rounds adapters beside a quantized base to bfloat16

    def train_from(self, checkpoints: CheckpointFolder, step: int) -> None:
        """Train the rest of the steps; 0 is the beginning.

        Raises :class:`MicroBatchTooLargeError` where a pass does not fit the GPU, and :class:`PeerLostError`.
        """
        self._ranks.meet()  # one may have read for longer than they wait for each other in a step
        self._weights = checkpoints.path(step)
        if not self._ranks.is_first:
            set_seed(self.args.seed + self._ranks.rank)  # each drops something else
        try:
            self.train(str(checkpoints.state(step)) if step else None)
        except RuntimeError as error:
            if is_out_of_memory(error):
                raise MicroBatchTooLargeError(str(error)) from error
            if is_lost_peer(error):
                raise peer_lost(error) from error
            raise
        self._ranks.meet()  # all have looked into the scratch folder, which the first one removes

    def token_losses(self, model: Any, inputs: dict[str, Any]) -> TokenLosses:
        """As the function of that name, counting tokens."""
        self.tokens += inputs["input_ids"].numel()
        if self.aux_loss_enabled:  # of every token
            inputs["output_router_logits"] = True
        elif allows_shared_prefixes(self.model):
            inputs = share_prefixes(inputs)
        with mixed_precision(self.args.device, whole=not isinstance(self.model, PeftModel)):
            return token_losses(model, inputs)

    def with_balance(self, loss: torch.Tensor, balance: torch.Tensor | None, in_step: bool) -> torch.Tensor:
        """The loss of a pass, one of several ``in_step``, and the load-balancing loss of a mixture of experts
        (arXiv 2101.03961, section 2.2) by the coefficient of its configuration."""
        if balance is None:
            return loss
        passes = self.args.gradient_accumulation_steps if in_step else 1
        return loss + self.router_aux_loss_coef * balance / passes

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
        load_weights(self.model, self._weights, self._ranks.meet)

    def _save_checkpoint(self, model: Any, trial: Any) -> None:
        Trainer._save_checkpoint(self, model, trial)  # without SFTTrainer's model card

    def _save_rng_state(self, output_dir: str) -> None:
        """Those of all processes, written by the first: no folder is written by two machines."""
        with TemporaryDirectory() as own:
            super()._save_rng_state(own)
            saved = {path.name: path.read_bytes() for path in Path(own).iterdir()}
        for states in self._ranks.gathered(saved):
            for name, state in states.items() if self._ranks.is_first else ():
                (Path(output_dir) / name).write_bytes(state)

    def _save_optimizer_and_scheduler(self, output_dir: str) -> None:
        model, optimizer, scheduler = self._trained()
        if not is_sharded(model):
            super()._save_optimizer_and_scheduler(output_dir)
            return
        self._ranks.meet()  # the first one wrote the model meanwhile, which may take longer than a step may
        state = get_optimizer_state_dict(model, optimizer.optimizer, options=_WHOLE)
        if self._ranks.is_first:
            torch.save(state, Path(output_dir) / "optimizer.pt")
            torch.save(scheduler.state_dict(), Path(output_dir) / "scheduler.pt")

    def _load_optimizer_and_scheduler(self, checkpoint: str | None) -> None:
        model, optimizer, scheduler = self._trained()
        if checkpoint is None or not is_sharded(model):
            super()._load_optimizer_and_scheduler(checkpoint)
            return
        folder = Path(checkpoint)
        saved = torch.load(folder / "optimizer.pt", weights_only=True) if self._ranks.is_first else {}
        self._ranks.meet()
        set_optimizer_state_dict(model, optimizer.optimizer, saved, options=FROM_FIRST)
        scheduler.load_state_dict(torch.load(folder / "scheduler.pt", weights_only=True))

    def _trained(self) -> tuple[Any, Any, Any]:
        """The model, and what trains it; accelerate has wrapped PyTorch's optimizer."""
        return self.model, self.optimizer, self.lr_scheduler

    def _save(self, output_dir: str | None = None, state_dict: Any = None) -> None:  # noqa: ARG002 - overridden
        model: Any = self.model
        if is_sharded(model):  # all of them bring their parts
            # It would wait for the first one's writing no longer than for a step: we meet after it.
            model.barrier_after_gathered_checkpoint_save = lambda *_: None
            model.save_pretrained(output_dir, is_main_process=self._ranks.is_first)
            return
        if not self._ranks.is_first:
            return
        if isinstance(model, PeftModel):
            # Only the adapter: "auto" would ask the hub for the base model's vocabulary.
            model.save_pretrained(str(output_dir), save_embedding_layers=False)
        else:
            model.save_pretrained(output_dir)


class CompletionTrainer(StageTrainer):
    """SFT: cross-entropy of the completions."""

    def compute_loss(
        self,
        model: Any,
        inputs: dict[str, Any],
        return_outputs: bool = False,
        num_items_in_batch: torch.Tensor | int | None = None,
    ) -> Any:
        """Summed over the completion tokens of one micro-batch, over those of the whole step.

        ``inputs`` holds one row of concatenated examples, with ``position_ids`` that start again at each.
        """
        losses, _, balance = self.token_losses(model, inputs)
        loss = losses.sum() / (losses.numel() if num_items_in_batch is None else num_items_in_batch)
        loss = loss * self._ranks.size  # of which DDP takes the mean
        loss = self.with_balance(loss, balance, in_step=num_items_in_batch is not None)
        return (loss, {}) if return_outputs else loss


class PreferenceCollator(DataCollatorForLanguageModeling):
    """Packed pairs, with what the reference gives each answer."""

    def torch_call(self, examples: list[dict[str, Any]]) -> dict[str, Any]:
        """``reference`` has the shape (pairs, 2): chosen, rejected."""
        return super().torch_call(examples) | {
            "reference": torch.tensor([pair["reference"] for pair in examples])
        }


class PreferenceTrainer(StageTrainer):
    """DPO, with TRL's losses on packed pairs.

    TRL's DPOTrainer pads pairs, keeps the reference as a second adapter, which a resumed run moves, and
    computes it in every epoch.
    """

    def __init__(self, *, loss: str, beta: float, **arguments: Any) -> None:
        self._loss, self._beta = loss, beta
        self.reward_sums: torch.Tensor = torch.zeros(2, dtype=torch.float64)
        super().__init__(**arguments)
        self.data_collator = PreferenceCollator(
            pad_token_id=0, padding_free=True
        )  # TRL takes none that packs

    def compute_loss(
        self,
        model: Any,
        inputs: dict[str, Any],
        return_outputs: bool = False,
        num_items_in_batch: torch.Tensor | int | None = None,
    ) -> Any:
        """Summed over the pairs of one micro-batch, over those of the whole step.

        A pair's reward margin is beta times how much more than the reference the model prefers the chosen
        answer (equation 5 of arXiv 2305.18290).
        """
        reference = inputs.pop("reference")
        losses, answers, balance = self.token_losses(model, inputs)
        empty = torch.zeros(reference.numel(), device=losses.device)
        log_probs = empty.index_add(0, answers, -losses).view_as(reference)
        lengths = empty.index_add(0, answers, torch.ones_like(losses)).view_as(reference)
        log_ratios = log_probs - reference
        pairs = preference_losses(log_ratios, lengths, loss=self._loss, beta=self._beta)
        # Of float32, so that sums of them in float64 are exact, and so is a step's part of the sum.
        margins = (self._beta * (log_ratios[:, 0] - log_ratios[:, 1])).detach().double()
        self.reward_sums = self.reward_sums.to(margins.device) + torch.stack(
            [margins.sum(), (margins > self._beta * _EQUAL).sum().double()]
        )
        mine = self.args.per_device_train_batch_size * self.args.gradient_accumulation_steps
        loss = pairs.sum() / (pairs.numel() if num_items_in_batch is None else mine)
        loss = self.with_balance(loss, balance, in_step=num_items_in_batch is not None)
        return (loss, {}) if return_outputs else loss
