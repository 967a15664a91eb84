"""The publish role: let out what passed, and nothing else.

It believes no verdict. What the gate role measured is judged once more, and the bytes that go out are those
that were judged.
"""

import logging
from pathlib import Path

from pydantic import ValidationError

from tunegate_api.contract import (
    FileManifest,
    PublishedArtifact,
    Report,
    Results,
    Role,
    Subject,
    files_digest,
)
from tunegate_api.judgement import Judgement, judge_final
from tunegate_api.verdict import VerdictState
from tunegate_trainer.context import Context
from tunegate_trainer.errors import UserError
from tunegate_trainer.files import is_complete, read_manifest, refuse_unreadable, verify
from tunegate_trainer.gate_result import GateResult
from tunegate_trainer.publish.evidence import write_evidence
from tunegate_trainer.publish.targets import publish_version, target_folder
from tunegate_trainer.writer import Writer

logger = logging.getLogger(__name__)


def run(context: Context, digest: str | None) -> None:
    """Publish the artifact with ``digest`` to every address of the spec, and report where it went.

    Raises :class:`UserError` unless it passed its gates and is undamaged, :class:`Superseded` if another
    process publishes it now. Running it again changes nothing.
    """
    request, plan = context.request, context.plan
    if digest is None:
        raise UserError("the publish role needs --digest")
    # All addresses first: a job is published everywhere or the first thing said is why not.
    folders = {target.uri: target_folder(context.root, target.uri) for target in request.spec.publish}
    artifact = context.workspace / context.paths.model
    manifest = check_artifact(artifact, digest)
    results, measured = read_gate_results(context, digest)
    judgement = check_verdict(context, results)

    def describe(folder: Path) -> None:
        write_evidence(
            folder, request=request, plan=plan, judgement=judgement, measured=measured, manifest=manifest
        )

    version = version_name(request.name, request.uid)
    artifacts = {uri: PublishedArtifact(uri=f"{uri.rstrip('/')}/{version}", digest=digest) for uri in folders}
    writer = Writer.claim(context.workspace / context.paths.job / "publish")
    there = {uri for uri in folders if artifacts[uri] in context.report.published}  # by an earlier attempt
    try:
        for uri, folder in folders.items():
            publish_version(folder / version, artifact, manifest, describe, writer)
            there.add(uri)
            logger.info("published to %s", artifacts[uri].uri)
    finally:  # where one cannot be reached, the others have it all the same
        writer.check()  # the report is another pod's now
        context.tell(published=[artifacts[uri] for uri in folders if uri in there])


def version_name(job: str, uid: str) -> str:
    """The folder of a job's model below its address: another job with the same name has another one."""
    return f"{job}-{uid[:5]}"


def check_artifact(artifact: Path, digest: str) -> FileManifest:
    """The manifest of ``artifact``. Raises :class:`UserError` unless its files are those of ``digest``."""
    if not is_complete(artifact):
        raise UserError("the workspace has no artifact to publish", "the gate Job makes it in model/")
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
        raise UserError(f"the artifact has digest {found}, the one that passed has {digest}")
    return manifest


def read_gate_results(context: Context, digest: str) -> tuple[Results, GateResult]:
    """What the gate role measured on the artifact, as it reported it and as it stands in gate/result.json.

    Raises :class:`UserError` if one is missing, they differ, or they are about another artifact.
    """
    reported = context.paths.outbox / f"{Role.GATE}.json"
    written = context.paths.gate / "result.json"
    try:
        report = Report.model_validate_json((context.workspace / reported).read_bytes())
        measured = GateResult.model_validate_json((context.workspace / written).read_bytes())
    except FileNotFoundError as error:
        raise UserError(
            f"nothing is published without the gate's results: {error.filename} is missing"
        ) from error
    except ValidationError as error:
        raise UserError(f"the gate's results cannot be read: {error}") from error
    outcomes = {e.key: e.outcomes for e in measured.evaluations}
    if outcomes != {e.key: e.outcomes for e in report.results.evaluations}:
        raise UserError(f"{written} and {reported} differ: one was changed after the gate measured")
    judged = {measured.artifact, *(e.digest for e in report.results.find(Subject.FINAL))}
    if judged != {digest}:
        found = ", ".join(sorted(str(d) for d in judged))
        raise UserError(f"the gate's results are about the artifact {found}, not {digest}")
    return report.results, measured


def check_verdict(context: Context, results: Results) -> Judgement:
    """The verdict, computed from the outcomes. Raises :class:`UserError` unless it is Passed."""
    judgement = judge_final(context.request, results)
    if judgement is None:
        raise UserError("nothing is published without the gate's results: the artifact was not measured")
    if judgement.state is not VerdictState.PASSED:
        raise UserError(
            f"not published, the verdict is {judgement.state}: {judgement.message}",
            "the report compares base and tuned model case by case",
        )
    return judgement
