"""The publish role: publish the artifact that passed, and nothing else.

This role does not trust a recorded verdict: it computes the verdict again from the results of the gate role,
and checks that the artifact has exactly the files that were evaluated. If a person approved or overrode the
verdict, the operator passes this decision, which must name exactly the computed verdict.
"""

import logging
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from pydantic import ValidationError

from tunegate_api.contract.digests import FileManifest, files_digest
from tunegate_api.contract.process import Outcome, Role
from tunegate_api.contract.published import PublishedVersion
from tunegate_api.contract.report import PublishedArtifact, Report
from tunegate_api.contract.results import Results, Subject
from tunegate_api.contract.workspace import RESULT
from tunegate_api.judging.approval import approving_gates, may_publish, verdict_digest
from tunegate_api.judging.judgement import Judgement, judge_final
from tunegate_api.verdict.outcomes import VerdictState
from tunegate_trainer.artifacts.evidence import ReviewEvidence
from tunegate_trainer.artifacts.gate_result import GateRoleResult
from tunegate_trainer.artifacts.history import UNJUDGED, next_reading, strictest, version_name, with_rejudged
from tunegate_trainer.process.context import Context
from tunegate_trainer.process.epoch import Writer
from tunegate_trainer.process.errors import StorageError, UserError
from tunegate_trainer.process.files import is_complete, read_manifest, refuse_unreadable, verify
from tunegate_trainer.publish.evidence import is_described, write_evidence
from tunegate_trainer.publish.review import review_evidence
from tunegate_trainer.publish.targets import open_target
from tunegate_trainer.publish.targets.target import Target, Version

logger = logging.getLogger(__name__)


MAX_TRIES = 10
"""Maximum number of times that a version is judged for a target. It is judged again if another job has
published to the same target in the meantime."""


def run(context: Context) -> Outcome:
    """Publish the artifact with ``context.options.digest`` to every address in the spec, and report the
    addresses that it was published to.

    If another job has published to an address since the gate role ran, the artifact is also compared with
    that job's version. If the artifact then does not pass, or if its override does not cover this verdict, it
    is not published to further addresses. The role's outcome is Completed even then, because the operator
    computes the same verdict from the report.

    Raises :class:`UserError` if the artifact may not be published or was changed, and :class:`Superseded`
    if another process of the job publishes now. Publishing again does not change what is already published.
    """
    request, digest = context.request, context.options.digest
    if digest is None:
        raise UserError("the publish role needs --digest")
    # Check all addresses first: an invalid one is reported before anything is published.
    opened = {target.uri: open_target(context.root, target.uri) for target in request.spec.publish}
    artifact = context.workspace / context.paths.model
    manifest = check_artifact(artifact, digest)
    results, measured = read_gate_results(context, digest)
    check_verdict(context, results)
    review = check_review(context)

    version = version_name(request.name, request.uid)
    artifacts = {uri: PublishedArtifact(uri=f"{uri.rstrip('/')}/{version}", digest=digest) for uri in opened}
    writer = Writer.claim(context.workspace / context.paths.job / "publish")
    publication = _Publication(
        context, [*opened.values()], artifact, manifest, measured, results, writer, review
    )
    has_ended = False
    there = {uri for uri in opened if artifacts[uri] in context.report.published}  # by an earlier attempt
    try:
        for uri, target in opened.items():
            if not publication.publish(target, is_there=uri in there):
                break
            there.add(uri)
            logger.info("published to %s", artifacts[uri].uri)
        has_ended = True  # if a copy could not be removed, its lost verdict waits for a retry
    finally:  # if one target is unreachable, still report those that were published to
        writer.check()  # if another pod took over, it writes the report
        # Everything in one report: after a failed verdict, the operator ends the job and reads no further
        # one.
        published = [artifacts[uri] for uri in opened if uri in there]
        read = publication.readings if has_ended else context.report.results
        context.send_report(published=published, results=read)
    return Outcome.COMPLETED


@dataclass
class _Publication:
    """The publication of one artifact by this process."""

    context: Context
    targets: Sequence[Target]
    artifact: Path
    manifest: FileManifest
    measured: GateRoleResult
    gate_results: Results
    """The evaluations of the gate role, and the last published versions that the gate role read at the
    targets."""
    writer: Writer
    review: ReviewEvidence | None

    def __post_init__(self) -> None:
        self._results = self.gate_results.merged(self.context.report.results)  # of earlier attempts

    @property
    def readings(self) -> Results:
        """The last published versions that this role read at the targets. Empty if the gate role read the
        same versions."""
        read = self._results.last_published
        return Results(last_published=None if read == self.gate_results.last_published else read)

    def publish(self, target: Target, *, is_there: bool) -> bool:
        """Copy the artifact to ``target`` and record it as the last publication at this target.

        Return False if the artifact does not pass in comparison with the versions that other jobs published.
        ``is_there`` is True if an earlier attempt reported that it had published the artifact to this target.
        """
        for _ in range(MAX_TRIES):
            number = target.read_stable()  # read before the versions: a later publication changes the number
            is_done = is_there or target.contains(self._name)
            version = self._version(keep=is_done)
            if not is_done and not is_allowed(self.context, self._judge_again(target)):
                target.withdraw(version, self.writer)
                return False
            if self.context.report.results != self.readings:
                self.writer.check()
                self.context.send_report(results=self.readings)
            target.upload(version, self.writer)
            if target.set_stable(version, None if is_done else number, self.writer):
                return True
            logger.info("another job has published to %s: comparing with its version", target.name)
        raise StorageError(
            f"other jobs published to {target.name} {MAX_TRIES} times while this job tried to publish",
            "the next attempt tries again; publish fewer jobs to one address at the same time",
        )

    @property
    def _name(self) -> str:
        return version_name(self.context.request.name, self.context.request.uid)

    def _judge_again(self, target: Target) -> Judgement:
        """Return the verdict in comparison with the versions that are published now.

        Raises :class:`StorageError` if ``target`` cannot be read. If another target cannot be read, it is
        left out: the error is raised when the artifact is published to that target.
        """
        request = self.context.request
        if request.compares_with_published:
            found = []
            for one in self.targets:
                try:
                    found.append(self._judged(one.newest_versions(request.final_gates, self._name)))
                except StorageError:
                    if one is target:
                        raise
            chosen = strictest(found, request.final_gates, self._results)
            reading = next_reading(self._results.last_published, chosen)
            self._results = self._results.merged(Results(last_published=reading))
        judgement = self._judgement
        if not is_allowed(self.context, judgement):
            logger.warning("not published, the verdict is %s: %s", judgement.state, judgement.message)
        return judgement

    def _judged(self, newest: Mapping[str, Sequence[PublishedVersion]]) -> dict[str, list[PublishedVersion]]:
        """Return the versions with outcomes.

        This role cannot evaluate a version that was published with another golden set after the gate role had
        run. The artifact is then compared with the version that the gate role found, as if the jobs had
        published in the other order.
        """
        before = self.gate_results.last_published
        judged: dict[str, list[PublishedVersion]] = {}
        for gate, versions in with_rejudged(newest, self.measured.rejudged).items():
            judged[gate] = [version for version in versions if not version.unjudged]
            if len(judged[gate]) < len(versions):
                logger.warning("%s: not compared with %s: %s", gate, versions[0].version, UNJUDGED)
                earlier = before.versions.get(gate) if before else None
                judged[gate] += [earlier] if earlier else []
        return judged

    @property
    def _judgement(self) -> Judgement:
        judgement = judge_final(self.context.request, self._results)
        if judgement is None:  # cannot happen after check_verdict
            raise UserError("not published: the results of the gate role have no evaluation of the artifact")
        return judgement

    def _version(self, *, keep: bool) -> Version:
        """Return the artifact with its evidence. With ``keep``, an undamaged version at the target is kept
        even if its evidence differs."""
        context = self.context

        def describe(folder: Path) -> None:
            write_evidence(
                folder,
                request=context.request,
                plan=context.plan,
                judgement=self._judgement,
                measured=self.measured,
                gate_folder=context.workspace / context.paths.gate,
                manifest=self.manifest,
                review=self.review,
                decision=context.decision,
            )

        def may_stay(folder: Path) -> bool:
            return keep or is_described(folder, self._judgement, self.measured)

        return Version(self._name, self.artifact, self.manifest, describe, may_stay)


def check_artifact(artifact: Path, digest: str) -> FileManifest:
    """Return the manifest of ``artifact``. Raises :class:`UserError` if its files do not match ``digest``."""
    if not is_complete(artifact):
        raise UserError(
            "there is no complete artifact to publish in model/ in the job's folder on the volume",
            "the gate Job wrote it there: check whether files on the volume were removed",
        )
    problems = verify(artifact)
    refuse_unreadable("the artifact", problems)
    if problems:
        raise UserError(
            f"the artifact was changed after it was judged: {'; '.join(problems)}",
            "nothing was published; judge the checkpoint again in a new job",
        )
    manifest = read_manifest(artifact)
    for what, found in (
        ("the artifact", files_digest(manifest.files)),
        ("the artifact's manifest.json", manifest.digest),
    ):
        if found != digest:
            raise UserError(
                f"{what} has digest {found}, but the artifact that passed has digest {digest}",
                "nothing was published: files on the volume were changed; create the job again",
            )
    return manifest


def read_gate_results(context: Context, digest: str) -> tuple[Results, GateRoleResult]:
    """Return the results of the gate role from its report, and from gate/result.json.

    Raises :class:`UserError` if one of the files is missing or damaged, if their results differ, or if the
    results are for another artifact.
    """
    reported = context.paths.outbox / f"{Role.GATE}.json"
    written = context.paths.gate / RESULT
    try:
        report = Report.model_validate_json((context.workspace / reported).read_bytes())
        measured = GateRoleResult.model_validate_json((context.workspace / written).read_bytes())
    except FileNotFoundError as error:
        raise UserError(
            f"not published: {error.filename}, a file with the gate's results, is missing",
            "check whether files on the volume were removed",
        ) from error
    except ValidationError as error:
        raise UserError(
            f"not published: the gate's results are damaged: {error}", "create the job again"
        ) from error
    outcomes = {e.key: (e.outcomes, e.counts) for e in measured.evaluations}
    compared = report.results.last_published.versions if report.results.last_published else {}
    unknown = [v for gate, v in compared.items() if v.rejudged and v not in measured.rejudged.get(gate, ())]
    is_changed = report.results.error_rates != measured.error_rates
    reported_outcomes = {e.key: (e.outcomes, e.counts) for e in report.results.evaluations}
    if unknown or is_changed or outcomes != reported_outcomes:
        raise UserError(
            f"not published: the results in {written} and {reported} differ, so one of these files was "
            "changed after "
            "the gate had written it",
            "create the job again",
        )
    judged = {measured.artifact, *(e.digest for e in report.results.find(Subject.FINAL))}
    if judged != {digest}:
        found = ", ".join(sorted(str(d) for d in judged))
        raise UserError(
            f"not published: the gate's results are for the artifact with digest {found}, not {digest}",
            "create the job again",
        )
    return report.results, measured


def is_allowed(context: Context, judgement: Judgement) -> bool:
    """Return whether the artifact may be published: it passed, with an approval if a gate requires one, or a
    person overrode exactly this verdict."""
    return may_publish(context.request, judgement.state, verdict_digest(judgement), context.decision)


def check_verdict(context: Context, results: Results) -> Judgement:
    """Compute the verdict from the outcomes and return it. Raises :class:`UserError` if the artifact may not
    be published."""
    judgement = judge_final(context.request, results)
    if judgement is None:
        raise UserError("not published: the results of the gate role have no evaluation of the artifact")
    if is_allowed(context, judgement):
        return judgement
    if judgement.state is VerdictState.PASSED:
        gates = ", ".join(approving_gates(context.request))
        raise UserError(
            f"not published: {gates} requires an approval of the verdict {verdict_digest(judgement)}, and "
            "there is none",
            "the results changed after the approval, or the operator is older than the trainer image",
        )
    raise UserError(
        f"not published, the verdict is {judgement.state}: {judgement.message}",
        "report.html compares the base and the tuned model case by case",
    )


def check_review(context: Context) -> ReviewEvidence | None:
    """Count the recorded scores of the training data, and return the result; None for a job without a review.
    Raises :class:`UserError` if the review is not passed."""
    review = review_evidence(context.request, context.plan.data.review, context.review)
    if review and review.passed is False:
        raise UserError(
            f"not published, the review of the data is not passed: {review.good} of {review.rows} rows are "
            f"good, minimum {review.min_score}",
            "the record of the review was replaced after training had started; create the job again",
        )
    return review
