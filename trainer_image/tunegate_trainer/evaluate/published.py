"""Evaluate published versions on today's golden sets: the anchors of gates, and versions at publish targets
that were published with other sets."""

import gc
import logging
from collections.abc import Mapping, Sequence
from pathlib import Path

import torch
from pydantic import ValidationError

from tunegate_api.contract import Evaluation, GateRequest, Subject, golden_set
from tunegate_api.meta import Sha256, StatusModel
from tunegate_api.published import PublishedVersion
from tunegate_api.workspace import golden_file, published_file
from tunegate_trainer.artifacts.build import is_adapter, load_artifact, published_stops
from tunegate_trainer.evaluate.baselines import BaselineCache
from tunegate_trainer.evaluate.evaluate import SetResult, write_cases
from tunegate_trainer.evaluate.golden_sets import golden_sets
from tunegate_trainer.evaluate.sets import GOLDEN, GeneratedSet
from tunegate_trainer.models.base_model import verified_model
from tunegate_trainer.models.loading import load_base
from tunegate_trainer.process.context import Context
from tunegate_trainer.process.errors import SourceNotFoundError, UserError
from tunegate_trainer.process.files import refuse_unreadable, verify
from tunegate_trainer.publish.anchor import anchor_folder
from tunegate_trainer.publish.evidence import VERDICT
from tunegate_trainer.publish.targets.target import Target
from tunegate_trainer.tokens.chat import load_tokenizer

logger = logging.getLogger(__name__)


class _Evaluated(StatusModel):
    """A version's evidence: only the fields that say how its model was evaluated."""

    dtype: str
    quantization: str | None = None
    base_model_digest: Sha256


class PublishedVersions:
    """Evaluates published versions on the golden sets of the job's gates.

    A version is loaded as it was evaluated before it was published. The results are cached on the volume, see
    :class:`~tunegate_trainer.evaluate.baselines.BaselineCache`.
    """

    def __init__(self, context: Context, device: torch.device, outputs: Path) -> None:
        self._context = context
        self._device = device
        self._outputs = outputs
        """The folder for the outputs, one file for each version and golden set."""
        self.judged: dict[str, list[PublishedVersion]] = {}
        """The evaluated versions of publish targets by gate."""

    def anchors(self, stage: str) -> Evaluation | None:
        """Return the outcomes of the anchors of the job's gates, each on the golden set of its gate, as an
        evaluation of ``stage``. Returns None if no gate has an anchor.

        Raises the errors of :func:`~tunegate_trainer.publish.anchor.anchor_folder`, and :class:`UserError` if
        an anchor cannot be evaluated.
        """
        outcomes, seconds = {}, 0.0
        for gate in self._context.request.final_gates:
            if gate.spec.anchor:
                folder = anchor_folder(self._context.root, gate.name, gate.spec.anchor)
                try:
                    result = self._evaluate(folder, gate.spec.anchor.digest, [gate])[gate.name]
                except (SourceNotFoundError, UserError) as error:
                    message = f"EvalGate {gate.name}: spec.anchor cannot be judged: {error}"
                    raise type(error)(message, error.hint) from error
                write_cases(self._outputs / published_file(folder.name, golden_file(gate.name)), result)
                outcomes[golden_set(gate.name)] = result.outcomes(GOLDEN)
                seconds += result.seconds
        if not outcomes:
            return None
        return Evaluation(subject=Subject.ANCHOR, stage=stage, step=0, outcomes=outcomes, seconds=seconds)

    def judge(self, target: Target, versions: Mapping[str, PublishedVersion]) -> dict[str, PublishedVersion]:
        """Return ``versions``, the newest versions at ``target`` by gate, with outcomes for those that are
        ``unjudged``.

        A version that cannot be evaluated keeps a ``problem``, so that the comparison with it is an Error.
        Raises :class:`StorageError` if a file cannot be read now.
        """
        found = dict(versions)
        unjudged = {gate: version for gate, version in versions.items() if version.unjudged}
        for address in dict.fromkeys(version.version for version in unjudged.values()):
            gates = [gate for gate, version in unjudged.items() if version.version == address]
            outcomes, problem = self._outcomes(target, unjudged[gates[0]], gates)
            for gate in gates:
                found[gate] = unjudged[gate].model_copy(
                    update={
                        "outcomes": outcomes.get(gate, ""),
                        "by_case": problem is None,
                        "rejudged": problem is None,
                        "unjudged": False,
                        "problem": problem,
                    }
                )
                self.judged.setdefault(gate, []).append(found[gate])
        return found

    def _outcomes(
        self, target: Target, version: PublishedVersion, gates: Sequence[str]
    ) -> tuple[dict[str, str], str | None]:
        """Return the outcomes of a version by gate, or why it cannot be evaluated."""
        folder, name = target.fetch(version), (version.version or "").rpartition("/")[2]
        logger.info("%s was not published with these golden sets: judging it again", name)
        requests = [gate for gate in self._context.request.final_gates if gate.name in gates]
        try:
            results = self._evaluate(folder, version.digest, requests)
        except (SourceNotFoundError, UserError) as error:
            hint = f" ({error.hint})" if error.hint else ""
            return {}, f"it cannot be judged on today's golden set: {error}{hint}"
        for gate, result in results.items():
            write_cases(self._outputs / published_file(name, golden_file(gate)), result)
        return {gate: result.outcomes(GOLDEN) for gate, result in results.items()}, None

    def _evaluate(
        self, folder: Path, digest: Sha256 | None, gates: Sequence[GateRequest]
    ) -> dict[str, SetResult]:
        context, evaluated = self._context, _read_evidence(folder)
        problems = verify(folder)
        refuse_unreadable(folder.name, problems)
        if problems:
            raise UserError(f"it was changed: {'; '.join(problems)}", "restore it, or remove its folder")
        base = _base_model(context, evaluated) if is_adapter(folder) else None
        tokenizer = load_tokenizer(folder, base)
        sets: list[GeneratedSet] = golden_sets(context, tokenizer, gates)
        quantization = evaluated.quantization if base else None
        cache = BaselineCache(context, evaluated.dtype, self._device, quantization, digest)
        results = cache.find(sets)
        if results is None:
            _free_memory()
            base_model = load_base(base or folder, evaluated.dtype, self._device, quantization)
            model = load_artifact(base_model, folder, evaluated.dtype, self._device) if base else base_model
            results = cache.evaluate(model, tokenizer, sets, stops=published_stops(folder))
        return {gate.name: result for gate, result in zip(gates, results, strict=True)}


def _read_evidence(folder: Path) -> _Evaluated:
    try:
        return _Evaluated.model_validate_json((folder / VERDICT).read_bytes())
    except (FileNotFoundError, ValidationError) as error:
        raise UserError(f"its {VERDICT} cannot be read: {str(error).splitlines()[0]}") from error


def _base_model(context: Context, evaluated: _Evaluated) -> Path:
    """Return the folder of the base model of a published adapter. Raises :class:`SourceNotFoundError` if it
    is not on the job's volume."""
    digest = evaluated.base_model_digest
    if digest == context.plan.model.digest:  # verified when the gate started
        return context.workspace / context.paths.base_model(digest)
    try:
        return verified_model(context.workspace, digest)
    except SourceNotFoundError as error:
        raise SourceNotFoundError(
            f"it is an adapter of another base model, which is not on the job's volume: {error}",
            "run a job that starts from that base model on this volume first",
        ) from error


def _free_memory() -> None:
    gc.collect()
    if torch.cuda.is_available():
        torch.cuda.empty_cache()
