"""All that Tunegate overrides of TRL and of transformers' Trainer.

Each docstring says what the library does, and why we differ. A test for each method fails if the library no
longer calls it.
"""

import math
from abc import abstractmethod
from collections.abc import Sequence
from contextlib import AbstractContextManager, nullcontext
from itertools import pairwise
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

from tunegate_trainer.distributed.ranks import SINGLE_RANK, Ranks, is_peer_lost, peer_lost_error
from tunegate_trainer.models.architecture import is_mixture
from tunegate_trainer.models.loading import (
    FROM_FIRST,
    adapter_precision,
    is_sharded,
    load_weights,
    training_precision,
)
from tunegate_trainer.process.batching import balanced
from tunegate_trainer.process.errors import UserError, is_out_of_memory
from tunegate_trainer.tokens.likelihood import (
    TokenLosses,
    computes_singly,
    select,
    token_losses,
    with_shared_prefixes,
)
from tunegate_trainer.train.checkpoints import CheckpointFolder
from tunegate_trainer.train.pass_tokens import PassTooLargeError

_WHOLE = StateDictOptions(full_state_dict=True, cpu_offload=True)
"""Options to collect the whole state of a sharded model on the primary rank, for saving."""


class StageTrainer(SFTTrainer):
    """Trains on packed passes (``padding_free``), and saves and loads Tunegate's checkpoints.

    A batch of the Trainer is one row with all examples of this rank in an optimizer step. The row is divided
    into passes of at most ``pass_tokens``.

    Its subclasses implement :meth:`pass_loss`, the loss of a training method.
    """

    loss_is_scaled_for_ga = True  # type: ignore[assignment]
    """Trainer divides losses by the number of passes if this is False, and may do so if it is None. Ours are
    already divided by the number of tokens or pairs in the whole optimizer step."""
    tokens = 0
    """The number of tokens that this process has trained on, including prompts."""
    reward_sums: torch.Tensor | None = None
    """For DPO, a tensor of two numbers over all pairs that this process has trained on: the sum of their
    reward margins, and how many margins are positive by more than rounding. None for SFT."""
    _weights = Path()
    """The folder of the checkpoint that this run resumes from."""
    _unit = 1
    """The number of consecutive examples that are always in the same pass."""
    _last_pass = (0, 0)
    """The number of tokens and of units in the last pass that was started."""

    def __init__(self, *, model: Any, pass_tokens: int, ranks: Ranks = SINGLE_RANK, **arguments: Any) -> None:
        """Create the trainer, and undo what SFTTrainer changes in the model.

        SFTTrainer rounds adapters beside a quantized base to bfloat16. It sets ``output_router_logits`` in
        the model's configuration, and adds the load-balancing loss for each model whose configuration has
        this field, also if the model has no experts. Trainer counts labelled tokens only for a model whose
        forward accepts their number; our losses always need it.
        """
        self._pass_tokens, self._ranks = pass_tokens, ranks
        trained = {name: p.data for name, p in model.named_parameters() if p.requires_grad}
        config = model.config.get_text_config()
        routes = getattr(config, "output_router_logits", None)
        super().__init__(model=model, **arguments)
        if routes is not None:  # router logits are only requested for the loss, see token_losses
            config.output_router_logits = routes
        self.aux_loss_enabled &= bool(self.router_aux_loss_coef) and is_mixture(config)
        self.model_accepts_loss_kwargs = True
        for name, data in trained.items() if not is_sharded(model) else ():
            model.get_parameter(name).data = data

    def train_from(self, checkpoints: CheckpointFolder, step: int) -> None:
        """Train the optimizer steps after ``step``. If it is not 0, resume from the checkpoint of this step.

        Raises :class:`PassTooLargeError` if a pass does not fit the GPU, and :class:`PeerLostError` if
        another rank is lost.
        """
        self._ranks.barrier()  # one rank may load for longer than the timeout of a step
        self._weights = checkpoints.path(step)
        if not self._ranks.is_primary:
            set_seed(self.args.seed + self._ranks.rank)  # different dropout on each rank
        try:
            self.train(str(checkpoints.state(step)) if step else None)
        except RuntimeError as error:
            tokens, units = self._last_pass
            if is_out_of_memory(error) and units:
                raise PassTooLargeError(str(error), tokens=tokens, units=units) from error
            if is_peer_lost(error):
                raise peer_lost_error(error) from error
            raise
        self._ranks.barrier()  # the primary rank removes the scratch folder, which the others still read

    def training_step(
        self, model: Any, inputs: dict[str, Any], num_items_in_batch: torch.Tensor | int | None = None
    ) -> torch.Tensor:
        """Compute the loss and the gradients of this rank's examples in an optimizer step, pass by pass.
        ``inputs`` is the row of these examples.

        Trainer computes a batch at once, and has a fixed number of rows in each batch. Our passes have about
        equal numbers of tokens, so their number differs between steps.
        """
        step: Any = super().training_step
        groups = self._divided(model, inputs)
        self.current_gradient_accumulation_steps = len(groups)
        losses = []
        for number, group in enumerate(groups, 1):
            one = inputs if len(groups) == 1 else self._selected(inputs, group)
            self._last_pass = (one["input_ids"].numel(), len(group))
            with self._synchronized(model, is_last=number == len(groups)), adapter_precision(self.model):
                losses.append(step(model, one, num_items_in_batch))
        return torch.stack(losses).sum()

    def _divided(self, model: Any, inputs: dict[str, Any]) -> list[list[int]]:
        edges = inputs["cu_seq_lens_q"].tolist()[:: self._unit]
        sizes = [end - start for start, end in pairwise(edges)]
        if computes_singly(getattr(model, "module", model)):
            return [[i] for i in range(len(sizes))]
        groups = balanced(sizes, self._pass_tokens)
        if is_sharded(self.model):  # all ranks gather the weights in each pass
            groups = balanced(sizes, self._pass_tokens, max(self._ranks.gather(len(groups))))
        return groups

    def _selected(self, inputs: dict[str, Any], group: Sequence[int]) -> dict[str, Any]:
        return select(inputs, [self._unit * i + n for i in group for n in range(self._unit)])

    def _synchronized(self, model: Any, *, is_last: bool) -> AbstractContextManager[Any]:
        """Return a context in which the ranks average the gradients of a pass, if it ``is_last`` in its step.
        Before the last pass, they only add up. A sharded model averages them in each pass, because a rank has
        no memory for the gradients of all weights."""
        averages = is_last or is_sharded(self.model)
        self.accelerator.gradient_state._set_sync_gradients(averages)
        return nullcontext() if averages else self.accelerator.no_sync(model=model)

    def compute_loss(
        self,
        model: Any,
        inputs: dict[str, Any],
        return_outputs: bool = False,
        num_items_in_batch: torch.Tensor | int | None = None,
    ) -> Any:
        """Return the loss of a pass, see :meth:`pass_loss`, with empty outputs.

        SFTTrainer computes logits, entropy and accuracy for every token. We compute only the losses of
        labelled tokens, and keep examples apart in a packed row.
        """
        loss = self.pass_loss(model, inputs, num_items_in_batch)
        return (loss, {}) if return_outputs else loss

    @abstractmethod
    def pass_loss(
        self, model: Any, inputs: dict[str, Any], num_items_in_batch: torch.Tensor | int | None
    ) -> torch.Tensor:
        """Return the loss of a pass. ``num_items_in_batch`` is the number of labelled tokens in the optimizer
        step; None if the pass is not part of a step."""

    def token_losses(self, model: Any, inputs: dict[str, Any]) -> TokenLosses:
        """Return the result of :func:`tunegate_trainer.tokens.likelihood.token_losses`, and count the
        tokens."""
        self.tokens += inputs["input_ids"].numel()
        if self.aux_loss_enabled:  # it needs every token, so prefixes are not shared
            inputs["output_router_logits"] = True
        else:
            inputs = with_shared_prefixes(self.model, inputs)
        with training_precision(self.model):
            return token_losses(model, inputs)

    def add_balance_loss(
        self, loss: torch.Tensor, balance: torch.Tensor | None, in_step: bool
    ) -> torch.Tensor:
        """Add ``balance``, the load-balancing loss of a mixture of experts, to the loss of a pass.

        See arXiv 2101.03961, section 2.2. The load-balancing loss is multiplied by the coefficient in the
        model's configuration. If ``in_step``, it is averaged over the passes of an optimizer step.
        """
        if balance is None:
            return loss
        passes = self.current_gradient_accumulation_steps if in_step else 1
        return loss + self.router_aux_loss_coef * balance / passes

    def log(self, logs: dict[str, float], start_time: float | None = None) -> None:  # noqa: ARG002 - overridden
        """Pass the metrics of an optimizer step to the callbacks.

        Trainer also stores them in the state of checkpoints, which would then grow with each step, and
        SFTTrainer adds metrics that we do not compute. The losses are in a file of their own.

        Raises :class:`UserError` if the loss is not finite.
        """
        if "loss" not in logs:
            return
        if not math.isfinite(logs["loss"]):
            raise UserError(
                f"training diverged: the loss is {logs['loss']} at step {self.state.global_step}",
                "lower training.learningRate, or raise training.warmupFraction",
            )
        self.control = self.callback_handler.on_log(self.args, self.state, self.control, logs)

    def _load_from_checkpoint(self, resume_from_checkpoint: str, model: Any = None) -> None:
        """Load the weights of the checkpoint from which this run resumes.

        Trainer reads them from ``resume_from_checkpoint``, which has only the state of the optimizer and of
        random numbers in our checkpoints.
        """
        del resume_from_checkpoint, model
        load_weights(self.model, self._weights, self._ranks.barrier)

    def _save_checkpoint(self, model: Any, trial: Any) -> None:
        """Save as Trainer does. SFTTrainer also writes a model card, which a checkpoint does not need."""
        Trainer._save_checkpoint(self, model, trial)

    def _save_rng_state(self, output_dir: str) -> None:
        """Save the random states of all ranks.

        In Trainer, each rank writes its own file. Here only the primary rank writes, because the epoch of a
        folder protects one writer.
        """
        with TemporaryDirectory() as own:
            super()._save_rng_state(own)
            saved = {path.name: path.read_bytes() for path in Path(own).iterdir()}
        for states in self._ranks.gather(saved):
            for name, state in states.items() if self._ranks.is_primary else ():
                (Path(output_dir) / name).write_bytes(state)

    def _save_optimizer_and_scheduler(self, output_dir: str) -> None:
        """Save as Trainer does, but collect the optimizer of a sharded model on the primary rank.

        Trainer knows only models that it sharded itself. Of ours, it would save the primary rank's shard.
        """
        model, optimizer, scheduler = self._trained()
        if not is_sharded(model):
            super()._save_optimizer_and_scheduler(output_dir)
            return
        self._ranks.barrier()  # the primary rank wrote the model, which may exceed the timeout of a step
        state = get_optimizer_state_dict(model, optimizer.optimizer, options=_WHOLE)
        if self._ranks.is_primary:
            torch.save(state, Path(output_dir) / "optimizer.pt")
            torch.save(scheduler.state_dict(), Path(output_dir) / "scheduler.pt")

    def _load_optimizer_and_scheduler(self, checkpoint: str | None) -> None:
        """Load what :meth:`_save_optimizer_and_scheduler` saved."""
        model, optimizer, scheduler = self._trained()
        if checkpoint is None or not is_sharded(model):
            super()._load_optimizer_and_scheduler(checkpoint)
            return
        folder = Path(checkpoint)
        saved = torch.load(folder / "optimizer.pt", weights_only=True) if self._ranks.is_primary else {}
        self._ranks.barrier()
        set_optimizer_state_dict(model, optimizer.optimizer, saved, options=FROM_FIRST)
        scheduler.load_state_dict(torch.load(folder / "scheduler.pt", weights_only=True))

    def _trained(self) -> tuple[Any, Any, Any]:
        """Return the model, the optimizer as wrapped by accelerate, and the scheduler."""
        return self.model, self.optimizer, self.lr_scheduler

    def _save(self, output_dir: str | None = None, state_dict: Any = None) -> None:  # noqa: ARG002 - overridden
        """Save the adapter or the whole model, without the files that a checkpoint does not need.

        Trainer also saves tokenizer and training arguments. PEFT writes a model card, and asks the hub for
        the vocabulary of the base model, which is not reachable from pods. transformers waits for the primary
        rank in a barrier with the short timeout of a step; we wait after saving instead.
        """
        model: Any = self.model
        if is_sharded(model):  # all ranks contribute their shards
            model.barrier_after_gathered_checkpoint_save = lambda *_: None
            model.save_pretrained(output_dir, is_main_process=self._ranks.is_primary)
            return
        if not self._ranks.is_primary:
            return
        if isinstance(self.model, PeftModel):
            model.create_or_update_model_card = lambda *_: None
            model.save_pretrained(str(output_dir), save_embedding_layers=False)
        else:
            model.save_pretrained(output_dir)


class PreferenceCollator(DataCollatorForLanguageModeling):
    """Collates packed pairs with the reference log-probabilities of their answers."""

    def torch_call(self, examples: list[dict[str, Any]]) -> dict[str, Any]:
        """Return a batch whose ``reference`` has the shape (pairs, 2): chosen, rejected.

        TRL's collator drops fields that it does not know, and its collators for pairs do not pack.
        """
        return super().torch_call(examples) | {
            "reference": torch.tensor([pair["reference"] for pair in examples])
        }
