"""The publish role: publish the artifact that passed, and nothing else.

It does not trust a recorded verdict: it judges the results of the gate role again, and checks that the
artifact has exactly the bytes that were judged.
"""

import logging
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from pydantic import ValidationError

from tunegate_api.contract import (
    FileManifest,
    Outcome,
    PublishedArtifact,
    Report,
    Results,
    Role,
    Subject,
    files_digest,
)
from tunegate_api.judging.judgement import Judgement, judge_final
from tunegate_api.judging.verdict import VerdictState
from tunegate_trainer.artifacts.evaluation_files import RESULT
from tunegate_trainer.artifacts.gate_result import GateRoleResult
from tunegate_trainer.process.context import Context
from tunegate_trainer.process.epoch import Writer
from tunegate_trainer.process.errors import StorageError, UserError
from tunegate_trainer.process.files import is_complete, read_manifest, refuse_unreadable, verify
from tunegate_trainer.publish.evidence import is_described, write_evidence
from tunegate_trainer.publish.history import next_reading, strictest
from tunegate_trainer.publish.targets import TARGETS, Targets, open_target
from tunegate_trainer.publish.targets.target import Target, Version, version_name

logger = logging.getLogger(__name__)


MAX_TRIES = 10
"""How often a version is judged again because another job has just published to the same target."""


def run(context: Context, targets: Targets = TARGETS) -> Outcome:
    """Publish the artifact with ``context.options.digest`` to every address of the spec, and report where it
    went.

    If another job has published there since the gate role judged the artifact, it is compared with that
    version too. If it then does not pass, nothing more is published and the role ends well: the operator
    computes the same verdict from what is reported.

    Raises :class:`UserError` unless it passed its gates and is undamaged, :class:`Superseded` if another
    process publishes it now. Running it again changes nothing.
    """
    request, digest = context.request, context.options.digest
    if digest is None:
        raise UserError("the publish role needs --digest")
    # Check all addresses first: an invalid one is reported before anything is published.
    opened = {target.uri: open_target(context.root, target.uri, targets) for target in request.spec.publish}
    artifact = context.workspace / context.paths.model
    manifest = check_artifact(artifact, digest)
    results, measured = read_gate_results(context, digest)
    check_verdict(context, results)

    version = version_name(request.name, request.uid)
    artifacts = {uri: PublishedArtifact(uri=f"{uri.rstrip('/')}/{version}", digest=digest) for uri in opened}
    writer = Writer.claim(context.workspace / context.paths.job / "publish")
    publication = _Publication(context, [*opened.values()], artifact, manifest, measured, results, writer)
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
    """The evaluations of the gate role, and the published versions that it read at the targets."""
    writer: Writer

    def __post_init__(self) -> None:
        self._results = self.gate_results.merged(self.context.report.results)  # of earlier attempts

    @property
    def readings(self) -> Results:
        """The published versions that this role read at the targets, if they differ from what the gate
        read."""
        read = self._results.last_published
        return Results(last_published=None if read == self.gate_results.last_published else read)

    def publish(self, target: Target, *, is_there: bool) -> bool:
        """Copy the artifact to ``target`` and record it as the last publication there.

        Return False if it does not pass in comparison with what others published. ``is_there`` is True if an
        earlier attempt reported that it was published there.
        """
        for _ in range(MAX_TRIES):
            number = target.read_stable()  # read before the versions: a later publication changes the number
            is_done = is_there or target.contains(self._name)
            version = self._version(keep=is_done)
            if not is_done and self._judge_again(target).state is not VerdictState.PASSED:
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
            f"other jobs published to {target.name} {MAX_TRIES} times while this one tried", "try again"
        )

    @property
    def _name(self) -> str:
        return version_name(self.context.request.name, self.context.request.uid)

    def _judge_again(self, target: Target) -> Judgement:
        """Return the verdict in comparison with the versions that are published now.

        Another target that cannot be read is left out; its error is raised when it is published to.
        """
        request = self.context.request
        if request.compares_with_published:
            found = []
            for one in self.targets:
                try:
                    found.append(one.newest_versions(request.final_gates, self._name))
                except StorageError:
                    if one is target:
                        raise
            reading = next_reading(self._results.last_published, strictest(found))
            self._results = self._results.merged(Results(last_published=reading))
        judgement = self._judgement
        if judgement.state is not VerdictState.PASSED:
            logger.warning("not published, the verdict is %s: %s", judgement.state, judgement.message)
        return judgement

    @property
    def _judgement(self) -> Judgement:
        judgement = judge_final(self.context.request, self._results)
        if judgement is None:  # cannot happen after check_verdict
            raise UserError("the artifact was not measured")
        return judgement

    def _version(self, *, keep: bool) -> Version:
        """Return the artifact with its evidence. With ``keep``, an undamaged version at the target is
        kept."""
        context = self.context

        def describe(folder: Path) -> None:
            write_evidence(
                folder,
                request=context.request,
                plan=context.plan,
                judgement=self._judgement,
                measured=self.measured,
                manifest=self.manifest,
            )

        def may_stay(folder: Path) -> bool:
            return keep or is_described(folder, self._judgement, self.measured)

        return Version(self._name, self.artifact, self.manifest, describe, may_stay)


def check_artifact(artifact: Path, digest: str) -> FileManifest:
    """Return the manifest of ``artifact``. Raises :class:`UserError` unless its files match ``digest``."""
    if not is_complete(artifact):
        raise UserError("the workspace has no artifact to publish", "the gate Job writes it to model/")
    problems = verify(artifact)
    refuse_unreadable("the artifact", problems)
    if problems:
        raise UserError(
            f"the artifact was changed after it was judged: {'; '.join(problems)}",
            "nothing was published; judge the checkpoint again in a new job",
        )
    manifest = read_manifest(artifact)
    found = files_digest(manifest.files)
    if not found == manifest.digest == digest:
        raise UserError(f"the artifact has digest {found}, but the one that passed has {digest}")
    return manifest


def read_gate_results(context: Context, digest: str) -> tuple[Results, GateRoleResult]:
    """Return the results of the gate role from its report, and from gate/result.json.

    Raises :class:`UserError` if one is missing, if they differ, or if they are about another artifact.
    """
    reported = context.paths.outbox / f"{Role.GATE}.json"
    written = context.paths.gate / RESULT
    try:
        report = Report.model_validate_json((context.workspace / reported).read_bytes())
        measured = GateRoleResult.model_validate_json((context.workspace / written).read_bytes())
    except FileNotFoundError as error:
        raise UserError(
            f"nothing is published without the gate's results: {error.filename} is missing"
        ) from error
    except ValidationError as error:
        raise UserError(f"the gate's results cannot be read: {error}") from error
    outcomes = {e.key: (e.outcomes, e.counts) for e in measured.evaluations}
    if outcomes != {e.key: (e.outcomes, e.counts) for e in report.results.evaluations}:
        raise UserError(f"{written} and {reported} differ: one was changed after the gate measured")
    judged = {measured.artifact, *(e.digest for e in report.results.find(Subject.FINAL))}
    if judged != {digest}:
        found = ", ".join(sorted(str(d) for d in judged))
        raise UserError(f"the gate's results are about the artifact {found}, not {digest}")
    return report.results, measured


def check_verdict(context: Context, results: Results) -> Judgement:
    """Return the verdict computed from the outcomes. Raises :class:`UserError` unless it is Passed."""
    judgement = judge_final(context.request, results)
    if judgement is None:
        raise UserError("nothing is published without the gate's results: the artifact was not measured")
    if judgement.state is not VerdictState.PASSED:
        raise UserError(
            f"not published, the verdict is {judgement.state}: {judgement.message}",
            "report.html compares the base and the tuned model case by case",
        )
    return judgement
