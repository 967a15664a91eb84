"""The cleanup role, run on a real folder."""

import shutil
import tempfile
from pathlib import Path
from threading import Thread

import pytest

from support.job_folder import JobFolder
from support.unprivileged import unprivileged
from tunegate_api.contract.process import ROOT_VARIABLE, ExitCode, Outcome, Role, Termination
from tunegate_api.contract.workspace import Workspace
from tunegate_trainer.main import end_of, main
from tunegate_trainer.roles.cleanup import run

DIGEST = "d" * 64
LEFT = {
    "data/train.jsonl": False,
    "data/dev.jsonl": False,
    "data/test.jsonl": False,
    "data/manifest.json": True,
    "data/report.json": True,
    "stages/sft/losses.jsonl": False,
    "stages/sft/step-000010/adapter_model.safetensors": False,
    "stages/sft/step-000010/DONE": False,
    "evals/sft/step-000010/golden.jsonl": True,
    "evals/sft/step-000010/result.json": True,
    "gate/result.json": True,
    "model.scratch-000001/adapter_model.safetensors": False,
    "outbox/gate.json": False,
    "report.html": True,
}
"""Files of a finished job, and whether cleanup keeps them."""
MODEL = ("model/adapter_model.safetensors", "model/manifest.json", "model/DONE")


@pytest.fixture
def job(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> JobFolder:
    """The folder of a finished job, with folders of another job and of a base model."""
    made = JobFolder(tmp_path)
    made.write_request()
    for name in (*LEFT, *MODEL, "../other-job/stages/sft/losses.jsonl", "../../models/base/DONE"):
        path = made.folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(name)
    monkeypatch.setenv(ROOT_VARIABLE, str(tmp_path))
    return made


def files(folder: Path) -> set[str]:
    return {path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file()}


def test_cleanup_succeeds_if_reports_are_removed_at_the_same_time(job: JobFolder) -> None:
    """Whoever delivers a report removes it from the outbox."""
    reports = [job.folder / "outbox" / f"{number}.json" for number in range(2000)]
    for report in reports:
        report.write_text("{}")

    def deliver() -> None:
        for report in reversed(reports):
            report.unlink(missing_ok=True)

    delivery = Thread(target=deliver)
    delivery.start()
    assert main(["cleanup", "--digest", DIGEST]) == ExitCode.OK
    delivery.join()
    assert not (job.folder / "outbox").exists()


def test_cleanup_keeps_model_and_results_but_no_rows_or_checkpoints(job: JobFolder) -> None:
    assert main(["cleanup", "--digest", DIGEST]) == ExitCode.OK
    assert files(job.folder) == {name for name, stays in LEFT.items() if stays} | set(MODEL)
    assert (job.folder / "report.html").read_text() == "report.html", "it is not rendered again"
    assert files(job.workspace / Workspace("other-job").job) == {"stages/sft/losses.jsonl"}
    assert files(job.workspace / Workspace.models) == {"base/DONE"}
    termination = Termination.model_validate_json((job.root / "termination.json").read_bytes())
    assert termination == Termination(exit_code=0, outcome=Outcome.COMPLETED)


def test_cleanup_removes_a_model_that_did_not_pass(job: JobFolder) -> None:
    assert main(["cleanup"]) == ExitCode.OK
    assert files(job.folder) == {name for name, stays in LEFT.items() if stays}


def test_repeated_cleanup_changes_nothing(job: JobFolder) -> None:
    main(["cleanup", "--digest", DIGEST])
    before = files(job.workspace)
    assert main(["cleanup", "--digest", DIGEST]) == ExitCode.OK
    assert files(job.workspace) == before
    for path in sorted(job.folder.rglob("*"), reverse=True):
        path.rmdir() if path.is_dir() else path.unlink()
    job.folder.rmdir()
    assert main(["cleanup"]) == ExitCode.OK
    assert not job.folder.exists()


def test_cleanup_of_a_deleted_job_keeps_none_of_its_files(job: JobFolder) -> None:
    (job.folder / "link").symlink_to(job.workspace / Workspace("other-job").job)
    shutil.rmtree(job.root / "request")  # the garbage collector may have deleted it
    assert main(["cleanup", "--attempt", "2", "--deleted-job", job.folder.name]) == ExitCode.OK
    assert list(job.folder.iterdir()) == []
    assert files(job.workspace / Workspace("other-job").job) == {"stages/sft/losses.jsonl"}
    assert files(job.workspace / Workspace.models) == {"base/DONE"}


def test_cleanup_removes_a_link_but_not_its_target(job: JobFolder) -> None:
    (job.folder / "elsewhere").symlink_to(job.workspace / Workspace("other-job").job)
    main(["cleanup"])
    assert not (job.folder / "elsewhere").exists()
    assert files(job.workspace / Workspace("other-job").job) == {"stages/sft/losses.jsonl"}


def test_failed_removal_is_a_storage_failure() -> None:
    # Folders of pytest are closed to other users.
    with tempfile.TemporaryDirectory() as name:
        job = JobFolder(Path(name)).write_request()
        job.root.chmod(0o755)
        rows = job.folder / "data" / "train.jsonl"
        rows.parent.mkdir(parents=True)
        rows.touch()
        rows.parent.chmod(0o555)
        context = job.context(Role.CLEANUP, digest=DIGEST)
        with unprivileged():
            end = end_of(lambda: run(context))
        assert end.exit_code is ExitCode.STORAGE
        assert end.failure is not None
        assert str(rows) in end.failure.message
        assert rows.exists()
        rows.parent.chmod(0o755)
