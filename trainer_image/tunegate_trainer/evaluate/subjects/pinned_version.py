"""The versions that gates pin: they are evaluated on the golden sets of their gates."""

import logging
from collections.abc import Sequence

from tunegate_api.contract.request import GateRequest
from tunegate_api.contract.results import Evaluation, Subject, golden_set
from tunegate_api.contract.workspace import golden_file, published_file
from tunegate_api.v1alpha2.compared import VERSION_FIELD, PinnedVersion
from tunegate_trainer.artifacts.pinned_version import version_folder
from tunegate_trainer.evaluate.evaluate import SetResult, write_cases
from tunegate_trainer.evaluate.published import CannotEvaluateError, PublishedVersions
from tunegate_trainer.evaluate.sets import GOLDEN
from tunegate_trainer.evaluate.subjects.setting import SubjectAnswers, SubjectSetting
from tunegate_trainer.process.errors import SourceNotFoundError, UserError

logger = logging.getLogger(__name__)


def judge_pinned_versions(setting: SubjectSetting, gates: Sequence[GateRequest]) -> SubjectAnswers:
    """Return the outcomes of the versions that ``gates`` pin, each on the golden set of its gate. The version
    of a gate in a dry run is left out if it cannot be evaluated.

    Raises :class:`SourceNotFoundError` and :class:`UserError` if a version cannot be evaluated.
    """
    setting.report("judging the pinned version")
    versions = PublishedVersions(setting.context, setting.device, setting.base_model)
    outcomes, seconds = {}, 0.0
    for gate in gates:
        result = _judge(setting, versions, gate, gate.spec.pinned_version)
        if result is not None:
            outcomes[golden_set(gate.name)] = result.outcomes(GOLDEN)
            seconds += result.seconds
    if not outcomes:
        return SubjectAnswers()
    return SubjectAnswers(
        [Evaluation(subject=Subject.VERSION, stage=setting.stage, step=0, outcomes=outcomes, seconds=seconds)]
    )


def _judge(
    setting: SubjectSetting, versions: PublishedVersions, gate: GateRequest, pinned: PinnedVersion | None
) -> SetResult | None:
    if pinned is None:
        return None
    try:
        folder = version_folder(setting.context.root, gate.name, pinned)
        result = versions.evaluate(folder, pinned.digest, [gate]).get(gate.name)
    except CannotEvaluateError as error:
        hint = f"restore the version, or name another one in {VERSION_FIELD}"
        failure = UserError(f"EvalGate {gate.name}: {VERSION_FIELD} cannot be judged: {error}", hint)
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
        write_cases(setting.outputs / published_file(folder.name, golden_file(gate.name)), result)
    return result
