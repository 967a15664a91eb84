"""DPO: compute the loss of pairs, and the log-probabilities of the reference model."""

import json
import logging
import re
import time
from collections.abc import Sequence
from hashlib import sha256
from pathlib import Path
from typing import Any

import torch
from torch.nn.functional import logsigmoid
from transformers import PreTrainedConfig, PreTrainedModel
from trl.trainer.utils import disable_dropout_in_model

from tunegate_trainer.distributed.ranks import SINGLE_RANK, Ranks
from tunegate_trainer.evaluate.generate import undisturbed
from tunegate_trainer.models.loading import training_precision
from tunegate_trainer.process.files import write_atomic
from tunegate_trainer.tokens.example_file import PairFile
from tunegate_trainer.tokens.examples import Example, ExamplePair
from tunegate_trainer.tokens.likelihood import log_probs

logger = logging.getLogger(__name__)

_RANDOM = re.compile("drop|jitter")
"""Matches the names under which modules of transformers store rates of dropout, such as
``residual_dropout``, ``attn_pdrop`` and ``layerdrop``, and of noise, such as ``router_jitter_noise``."""

REFERENCE = "reference.json"
"""Name of the file with the reference log-probabilities: those of the stage's pairs under its starting
model."""


def preference_losses(
    log_ratios: torch.Tensor, lengths: torch.Tensor, *, loss: str, beta: float
) -> torch.Tensor:
    """Return the loss of each pair, of the shape (pairs,).

    ``log_ratios`` are the log-probabilities of the answers under the model minus those under the reference
    model. ``lengths`` are the numbers of tokens in the answers. Both have the shape (pairs, 2), with the
    chosen answer first. ``sigmoid`` is equation 7 of arXiv 2305.18290; ``ipo`` is equation 17 of arXiv
    2310.12036 with the mean over an answer's tokens, as in TRL.
    """
    if loss == "sigmoid":
        return -logsigmoid(beta * (log_ratios[:, 0] - log_ratios[:, 1]))
    if loss == "ipo":
        means = log_ratios / lengths
        return (means[:, 0] - means[:, 1] - 1 / (2 * beta)) ** 2
    raise ValueError(f"unknown loss {loss}")


def disable_dropout(model: Any) -> None:
    """Disable the dropout of ``model``, and the noise of its routers. Otherwise, their random effects would
    look like a difference from the reference model."""
    disable_dropout_in_model(model)
    for module in model.modules():
        for name, value in list(vars(module).items()):  # numbers that a forward pass reads
            if isinstance(value, float) and _RANDOM.search(name):
                setattr(module, name, 0.0)
        # Other layers read the configuration. That of whole models stays, because it is saved.
        if not isinstance(module, PreTrainedModel) and isinstance(
            getattr(module, "config", None), PreTrainedConfig
        ):
            module.config = _WithoutDropout(module.config)


class _WithoutDropout:
    """A model's configuration, but with rates of 0."""

    def __init__(self, config: PreTrainedConfig) -> None:
        self._config = config

    def __getattr__(self, name: str) -> Any:
        if name.startswith("__"):  # asked for by copy, before there is a configuration
            raise AttributeError(name)
        value = getattr(self._config, name)
        return 0.0 if isinstance(value, float) and _RANDOM.search(name) else value


def reference_log_probs(
    folder: Path,
    model: Any,
    weights: str,
    pairs: Sequence[ExamplePair],
    ranks: Ranks = SINGLE_RANK,
) -> list[tuple[float, float]]:
    """Return the log-probabilities of the chosen and rejected answers of ``pairs`` under the starting model.

    ``model`` must have the starting weights, whose digest is ``weights``. The log-probabilities are stored in
    ``folder`` and read by later attempts, so a resumed run has the same reference. They are computed once, in
    one pass over the pairs without gradients. A reference model in memory would need such a pass in every
    epoch.
    """
    path = folder / REFERENCE
    key = reference_key(weights, pairs)
    known = ranks.broadcast(lambda: _read(path, key))
    if known is not None:
        return known
    start = time.monotonic()
    with undisturbed(model), training_precision(model):
        model.eval()
        flat = log_probs(model, _examples_of(pairs), ranks)
    found = list(zip(flat[::2], flat[1::2], strict=True))
    if ranks.is_primary:
        write_atomic(path, json.dumps({"key": key, "log_probs": found}) + "\n")
    logger.info("reference of %d pairs computed in %.1f s", len(pairs), time.monotonic() - start)
    return found


def reference_key(weights: str, pairs: Sequence[ExamplePair]) -> str:
    """Return the SHA-256 digest of the JSON text ``[weights, pairs]``. The text is never in memory as a
    whole."""
    digest = sha256(f"[{json.dumps(weights)}, [".encode())
    for number, pair in enumerate(pairs):
        digest.update(f"{', ' if number else ''}{json.dumps(pair)}".encode())
    digest.update(b"]]")
    return digest.hexdigest()


def _examples_of(pairs: Sequence[ExamplePair]) -> Sequence[Example]:
    """Return the examples of all pairs, one after another."""
    return pairs.examples if isinstance(pairs, PairFile) else [one for pair in pairs for one in pair]


def _read(path: Path, key: str) -> list[tuple[float, float]] | None:
    try:
        stored = json.loads(path.read_bytes())
        return (
            [(chosen, rejected) for chosen, rejected in stored["log_probs"]] if stored["key"] == key else None
        )
    except (FileNotFoundError, ValueError, KeyError, TypeError):  # a damaged file is computed again
        return None
