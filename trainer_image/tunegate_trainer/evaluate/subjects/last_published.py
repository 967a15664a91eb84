"""The last published versions: those that were published with other golden sets are judged on today's."""

import logging
from collections.abc import Mapping, Sequence

from tunegate_api.contract.published import PublishedVersion
from tunegate_api.contract.request import GateRequest
from tunegate_api.contract.workspace import golden_file, published_file
from tunegate_trainer.artifacts.history import next_reading, strictest, version_name, with_rejudged
from tunegate_trainer.evaluate.evaluate import as_results, write_cases
from tunegate_trainer.evaluate.published import CannotEvaluateError, PublishedVersions
from tunegate_trainer.evaluate.sets import GOLDEN
from tunegate_trainer.evaluate.subjects.setting import SubjectAnswers, SubjectSetting
from tunegate_trainer.evaluate.version_source import VersionSource

logger = logging.getLogger(__name__)

JUDGING_AGAIN = "judging the last published version on today's golden set"


def judge_last_published(setting: SubjectSetting, gates: Sequence[GateRequest]) -> SubjectAnswers:
    """Return the newest versions at the publish targets, with which the artifact is compared.

    Versions that were not published with the golden sets of the job are evaluated on these sets. There is no
    reading if there is no version yet. Raises :class:`StorageError` if a target cannot be read now.
    """
    context, found = setting.context, []
    request, versions_of = context.request, _Rejudging(setting)
    for source in setting.sources:
        versions = source.newest_versions(gates, version_name(request.name, request.uid))
        if any(version.unjudged for each in versions.values() for version in each):
            setting.report(JUDGING_AGAIN)
        found.append(versions_of.with_outcomes(source, versions))
    cases, known = as_results(setting.golden, []), context.report.results.last_published
    reading = next_reading(known, strictest(found, gates, cases))
    return SubjectAnswers(last_published=reading, rejudged=versions_of.judged)


class _Rejudging:
    """Evaluates versions at publish targets on the golden sets of the job's gates."""

    def __init__(self, setting: SubjectSetting) -> None:
        self._context = setting.context
        self._outputs = setting.outputs
        self._versions = PublishedVersions(setting.context, setting.device, setting.base_model)
        self.judged: dict[str, list[PublishedVersion]] = {}
        """The evaluated versions by gate."""

    def with_outcomes(
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
            results = self._versions.evaluate(folder, version.digest, requests)
        except CannotEvaluateError as error:
            return {}, (
                f"it cannot be judged on today's golden set: {error}; restore it, remove its folder, or "
                "publish to another address"
            )
        for gate, result in results.items():
            write_cases(self._outputs / published_file(name, golden_file(gate)), result)
        return {gate: result.outcomes(GOLDEN) for gate, result in results.items()}, None
