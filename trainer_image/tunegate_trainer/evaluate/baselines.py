"""Results of a base model, shared by the jobs on a volume."""

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from pydantic import ValidationError
from transformers import PreTrainedTokenizerBase

from tunegate_api.contract import sha256_text
from tunegate_trainer.base_model import EVALUATIONS
from tunegate_trainer.context import Context
from tunegate_trainer.evaluate.evaluate import SetResult, evaluate
from tunegate_trainer.evaluate.generate import device_name
from tunegate_trainer.evaluate.sets import EvaluationSet, GeneratedSet
from tunegate_trainer.files import write_model
from tunegate_trainer.ranks import ALONE, Ranks


class BaselineCache:
    """Found by all that outputs depend on: weights, cases, prompts as the model reads them, generation
    settings, dtype, precision, device, libraries."""

    def __init__(
        self, context: Context, dtype: str, device: torch.device, quantization: str | None = None
    ) -> None:
        self._folder = context.workspace / context.paths.base_model(context.plan.model.digest) / EVALUATIONS
        self._device = device
        self._depends_on = {
            "dtype": dtype,
            **({"quantization": quantization} if quantization else {}),
            "device": device_name(device),
            "versions": context.plan.versions,
        }

    def evaluate(
        self,
        model: Any,
        tokenizer: PreTrainedTokenizerBase,
        sets: Sequence[EvaluationSet],
        ranks: Ranks = ALONE,
    ) -> list[SetResult]:
        """The results of the base model on each set; only what was never measured is generated."""
        known = ranks.shared(lambda: [self._get(s) for s in sets])
        missing = [s for s, result in zip(sets, known, strict=True) if result is None]
        measured = evaluate(model, tokenizer, missing, ranks)
        for evaluation_set, result in zip(missing, measured, strict=True):
            if ranks.is_first and not result.has_errors:
                write_model(self._path(evaluation_set), result)
        found = iter(measured)
        return [next(found) if result is None else result for result in known]

    def _path(self, evaluation_set: EvaluationSet) -> Path:
        key = evaluation_set.depends_on | self._depends_on
        exact = isinstance(evaluation_set, GeneratedSet) and evaluation_set.generation.precision == "Float32"
        if torch.is_autocast_enabled(self._device.type) and not exact:
            key["autocast"] = True
        return self._folder / f"{sha256_text(json.dumps(key, sort_keys=True))}.json"

    def _get(self, evaluation_set: EvaluationSet) -> SetResult | None:
        """A result that is known, which takes no time."""
        try:
            known = SetResult.model_validate_json(self._path(evaluation_set).read_bytes())
        except (FileNotFoundError, ValidationError):  # a damaged one is measured again
            return None
        return None if known.has_errors else known.model_copy(update={"seconds": 0.0})
