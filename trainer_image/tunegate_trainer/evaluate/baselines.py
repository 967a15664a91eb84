"""Cached results of base models and published versions, which the jobs on a volume share.

Anyone who can write to the volume could replace a cached result by one that is easy to beat. A file is
therefore used only if it has a digest that the operator recorded for its key. Otherwise the model is
evaluated again.
"""

import hashlib
import json
import logging
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from pydantic import ValidationError
from transformers import PreTrainedTokenizerBase

from tunegate_api.contract.baselines import MeasuredBaseline
from tunegate_api.contract.digests import sha256_text
from tunegate_api.contract.workspace import Workspace
from tunegate_api.meta import Sha256
from tunegate_trainer.distributed.ranks import SINGLE_RANK, Ranks
from tunegate_trainer.evaluate.evaluate import SetResult, evaluate
from tunegate_trainer.evaluate.generate import device_name
from tunegate_trainer.evaluate.sets import EvaluationSet, GeneratedSet
from tunegate_trainer.process.context import Context
from tunegate_trainer.process.files import write_atomic
from tunegate_trainer.process.packages import library_versions

logger = logging.getLogger(__name__)


class BaselineCache:
    """Caches results of one model on the volume.

    The key is a digest of everything that the results depend on: weights, cases, rendered prompts, generation
    settings, scoring, dtype, precision, device and library versions. ``model`` is the digest of the model.
    """

    def __init__(
        self,
        context: Context,
        model: Sha256,
        dtype: str,
        device: torch.device,
        quantization: str | None = None,
    ) -> None:
        self._context = context
        self._device = device
        self._depends_on = {
            "model": model,
            "dtype": dtype,
            **({"quantization": quantization} if quantization else {}),
            "device": device_name(device),
            "versions": library_versions(),
        }
        self._refused: dict[str, str] = {}
        """The digest of each refused cache file, by key. A file is refused if digests are recorded for its
        key, but the file's own digest is not one of them."""

    def evaluate(
        self,
        model: Any,
        tokenizer: PreTrainedTokenizerBase,
        sets: Sequence[EvaluationSet],
        ranks: Ranks = SINGLE_RANK,
        *,
        stops: Sequence[int] | None = None,
    ) -> list[SetResult]:
        """Return the results of the model on each set. Only sets without a cached result are evaluated. For
        ``stops``, see :func:`~tunegate_trainer.evaluate.evaluate.evaluate`.

        The digests of cache files that were written or used are added to ``context.measured_baselines``.
        Results with errors are not cached.
        """
        keys = [self._key(each) for each in sets]
        cached = ranks.broadcast(lambda: [self._read(key) for key in keys])
        missing = [index for index, result in enumerate(cached) if result is None]
        results = evaluate(model, tokenizer, [sets[index] for index in missing], ranks, stops=stops)
        measured = dict(zip(missing, results, strict=True))
        for index, result in measured.items():
            if ranks.is_primary and not result.has_errors:
                self._record(keys[index], result)
        return [result or measured[index] for index, result in enumerate(cached)]

    def find(self, sets: Sequence[EvaluationSet]) -> list[SetResult] | None:
        """Return the results of all sets, as :meth:`evaluate` does, without the model. Returns None if one of
        them is not cached."""
        cached = [self._read(self._key(each)) for each in sets]
        found = [result for result in cached if result is not None]
        return found if len(found) == len(sets) else None

    def _key(self, evaluation_set: EvaluationSet) -> str:
        key = evaluation_set.depends_on | self._depends_on
        exact = isinstance(evaluation_set, GeneratedSet) and evaluation_set.generation.precision == "Float32"
        if torch.is_autocast_enabled(self._device.type) and not exact:
            key["autocast"] = True
        return sha256_text(json.dumps(key, sort_keys=True))

    def _path(self, key: str) -> Path:
        return self._context.workspace / Workspace.baseline(key)

    def _record(self, key: str, result: SetResult) -> None:
        """Cache a new result, and note its digest for the operator."""
        text = result.model_copy(update={"seconds": 0.0}).model_dump_json(by_alias=True, exclude_none=True)
        write_atomic(self._path(key), text)
        self._note(key, sha256_text(text))

    def _note(self, key: str, digest: str) -> None:
        refused = self._refused.get(key)
        measured = MeasuredBaseline(key=key, sha256=digest, refused=refused)
        self._context.measured_baselines[key] = measured

    def _read(self, key: str) -> SetResult | None:
        """Return the cached result for ``key``. In a cached result, ``seconds`` is 0.

        Returns None if there is no file, if its digest is not recorded for the key, or if another version of
        Tunegate wrote it.
        """
        recorded = self._context.baselines.get(key, frozenset())
        try:
            content = self._path(key).read_bytes()
        except FileNotFoundError:
            return None
        digest, name = hashlib.sha256(content).hexdigest(), "/".join(self._path(key).parts[-2:])
        if digest not in recorded:
            if recorded:
                self._refused[key] = digest
                logger.warning("%s does not have its recorded digest: evaluating the model again", name)
            else:
                logger.info("no digest is recorded for %s: evaluating the model again", name)
            return None
        try:
            cached = SetResult.model_validate_json(content)
        except ValidationError:  # another version wrote it
            return None
        self._note(key, digest)
        return cached
