"""Evaluate published versions on today's golden sets."""

from collections.abc import Sequence
from pathlib import Path

import torch
from transformers import PreTrainedTokenizerBase

from tunegate_api.contract.request import GateRequest
from tunegate_api.contract.results import golden_set
from tunegate_api.contract.workspace import Workspace
from tunegate_api.meta import Sha256
from tunegate_trainer.artifacts.build import is_adapter, load_artifact, published_stops
from tunegate_trainer.artifacts.evidence import evaluated_digest, read_model_evidence
from tunegate_trainer.artifacts.pinned_version import RUN_ITS_BASE, other_base
from tunegate_trainer.evaluate.baselines import BaselineCache
from tunegate_trainer.evaluate.evaluate import SetResult
from tunegate_trainer.evaluate.golden_sets import golden_sets
from tunegate_trainer.evaluate.sets import GOLDEN, GeneratedSet
from tunegate_trainer.models.base_model import verified_model
from tunegate_trainer.models.loading import generation_config, load_base
from tunegate_trainer.process.context import Context
from tunegate_trainer.process.device import free_memory
from tunegate_trainer.process.errors import (
    CudaOutOfMemoryError,
    SourceNotFoundError,
    StorageError,
    TrainerError,
)
from tunegate_trainer.process.files import refuse_unreadable, verify
from tunegate_trainer.tokens.chat import load_tokenizer, stop_token_ids


class CannotEvaluateError(Exception):
    """A published version cannot be evaluated."""


class PublishedVersions:
    """Evaluates published versions on the golden sets of the job's gates.

    A version is loaded as it was evaluated before it was published. The results are cached on the volume, see
    :class:`~tunegate_trainer.evaluate.baselines.BaselineCache`.
    """

    def __init__(self, context: Context, device: torch.device, base_model: Sha256 | None) -> None:
        self._context = context
        self._device = device
        self._base_model = base_model
        """The digest of the job's base model, which was verified. None if it has none."""

    def evaluate(
        self, folder: Path, digest: Sha256 | None, gates: Sequence[GateRequest]
    ) -> dict[str, SetResult]:
        """Return the results of the version in ``folder`` by gate.

        Raises :class:`CannotEvaluateError` if the version cannot be evaluated, :class:`StorageError` if a
        file cannot be read now, and :class:`CudaOutOfMemoryError`.
        """
        try:
            return self._results(folder, digest, gates)
        except (StorageError, CudaOutOfMemoryError, CannotEvaluateError):
            raise
        except TrainerError as error:
            hint = f" ({error.hint})" if error.hint else ""
            raise CannotEvaluateError(f"{error}{hint}") from error
        except Exception as error:  # libraries raise many kinds of errors for a model that they cannot load
            first = str(error).strip().splitlines()
            raise CannotEvaluateError(f"{type(error).__name__}: {first[0] if first else ''}") from error

    def _results(
        self, folder: Path, digest: Sha256 | None, gates: Sequence[GateRequest]
    ) -> dict[str, SetResult]:
        context, evidence = self._context, read_model_evidence(folder)
        found = _check_files(folder, digest)
        base = self._base_folder(evidence.base_model_digest) if is_adapter(folder) else None
        tokenizer = load_tokenizer(folder, base)
        sets: list[GeneratedSet] = golden_sets(context, tokenizer, gates)
        quantization = evidence.quantization if base else None
        cache = BaselineCache(context, found, evidence.dtype, self._device, quantization)
        results = cache.find(sets)
        if results is None:
            free_memory()
            base_model = load_base(base or folder, evidence.dtype, self._device, quantization)
            model = load_artifact(base_model, folder, evidence.dtype, self._device) if base else base_model
            _check_files(folder, digest)  # after loading, so that the loaded weights are those of the digest
            stops = stops_of(folder, tokenizer, base)
            results = cache.evaluate(model, tokenizer, sets, stops=stops)
        by_set = {each.names[GOLDEN]: result for each, result in zip(sets, results, strict=True)}
        return {gate.name: by_set[name] for gate in gates if (name := golden_set(gate.name)) in by_set}

    def _base_folder(self, digest: Sha256) -> Path:
        """Return the folder of the base model of a published adapter. Raises :class:`SourceNotFoundError` if
        it is not on the job's volume."""
        workspace = self._context.workspace
        if digest == self._base_model:  # verified when the gate started
            return workspace / Workspace.base_model(digest)
        try:
            return verified_model(workspace, digest)
        except SourceNotFoundError as error:
            raise SourceNotFoundError(other_base(digest), RUN_ITS_BASE) from error


def _check_files(folder: Path, digest: Sha256 | None) -> Sha256:
    """Return the digest of the evaluated files in ``folder``. Raises :class:`CannotEvaluateError` if it is
    not ``digest``, and :class:`StorageError` if a file cannot be read."""
    problems = verify(folder)
    refuse_unreadable(folder.name, problems)
    if problems:
        raise CannotEvaluateError(f"it was changed: {'; '.join(problems)}")
    found = evaluated_digest(folder)
    if found != digest:
        raise CannotEvaluateError(f"it was changed: its files do not have the digest {digest}")
    return found


def stops_of(folder: Path, tokenizer: PreTrainedTokenizerBase, base: Path | None) -> list[int]:
    """Return the ids of the stop tokens. Artifacts of early releases do not name them all."""
    if (folder / "generation_config.json").exists():
        return published_stops(folder)
    return stop_token_ids(tokenizer, generation_config(base or folder))
