"""Results of a base model, shared by the jobs on a volume."""

import hashlib
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from transformers import PreTrainedTokenizerBase

from tunegate_trainer.context import Context
from tunegate_trainer.evaluate.evaluate import SetResult, evaluate
from tunegate_trainer.evaluate.sets import EvaluationSet
from tunegate_trainer.files import write_model


class BaselineCache:
    """Found by all that outputs depend on: weights, cases, generation settings, dtype, device, libraries."""

    def __init__(self, context: Context, dtype: str, device: torch.device) -> None:
        self._folder = context.workspace / context.paths.base_model(context.plan.model.digest) / "evals"
        self._depends_on = {"dtype": dtype, "device": device.type, "versions": context.plan.versions}

    def evaluate(
        self, model: Any, tokenizer: PreTrainedTokenizerBase, sets: Sequence[EvaluationSet]
    ) -> list[SetResult]:
        """The results of the base model on each set; only what was never measured is generated."""
        known: dict[Path, SetResult | None] = {self._path(s): self._get(s) for s in sets}
        missing = [s for s in sets if known[self._path(s)] is None]
        for evaluation_set, measured in zip(missing, evaluate(model, tokenizer, missing), strict=True):
            write_model(self._path(evaluation_set), measured)
            known[self._path(evaluation_set)] = measured
        return [result for s in sets if (result := known[self._path(s)]) is not None]

    def is_complete(self, sets: Sequence[EvaluationSet]) -> bool:
        """Whether every set is here already."""
        return all(self._get(s) is not None for s in sets)

    def _path(self, evaluation_set: EvaluationSet) -> Path:
        key = {
            "set": evaluation_set.identity,
            "generation": evaluation_set.generation.to_wire(),
            **self._depends_on,
        }
        digest = hashlib.sha256(json.dumps(key, sort_keys=True).encode()).hexdigest()
        return self._folder / f"{digest}.json"

    def _get(self, evaluation_set: EvaluationSet) -> SetResult | None:
        try:
            return SetResult.model_validate_json(self._path(evaluation_set).read_bytes())
        except FileNotFoundError:
            return None
