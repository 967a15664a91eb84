"""Evaluate published versions on today's golden sets: the anchors of gates, and versions at publish targets
that were published with other sets."""

import logging
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Protocol

import torch
from transformers import PreTrainedTokenizerBase

from tunegate_api.contract.published import LastPublished, PublishedVersion
from tunegate_api.contract.request import GateRequest
from tunegate_api.contract.results import Evaluation, Results, Subject, golden_set
from tunegate_api.contract.workspace import Workspace, golden_file, published_file
from tunegate_api.meta import Sha256
from tunegate_trainer.artifacts.anchor import RUN_ITS_BASE, anchor_folder, other_base
from tunegate_trainer.artifacts.build import is_adapter, load_artifact, published_stops
from tunegate_trainer.artifacts.evidence import evaluated_digest, read_model_evidence
from tunegate_trainer.artifacts.history import next_reading, strictest, version_name, with_rejudged
from tunegate_trainer.evaluate.baselines import BaselineCache
from tunegate_trainer.evaluate.evaluate import SetResult, write_cases
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
    UserError,
)
from tunegate_trainer.process.files import refuse_unreadable, verify
from tunegate_trainer.tokens.chat import load_tokenizer, stop_token_ids

logger = logging.getLogger(__name__)


class CannotEvaluateError(Exception):
    """A published version cannot be evaluated."""


class VersionSource(Protocol):
    """An address with published versions. Every publish target is one."""

    def newest_versions(self, gates: Sequence[GateRequest], own: str) -> dict[str, list[PublishedVersion]]:
        """Return, by gate, the versions that the job's model is compared with, without ``own``, its
        own version."""
        ...

    def fetch(self, version: PublishedVersion) -> Path:
        """Return a folder with the files of ``version``. They must not be changed."""
        ...


class PublishedVersions:
    """Evaluates published versions on the golden sets of the job's gates.

    A version is loaded as it was evaluated before it was published. The results are cached on the volume, see
    :class:`~tunegate_trainer.evaluate.baselines.BaselineCache`.
    """

    def __init__(
        self, context: Context, device: torch.device, outputs: Path, base_model: Sha256 | None
    ) -> None:
        self._context = context
        self._device = device
        self._base_model = base_model
        """The digest of the job's base model, which was verified. None if it has none."""
        self._outputs = outputs
        """The folder for the outputs, one file for each version and golden set."""
        self.judged: dict[str, list[PublishedVersion]] = {}
        """The evaluated versions of publish targets by gate."""

    def anchors(self, stage: str, report: Callable[[], None]) -> Evaluation | None:
        """Return the outcomes of the anchors of the job's gates, each on the golden set of its gate, as an
        evaluation of ``stage``. ``report`` is called before the first one. Returns None if no anchor was
        evaluated. The anchor of a gate in a dry run is left out if it cannot be evaluated.

        Raises :class:`SourceNotFoundError` and :class:`UserError` if an anchor cannot be evaluated.
        """
        outcomes, seconds, gates = {}, 0.0, self._context.request.final_gates
        if any(gate.spec.anchor for gate in gates):
            report()
        for gate in gates:
            result = self._anchor(gate)
            if result is not None:
                outcomes[golden_set(gate.name)] = result.outcomes(GOLDEN)
                seconds += result.seconds
        if not outcomes:
            return None
        return Evaluation(subject=Subject.ANCHOR, stage=stage, step=0, outcomes=outcomes, seconds=seconds)

    def _anchor(self, gate: GateRequest) -> SetResult | None:
        anchor, field = gate.spec.anchor, f"EvalGate {gate.name}: spec.anchor"
        if anchor is None:
            return None
        try:
            folder = anchor_folder(self._context.root, gate.name, anchor)
            result = self._evaluate(folder, anchor.digest, [gate]).get(gate.name)
        except CannotEvaluateError as error:
            hint = "restore the version, or name another one in spec.anchor"
            failure = UserError(f"{field} cannot be judged: {error}", hint)
            if not gate.spec.dry_run:
                raise failure from error
            logger.warning("%s", failure)
            return None
        except (SourceNotFoundError, UserError) as error:
            if not gate.spec.dry_run:
                raise
            logger.warning("%s", error)
            return None
        if result is not None:
            write_cases(self._outputs / published_file(folder.name, golden_file(gate.name)), result)
        return result

    def newest(
        self, results: Results, sources: Sequence[VersionSource], report: Callable[[], None]
    ) -> LastPublished | None:
        """Return the newest versions at ``sources``. The artifact is compared with these versions.

        ``results`` have the golden cases. Versions that were not published with the golden sets of the job
        are evaluated on these sets; ``report`` is called before that. Returns None if there is no version
        yet. Raises :class:`StorageError` if a source cannot be read now.
        """
        request, found = self._context.request, []
        for source in sources:
            versions = source.newest_versions(request.final_gates, version_name(request.name, request.uid))
            if any(version.unjudged for each in versions.values() for version in each):
                report()
            found.append(self._with_outcomes(source, versions))
        known = self._context.report.results.last_published
        return next_reading(known, strictest(found, request.final_gates, results))

    def _with_outcomes(
        self, source: VersionSource, versions: Mapping[str, Sequence[PublishedVersion]]
    ) -> dict[str, list[PublishedVersion]]:
        """Return ``versions``, those at ``source`` by gate, with outcomes for those that are ``unjudged``.

        A version that cannot be evaluated keeps a ``problem``, so that the comparison with it is an Error.
        Raises :class:`StorageError` if a file cannot be read now.
        """
        unjudged = {gate: one for gate, each in versions.items() for one in each if one.unjudged}
        for address in dict.fromkeys(version.version for version in unjudged.values()):
            gates = [gate for gate, version in unjudged.items() if version.version == address]
            outcomes, problem = self._outcomes(source, unjudged[gates[0]], gates)
            for gate in gates:
                judged = unjudged[gate].model_copy(
                    update={
                        "outcomes": outcomes.get(gate, ""),
                        "by_case": problem is None,
                        "rejudged": problem is None,
                        "unjudged": False,
                        "problem": problem,
                    }
                )
                self.judged.setdefault(gate, []).append(judged)
        return with_rejudged(versions, self.judged)

    def _outcomes(
        self, source: VersionSource, version: PublishedVersion, gates: Sequence[str]
    ) -> tuple[dict[str, str], str | None]:
        """Return the outcomes of a version by gate, or why it cannot be evaluated."""
        folder, name = source.fetch(version), (version.version or "").rpartition("/")[2]
        logger.info("%s was not published with these golden sets: judging it again", name)
        requests = [gate for gate in self._context.request.final_gates if gate.name in gates]
        try:
            results = self._evaluate(folder, version.digest, requests)
        except CannotEvaluateError as error:
            return {}, (
                f"it cannot be judged on today's golden set: {error}; restore it, remove its folder, or "
                "publish to another address"
            )
        for gate, result in results.items():
            write_cases(self._outputs / published_file(name, golden_file(gate)), result)
        return {gate: result.outcomes(GOLDEN) for gate, result in results.items()}, None

    def _evaluate(
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
