"""The publish role publishes exactly the bytes that passed, and nothing else."""

import errno
import json
import os
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest

from support.job_folder import GATE, UID, JobFolder
from tunegate_api.contract.digests import files_digest
from tunegate_api.contract.process import Role
from tunegate_api.contract.report import PublishedArtifact
from tunegate_trainer.process import files
from tunegate_trainer.process.errors import SourceNotFoundError, StorageError, UserError
from tunegate_trainer.process.files import read_manifest, seal, verify
from tunegate_trainer.process.interruption import Interrupted, Superseded
from tunegate_trainer.roles.publish import run

VERSION = f"invoice-extractor-{UID[:5]}"
PASSING = {"base": ("p" * 10 + "f" * 10, "pp" + "f" * 8), "final": ("p" * 19 + "f", "p" * 9 + "f")}


@pytest.fixture
def job(tmp_path: Path) -> JobFolder:
    (tmp_path / "volumes" / "models").mkdir(parents=True)
    return JobFolder(tmp_path).write_request().write_data()


def published(job: JobFolder) -> Path:
    return job.root / "volumes" / "models" / "invoice-extractor" / VERSION


def nothing_is_published(job: JobFolder) -> bool:
    return not any((job.root / "volumes" / "models").iterdir())


def test_passing_model_is_published_byte_for_byte(job: JobFolder) -> None:
    digest = job.write_gate(**PASSING)
    run(job.context(digest=digest))

    judged = read_manifest(job.artifact)
    for name in judged.files:
        assert (published(job) / name).read_bytes() == (job.artifact / name).read_bytes()
    assert verify(published(job)) == []
    assert read_manifest(published(job)).digest == digest


def test_publish_report_names_version_and_digest(job: JobFolder) -> None:
    digest = job.write_gate(**PASSING)
    run(job.context(digest=digest))

    (artifact,) = job.context().report.published
    assert artifact.uri == f"pvc://models/invoice-extractor/{VERSION}"
    assert artifact.digest == digest


def test_latest_link_points_to_newest_version(job: JobFolder) -> None:
    folder = published(job).parent
    folder.mkdir()
    (folder / "latest").symlink_to("an-older-version")
    run(job.context(digest=job.write_gate(**PASSING)))

    assert (folder / "latest").readlink() == Path(VERSION)
    assert sorted(path.name for path in folder.iterdir()) == [".history", VERSION, "latest"]


def test_publishing_again_changes_nothing(job: JobFolder) -> None:
    digest = job.write_gate(**PASSING)
    run(job.context(digest=digest))
    before = {path: path.stat().st_mtime_ns for path in published(job).rglob("*")}
    run(job.context(digest=digest))

    assert {path: path.stat().st_mtime_ns for path in published(job).rglob("*")} == before
    assert len(job.context().report.published) == 1


def test_damaged_version_is_replaced(job: JobFolder) -> None:
    digest = job.write_gate(**PASSING)
    run(job.context(digest=digest))
    (published(job) / "adapter_model.safetensors").write_bytes(b"half")
    run(job.context(digest=digest))

    assert verify(published(job)) == []


def test_published_version_is_never_overwritten_with_other_weights(job: JobFolder) -> None:
    run(job.context(digest=job.write_gate(**PASSING)))
    job.weights = b"other weights"
    with pytest.raises(UserError, match="already published with digest"):
        run(job.context(digest=job.write_gate(**PASSING)))
    assert (published(job) / "adapter_model.safetensors").read_bytes() == b"weights"


def test_model_below_golden_threshold_is_refused_with_numbers(
    job: JobFolder,
) -> None:
    digest = job.write_gate(base=PASSING["base"], final=("p" * 17 + "fff", "p" * 10))
    with pytest.raises(UserError, match=r"verdict is Failed: .*golden 17/20 = 0.85, required 0.90"):
        run(job.context(digest=digest))
    assert nothing_is_published(job)


def test_model_below_required_task_metric_is_not_published(job: JobFolder) -> None:
    digest = job.write_gate(base=PASSING["base"], final=("p" * 20, "p" * 7 + "fff"))
    with pytest.raises(UserError, match=r"exact_match 7/10 = 0.70, required 0.80"):
        run(job.context(digest=digest))
    assert nothing_is_published(job)


def test_model_worse_than_the_last_published_one_is_not_published(job: JobFolder) -> None:
    job.last_published = {"job": "v1", "golden_sha256": job.golden_sha256, "outcomes": "p" * 20}
    job.write_request()
    digest = job.write_gate(**PASSING)
    with pytest.raises(UserError, match=r"golden 19/20, LastPublished 20/20: -5.0 points, limit -5.0"):
        run(job.context(digest=digest))
    assert nothing_is_published(job)


def test_model_with_unscored_case_is_not_published(job: JobFolder) -> None:
    digest = job.write_gate(base=PASSING["base"], final=("p" * 19 + "e", "p" * 10))
    with pytest.raises(UserError, match="verdict is Error"):
        run(job.context(digest=digest))
    assert nothing_is_published(job)


def test_dry_run_gate_does_not_block_publishing(job: JobFolder) -> None:
    job.gate_spec = {"enforcement": "DryRun"}
    job.write_request()
    run(job.context(digest=job.write_gate(base=PASSING["base"], final=("f" * 20, "p" * 10))))
    assert published(job).is_dir()


def test_publish_does_not_trust_verdict_in_results_file(job: JobFolder) -> None:
    digest = job.write_gate(base=PASSING["base"], final=("f" * 20, "p" * 10))
    result = json.loads((job.folder / "gate" / "result.json").read_text())
    assert result["verdict"] == "Passed"
    with pytest.raises(UserError, match="verdict is Failed"):
        run(job.context(digest=digest))


def test_gate_outcomes_that_differ_from_the_gate_report_are_refused(job: JobFolder) -> None:
    digest = job.write_gate(base=PASSING["base"], final=("f" * 20, "p" * 10))
    path = job.folder / "gate" / "result.json"
    path.write_text(path.read_text().replace("f" * 20, "p" * 20))
    with pytest.raises(UserError, match="differ, so one of these files was changed"):
        run(job.context(digest=digest))


def test_gate_counts_that_differ_from_the_gate_report_are_refused(job: JobFolder) -> None:
    digest = job.write_gate(base=PASSING["base"], final=PASSING["final"])
    path = job.folder / "gate" / "result.json"
    result = json.loads(path.read_text())
    result["evaluations"][-1]["counts"] = {"test/f1": "4/4 4/4"}
    path.write_text(json.dumps(result))
    with pytest.raises(UserError, match="differ, so one of these files was changed"):
        run(job.context(digest=digest))


def test_error_rate_that_differs_from_the_gate_report_is_refused(job: JobFolder) -> None:
    digest = job.write_gate(base=PASSING["base"], final=PASSING["final"])
    path = job.workspace / job.paths.outbox / "gate.json"
    report, perfect = json.loads(path.read_text()), {"name": "strength 0.5", "outcomes": "f" * 20}
    forged = {"reference": PASSING["final"][0], "repeats": [PASSING["final"][0]] * 4, "planted": [perfect]}
    same = {"goldenSha256": job.golden_sha256, "baseDigest": "b" * 64, "scoring": "s"}
    report["results"]["errorRates"] = {GATE: forged | same}
    path.write_text(json.dumps(report))
    with pytest.raises(UserError, match="differ, so one of these files was changed"):
        run(job.context(digest=digest))


def test_artifact_changed_after_judgement_is_refused(job: JobFolder) -> None:
    digest = job.write_gate(**PASSING)
    (job.artifact / "adapter_config.json").write_text('{"r": 999}')
    with pytest.raises(UserError, match=r"adapter_config.json does not match its digest"):
        run(job.context(digest=digest))
    assert nothing_is_published(job)


def test_artifact_with_additional_file_is_refused(job: JobFolder) -> None:
    digest = job.write_gate(**PASSING)
    (job.artifact / "modeling_evil.py").write_text("")
    with pytest.raises(UserError, match=r"modeling_evil.py is not in the manifest"):
        run(job.context(digest=digest))


@pytest.mark.parametrize("name", ["adapter_config.json", "tokenizer_config.json", "modeling_evil.py"])
def test_changed_artifact_with_a_new_manifest_is_refused(job: JobFolder, name: str) -> None:
    digest = job.write_gate(**PASSING)
    (job.artifact / name).write_text('{"chat_template": "obey"}')
    (job.artifact / "DONE").unlink()
    seal(job.artifact)
    with pytest.raises(UserError, match=f"the artifact that passed has digest {digest}"):
        run(job.context(digest=digest))
    assert nothing_is_published(job)


def test_changed_artifact_with_a_forged_digest_in_manifest_is_refused(job: JobFolder) -> None:
    digest = job.write_gate(**PASSING)
    (job.artifact / "adapter_config.json").write_text('{"r": 999}')
    (job.artifact / "DONE").unlink()
    seal(job.artifact, digest)
    with pytest.raises(UserError, match=f"the artifact that passed has digest {digest}"):
        run(job.context(digest=digest))


def test_wrong_manifest_digest_of_unchanged_artifact_is_named(job: JobFolder) -> None:
    digest, wrong = job.write_gate(**PASSING), "0" * 64
    (job.artifact / "DONE").unlink()
    seal(job.artifact, wrong)
    message = f"manifest.json has digest {wrong}, but the artifact that passed has digest {digest}"
    with pytest.raises(UserError, match=message):
        run(job.context(digest=digest))
    assert nothing_is_published(job)


def test_artifact_with_damaged_manifest_is_refused(job: JobFolder) -> None:
    digest = job.write_gate(**PASSING)
    (job.artifact / "manifest.json").write_text("{")
    with pytest.raises(UserError, match=r"manifest\.json is damaged"):
        run(job.context(digest=digest))


def test_published_version_with_changed_file_and_forged_digest_is_refused(job: JobFolder) -> None:
    digest = job.write_gate(**PASSING)
    run(job.context(digest=digest))
    (published(job) / "adapter_config.json").write_text('{"r": 999}')
    seal(published(job), digest)
    with pytest.raises(UserError, match="already published with digest"):
        run(job.context(digest=digest))


def test_digest_of_an_artifact_that_did_not_pass_is_refused(job: JobFolder) -> None:
    job.write_gate(**PASSING)
    with pytest.raises(UserError, match="the artifact that passed has digest 0000"):
        run(job.context(digest="0" * 64))
    assert nothing_is_published(job)


def test_missing_gate_results_prevent_publishing(job: JobFolder) -> None:
    digest = job.write_artifact()
    with pytest.raises(UserError, match=r"a file with the gate's results, is missing"):
        run(job.context(digest=digest))
    assert nothing_is_published(job)


def test_weights_changed_during_copy_are_not_published(
    job: JobFolder, monkeypatch: pytest.MonkeyPatch
) -> None:
    digest = job.write_gate(**PASSING)
    copy = shutil.copyfile

    def swap_first(source: Path, target: Path) -> None:
        if source.name == "adapter_model.safetensors":
            source.write_bytes(b"swapped")
        copy(source, target)

    monkeypatch.setattr(shutil, "copyfile", swap_first)
    with pytest.raises(
        StorageError, match=r"adapter_model.safetensors at the target differs from the artifact"
    ):
        run(job.context(digest=digest))
    assert list(published(job).parent.iterdir()) == []


@pytest.mark.parametrize("uri", ["s3://bucket/model", "oci://registry.internal/model", "hf://org/model"])
def test_unsupported_publish_address_is_refused_before_anything_is_copied(job: JobFolder, uri: str) -> None:
    job.spec = {"publish": [{"uri": "pvc://models/invoice-extractor"}, {"uri": uri}]}
    job.write_request()
    with pytest.raises(UserError, match="is not supported"):
        run(job.context(digest=job.write_gate(**PASSING)))
    assert nothing_is_published(job)


def test_path_outside_the_volume_is_refused(job: JobFolder) -> None:
    job.spec = {"publish": [{"uri": "pvc://models/../elsewhere"}]}
    job.write_request()
    with pytest.raises(UserError, match=r"must not contain \.\."):
        run(job.context(digest=job.write_gate(**PASSING)))


def test_error_names_a_claim_that_is_not_mounted(job: JobFolder) -> None:
    job.spec = {"publish": [{"uri": "pvc://archive/invoice-extractor"}]}
    job.write_request()
    with pytest.raises(SourceNotFoundError, match="the PersistentVolumeClaim archive is not mounted"):
        run(job.context(digest=job.write_gate(**PASSING)))


def test_model_is_published_to_every_address(job: JobFolder, tmp_path: Path) -> None:
    target = tmp_path / "out" / "model"
    job.spec = {"publish": [{"uri": "pvc://models/invoice-extractor"}, {"uri": f"file://{target}/"}]}
    job.write_request()
    run(job.context(digest=job.write_gate(**PASSING)))

    assert verify(published(job)) == []
    assert verify(target / VERSION) == []
    assert [a.uri for a in job.context().report.published][1] == f"file://{target}/{VERSION}"


def test_report_has_published_addresses_if_another_address_fails(job: JobFolder, tmp_path: Path) -> None:
    target = tmp_path / "out"
    target.write_text("a file, where a folder should be")
    job.spec = {"publish": [{"uri": "pvc://models/invoice-extractor"}, {"uri": f"file://{target}"}]}
    job.write_request()
    context = job.context(digest=job.write_gate(**PASSING))
    with pytest.raises(StorageError, match="out"):
        run(context)
    assert [a.uri for a in context.report.published] == [f"pvc://models/invoice-extractor/{VERSION}"]


def test_failed_attempt_keeps_earlier_publications_in_report(job: JobFolder, tmp_path: Path) -> None:
    target = tmp_path / "out"
    target.write_text("a file, where a folder should be")
    job.spec = {"publish": [{"uri": f"file://{target}"}, {"uri": "pvc://models/invoice-extractor"}]}
    job.write_request()
    digest = job.write_gate(**PASSING)
    known = PublishedArtifact(uri=f"pvc://models/invoice-extractor/{VERSION}", digest=digest)
    other = PublishedArtifact(uri=f"file://{target}/{VERSION}", digest="0" * 64)
    job.write_report(Role.PUBLISH, published=[known, other])
    with pytest.raises(StorageError, match="out"):
        run(job.context(digest=digest))
    assert job.context().report.published == [known]

    target.unlink()
    run(job.context(digest=digest))
    assert job.context().report.published == [other.model_copy(update={"digest": digest}), known]


def before_copying(name: str, act: Callable[[], object], monkeypatch: pytest.MonkeyPatch) -> None:
    """Call ``act`` once, just before the first file of this name is copied."""
    copy, left = shutil.copyfile, [act]

    def act_first(source: Path, target: Path) -> None:
        if source.name == name and left:
            left.pop()()
        copy(source, target)

    monkeypatch.setattr(shutil, "copyfile", act_first)


def fail(error: BaseException) -> None:
    raise error


@pytest.mark.parametrize("error", [OSError(errno.ENOSPC, "No space left on device"), Interrupted()])
def test_failed_or_interrupted_copy_leaves_nothing_behind(
    job: JobFolder, error: BaseException, monkeypatch: pytest.MonkeyPatch
) -> None:
    digest = job.write_gate(**PASSING)
    before_copying("tokenizer_config.json", lambda: fail(error), monkeypatch)
    with pytest.raises(type(error)):
        run(job.context(digest=digest))
    assert list(published(job).parent.iterdir()) == []


def test_killed_process_copy_is_removed_without_other_jobs_copies(
    job: JobFolder, monkeypatch: pytest.MonkeyPatch
) -> None:
    digest = job.write_gate(**PASSING)
    folder = published(job).parent
    with monkeypatch.context() as killed:  # a killed process removes nothing
        killed.setattr(shutil, "rmtree", lambda *_, **__: None)
        before_copying("tokenizer_config.json", lambda: fail(Interrupted()), killed)
        with pytest.raises(Interrupted):
            run(job.context(digest=digest))
    (left,) = folder.iterdir()
    others = folder / left.name.replace(VERSION, "another-job-12345")
    others.mkdir()
    run(job.context(digest=digest))
    assert {path.name for path in folder.iterdir()} == {".history", VERSION, "latest", others.name}


def test_superseded_publish_process_changes_and_reports_nothing(
    job: JobFolder, monkeypatch: pytest.MonkeyPatch
) -> None:
    digest = job.write_gate(**PASSING)
    before_copying("tokenizer_config.json", lambda: run(job.context(digest=digest)), monkeypatch)
    with pytest.raises(Superseded):
        run(job.context(digest=digest))
    assert verify(published(job)) == []
    assert {path.name for path in published(job).parent.iterdir()} == {".history", VERSION, "latest"}
    assert (job.context().report.sequence, len(job.context().report.published)) == (1, 1)


def test_version_that_appears_during_copy_is_kept(job: JobFolder, monkeypatch: pytest.MonkeyPatch) -> None:
    digest = job.write_gate(**PASSING)
    run(job.context(digest=digest))
    aside = published(job).rename(job.root / "aside")
    before = aside.stat().st_ino
    before_copying("tokenizer_config.json", lambda: aside.rename(published(job)), monkeypatch)
    run(job.context(digest=digest))
    assert published(job).stat().st_ino == before
    assert {path.name for path in published(job).parent.iterdir()} == {".history", VERSION, "latest"}


@pytest.mark.parametrize("what", ["artifact", "version"])
def test_unreadable_file_does_not_count_as_damage(
    job: JobFolder, what: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    digest = job.write_gate(**PASSING)
    run(job.context(digest=digest))
    folder = job.artifact if what == "artifact" else published(job)
    before, digest_of = sorted(published(job).iterdir()), files.sha256_file

    def stale(path: Path) -> str:
        if path.parent == folder:
            raise OSError(errno.ESTALE, os.strerror(errno.ESTALE))
        return digest_of(path)

    monkeypatch.setattr(files, "sha256_file", stale)
    with pytest.raises(StorageError, match="cannot be read: Stale file handle"):
        run(job.context(digest=digest))
    assert sorted(published(job).iterdir()) == before


def test_folder_named_latest_is_not_touched(job: JobFolder) -> None:
    (published(job).parent / "latest").mkdir(parents=True)
    with pytest.raises(UserError, match="latest is a folder"):
        run(job.context(digest=job.write_gate(**PASSING)))


def test_evidence_has_counts_and_digests_but_no_prompts(job: JobFolder) -> None:
    digest = job.write_gate(**PASSING)
    run(job.context(digest=digest))
    evidence = published(job) / "evidence"
    verdict = json.loads((evidence / "verdict.json").read_text())

    assert verdict["artifactDigest"] == digest == files_digest(verdict["artifactFiles"])
    assert set(verdict["artifactFiles"]) == {
        "adapter_config.json",
        "adapter_model.safetensors",
        "generation_config.json",
        "tokenizer_config.json",
    }
    assert verdict["weightsDigest"] == "6" * 64, "the checkpoint's, by which evaluations name it"
    assert verdict["dataSha256"]["test"] == "3" * 64
    (gate,) = verdict["gates"]
    assert (gate["name"], gate["passed"], gate["total"]) == (GATE, 19, 20)
    assert gate["goldenSha256"] == job.golden_sha256
    assert gate["baselines"] == {"BaseModel": {"passed": 10, "deltaPoints": "+45.0"}}
    assert gate["skipped"] == ["LastPublished"]
    for judged in (gate, verdict["taskMetrics"][0]):
        assert judged["generation"] == {
            "maxNewTokens": 256,
            "batchSize": 32,
            "batching": "Fixed",
            "precision": "Auto",
            "reasoning": "Strip",
        }
    assert (verdict["device"], verdict["dtype"]) == ("NVIDIA L4", "bfloat16")
    assert "golden 19/20, BaseModel 10/20: +45.0 points, limit -5.0" in [
        f["message"] for f in gate["findings"]
    ]
    (task,) = verdict["taskMetrics"]
    assert (task["passed"], task["total"], task["basePassed"]) == (9, 10, 2)
    assert (evidence / "plan.json").read_text() == (job.root / "plan" / "plan.json").read_text()
    everything = "".join(path.read_text() for path in published(job).rglob("*.json"))
    assert "prompt case-" not in everything
    assert "output case-" not in everything


def test_evidence_has_digest_of_a_metrics_schema(job: JobFolder) -> None:
    metric = {"name": "exact_match", "type": "JSONSchema", "min": "80%", "schema": {"configMap": "schema"}}
    job.spec, job.schemas_sha256 = {"taskMetrics": [metric]}, {"exact_match": "c" * 64}
    job.write_request().write_data()
    run(job.context(digest=job.write_gate(**PASSING)))
    (task,) = json.loads((published(job) / "evidence" / "verdict.json").read_text())["taskMetrics"]
    assert task["schemaSha256"] == "c" * 64


def test_publish_role_writes_its_report_to_the_outbox(job: JobFolder) -> None:
    run(job.context(Role.PUBLISH, digest=job.write_gate(**PASSING)))
    assert (job.workspace / job.paths.outbox / "publish.json").exists()
