"""The baseline LastPublished: the last version at a publish target, even if jobs publish at the same time."""

import errno
import hashlib
import json
import os
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

import pytest

from support.graders import GUARDRAIL, JUDGE
from support.job_folder import GATE, JobFolder
from support.published_version import age
from support.published_version import publish_version as plant_version
from tunegate_api.contract.digests import sha256_text
from tunegate_api.contract.process import Role
from tunegate_api.contract.published import LastPublished, PublishedVersion
from tunegate_api.contract.results import Results
from tunegate_api.judging.judgement import Judgement, judge_final
from tunegate_api.verdict.outcomes import VerdictState
from tunegate_trainer.artifacts.gate_result import GateRoleResult
from tunegate_trainer.artifacts.history import newest_versions, next_reading, strictest
from tunegate_trainer.artifacts.used_servers import used_guardrail, used_judge
from tunegate_trainer.process.errors import StorageError, UserError
from tunegate_trainer.process.files import is_complete, seal, verify, write_model
from tunegate_trainer.process.interruption import Interrupted
from tunegate_trainer.roles.publish import run

BASE = ("p" * 2 + "f" * 18, "p" * 8 + "ff")
URI = "pvc://models/extractor"


class Job(JobFolder):
    """A judged job, ready to be published, whose artifact passes ``passed`` of 20 golden cases."""

    def __init__(self, folder: Path, name: str, passed: int, **changes: Any) -> None:
        (folder / name / "volumes").mkdir(parents=True)
        (folder / name / "volumes" / "models").symlink_to(folder / "models")
        super().__init__(
            root=folder / name,
            name=name,
            uid=f"{sha256_text(name)[:8]}-5d60-4000-8000-00000000abcd",
            spec={"publish": [{"uri": URI}]} | changes.pop("spec", {}),
            gate_spec={"golden": {"rules": [{"name": "all", "minPassRate": "10%"}]}}
            | changes.pop("gate_spec", {}),
            weights=name.encode(),
            **changes,
        )
        self.write_request().write_data()
        self.digest = self.write_gate(base=BASE, final=("p" * passed + "f" * (20 - passed), "p" * 10))

    @property
    def version(self) -> str:
        return f"{self.name}-{self.uid[:5]}"

    def publish(self) -> bool:
        """Run the publish role. Return whether it reports a published model."""
        run(self.context(digest=self.digest))
        return bool(self.context().report.published)

    def operators_judgement(self) -> Judgement:
        """Return the operator's verdict on the reports of both roles, merged in either order."""
        results = [self.context(role).report.results for role in (Role.GATE, Role.PUBLISH)]
        judged = [judge_final(self.request, one.merged(two)) for one, two in (results, results[::-1])]
        assert judged[0] is not None
        assert judged[0] == judged[1]
        return judged[0]


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "models").mkdir()
    return tmp_path


@pytest.fixture
def target(folder: Path) -> Path:
    """The target of all jobs."""
    return folder / "models" / "extractor"


def history(target: Path) -> list[str]:
    """Return the recorded versions, in order. Their numbers must have no gap."""
    paths = sorted((target / ".history").iterdir())
    assert [path.name for path in paths] == [f"{n:06d}" for n in range(1, len(paths) + 1)]
    return [json.loads((path / "entry.json").read_text())["version"] for path in paths]


def versions(target: Path) -> set[str]:
    return {path.name for path in target.iterdir() if path.is_dir() and not path.is_symlink()} - {".history"}


def baselines(target: Path, job: Job) -> dict[str, Any]:
    """Return the baselines in a version's evidence."""
    verdict = json.loads((target / job.version / "evidence" / "verdict.json").read_text())
    found: dict[str, Any] = verdict["gates"][0]["baselines"]
    return found


def test_second_of_overlapping_jobs_is_refused_if_worse(folder: Path, target: Path) -> None:
    first, second = Job(folder, "first", 19), Job(folder, "second", 16)
    assert first.publish()
    assert not second.publish()
    judged = second.operators_judgement()
    assert judged.state is VerdictState.FAILED
    expected = f"golden 16/20, LastPublished ({first.version}) 19/20: -15.0 points, limit -5.0"
    assert expected in judged.message
    assert versions(target) == {first.version}
    assert history(target) == [first.version]


def test_second_of_overlapping_jobs_is_published_if_not_worse(folder: Path, target: Path) -> None:
    first, second = Job(folder, "first", 19), Job(folder, "second", 20)
    assert first.publish()
    assert second.publish()
    assert history(target) == [first.version, second.version]
    assert baselines(target, second)["LastPublished"] == {"passed": 19, "deltaPoints": "+5.0"}
    assert second.operators_judgement().gates[0].baselines == {"BaseModel": 2, "LastPublished": 19}
    assert (target / "latest").readlink() == Path(second.version)


def test_evidence_has_the_outcome_of_each_case(folder: Path, target: Path) -> None:
    job = Job(folder, "first", 18)
    job.publish()
    verdict = json.loads((target / job.version / "evidence" / "verdict.json").read_text())
    assert verdict["gates"][0]["outcomes"] == "p" * 18 + "ff"


def test_gates_record_is_the_baseline_without_target_evidence(folder: Path) -> None:
    job = Job(folder, "first", 19)
    job.last_published = {"job": "older", "golden_sha256": job.golden_sha256, "outcomes": "p" * 19 + "f"}
    job.write_request()
    assert job.publish()
    assert job.operators_judgement().gates[0].baselines["LastPublished"] == 19


def test_evidence_at_the_target_overrides_the_gates_record(folder: Path) -> None:
    Job(folder, "first", 18).publish()
    job = Job(folder, "second", 18)
    job.last_published = {"job": "older", "golden_sha256": job.golden_sha256, "outcomes": "p" * 16 + "ffff"}
    job.write_request()
    assert job.publish()
    assert job.operators_judgement().gates[0].baselines["LastPublished"] == 18


@contextmanager
def before(
    owner: Any, name: str, act: Callable[[], object], monkeypatch: pytest.MonkeyPatch, *, at: str = ""
) -> Iterator[None]:
    """Call ``act`` once, just before a library function is called on a path that contains ``at``."""
    function, left = getattr(owner, name), [act]

    def act_first(*args: Any, **kwargs: Any) -> Any:
        if left and at in _path(args[0]):
            left.pop()()
        return function(*args, **kwargs)

    with monkeypatch.context() as patched:
        patched.setattr(owner, name, act_first)
        yield
    assert not left, f"{name} was not called"


def _path(argument: Any) -> str:
    """Return the path of a function's argument: a path, a file or a file descriptor."""
    return os.readlink(f"/proc/self/fd/{argument}") if isinstance(argument, int) else str(argument)


def test_model_is_refused_if_better_is_published_during_copy(
    folder: Path, target: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    first, second = Job(folder, "first", 19), Job(folder, "second", 16)
    with before(shutil, "copyfile", first.publish, monkeypatch):
        assert not second.publish()
    assert versions(target) == {first.version}
    assert history(target) == [first.version]
    assert second.operators_judgement().state is VerdictState.FAILED


def test_model_is_refused_if_better_is_published_during_comparison(
    folder: Path, target: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The job reads the last publication number before the versions, so it notices a version that is
    published in between."""
    first, second, rival = Job(folder, "first", 18), Job(folder, "second", 18), Job(folder, "rival", 20)
    first.publish()
    evidence = f"{first.version}/evidence/verdict.json"
    with before(hashlib, "file_digest", rival.publish, monkeypatch, at=evidence):
        assert not second.publish()
    assert history(target) == [first.version, rival.version]
    assert f"LastPublished ({rival.version}) 20/20" in second.operators_judgement().message


def test_publishing_fails_after_ten_lost_races(
    folder: Path, target: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    job, rename, rivals = Job(folder, "first", 18), Path.rename, iter(range(15))

    def publish_before(path: Path, to: Path) -> Path:
        if ".history" in str(path) and path.is_relative_to(job.root):
            name = f"rival-{next(rivals)}"
            plant_version(target, name, GATE, job.golden_sha256, "p" * 10 + "f" * 10)
        return rename(path, to)

    monkeypatch.setattr(Path, "rename", publish_before)
    with pytest.raises(StorageError, match="10 times"):
        job.publish()
    assert len(history(target)) == 10


def test_copy_is_removed_before_the_failed_verdict_is_reported(
    folder: Path, target: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The report with the failed verdict ends the job, so no later pod would remove the copy."""
    first, second = Job(folder, "first", 19), Job(folder, "second", 16)
    with (
        before(shutil, "copyfile", first.publish, monkeypatch),
        before(shutil, "rmtree", lambda: fail(Interrupted()), monkeypatch),
        pytest.raises(Interrupted),
    ):
        second.publish()
    assert second.operators_judgement().state is VerdictState.PASSED
    assert not second.publish()
    assert second.operators_judgement().state is VerdictState.FAILED
    assert versions(target) == {first.version}


def test_version_published_during_the_copy_becomes_the_baseline(
    folder: Path, target: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    first, second = Job(folder, "first", 18), Job(folder, "second", 19)
    with before(shutil, "copyfile", first.publish, monkeypatch):
        assert second.publish()
    assert history(target) == [first.version, second.version]
    assert baselines(target, second)["LastPublished"]["passed"] == 18
    assert verify(target / second.version) == []


@pytest.mark.usefixtures("warm_roles")
def test_concurrent_processes_get_different_publication_numbers(folder: Path, target: Path) -> None:
    jobs = [Job(folder, f"job-{n}", 18) for n in range(4)]
    code = "import sys; from pathlib import Path; from tunegate_api.contract.process import Role\n"
    code += "from tunegate_trainer.process.context import Context, Options\n"
    code += "from tunegate_trainer.roles.publish import run\n"
    code += "print(flush=True); sys.stdin.readline()\n"
    code += "run(Context(role=Role.PUBLISH, options=Options(digest=sys.argv[3]), root=Path(sys.argv[2])))"
    with ExitStack() as stack:
        processes = [
            stack.enter_context(
                subprocess.Popen(
                    [sys.executable, "-m", "tunegate_trainer.code", code, job.root, job.digest],
                    stdin=subprocess.PIPE,
                    stdout=subprocess.PIPE,
                    text=True,
                )
            )
            for job in jobs
        ]
        for process in processes:
            assert process.stdout is not None
            process.stdout.readline()
        for process in processes:
            assert process.stdin is not None
            process.stdin.close()
        assert [process.wait(60) for process in processes] == [0, 0, 0, 0]
    assert set(history(target)) == {job.version for job in jobs}
    assert len(history(target)) == 4
    assert (target / "latest").readlink() == Path(history(target)[-1])
    assert not list(target.glob(".latest*"))


def fail(error: BaseException) -> None:
    raise error


CRASHES: dict[str, tuple[Any, str, str]] = {
    "before the version appears": (Path, "rename", ".scratch-"),
    "while the entry is written": (os, "fsync", ".history"),
    "before the entry": (Path, "rename", ".history"),
    "after the entry": (Path, "symlink_to", ".latest"),
    "before latest moves": (Path, "replace", ".latest"),
}


@pytest.mark.parametrize("step", CRASHES)
def test_retry_after_a_crash_at_any_step_publishes_the_version(
    folder: Path, target: Path, monkeypatch: pytest.MonkeyPatch, step: str
) -> None:
    first, job = Job(folder, "first", 18), Job(folder, "second", 19)
    first.publish()
    owner, name, at = CRASHES[step]
    crash = before(owner, name, lambda: fail(Interrupted()), monkeypatch, at=at)
    with crash, pytest.raises(Interrupted):
        job.publish()
    assert job.publish()
    assert history(target) == [first.version, job.version]
    assert versions(target) == {first.version, job.version}
    assert (target / "latest").readlink() == Path(job.version)
    assert baselines(target, job)["LastPublished"]["passed"] == 18
    assert job.operators_judgement().gates[0].baselines == {"BaseModel": 2, "LastPublished": 18}
    assert verify(target / job.version) == []


@pytest.mark.parametrize(("passed", "is_published"), [(19, True), (20, False)])
def test_retry_compares_with_versions_published_since_the_crash(
    folder: Path, target: Path, monkeypatch: pytest.MonkeyPatch, passed: int, is_published: bool
) -> None:
    job, other = Job(folder, "first", 19), Job(folder, "second", passed)
    crash = before(Path, "rename", lambda: fail(Interrupted()), monkeypatch, at=".history")
    with crash, pytest.raises(Interrupted):
        job.publish()
    assert other.publish()
    assert job.publish() is is_published
    assert versions(target) == {other.version} | ({job.version} if is_published else set())
    if is_published:
        assert baselines(target, job)["LastPublished"]["passed"] == passed


def test_history_entry_is_created_atomically_without_hard_links(
    folder: Path, target: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Another job publishes while the first one writes its entry, and must not read a partial entry."""
    monkeypatch.setattr(Path, "hardlink_to", lambda *_: fail(PermissionError(errno.EPERM, "no links")))
    job, rival = Job(folder, "first", 20), Job(folder, "second", 20)

    def publish_rival() -> None:
        assert rival.publish()

    with before(os, "fsync", publish_rival, monkeypatch, at=".history"):
        assert job.publish()
    assert history(target) == [rival.version, job.version]
    assert baselines(target, job)["LastPublished"]["passed"] == 20


def test_history_entry_that_is_being_removed_is_ignored(folder: Path, target: Path) -> None:
    first, second = Job(folder, "first", 20), Job(folder, "second", 20)
    first.publish()
    shutil.rmtree(target / first.version)
    (target / ".history" / "000001" / "entry.json").unlink()
    assert second.publish()
    assert (target / "latest").readlink() == Path(second.version)


def test_publish_retry_keeps_a_version_although_a_better_one_followed(folder: Path, target: Path) -> None:
    job, better = Job(folder, "first", 16), Job(folder, "second", 20)
    assert job.publish()
    assert better.publish()
    assert job.publish()
    assert history(target) == [job.version, better.version]
    assert (target / "latest").readlink() == Path(better.version)
    assert job.operators_judgement().state is VerdictState.PASSED


def test_publish_retry_keeps_a_reported_version_without_history_entry(folder: Path, target: Path) -> None:
    job, better = Job(folder, "first", 16), Job(folder, "second", 20)
    job.publish()
    shutil.rmtree(target / ".history" / "000001")
    better.publish()
    assert job.publish()
    assert versions(target) == {job.version, better.version}


def test_refused_job_keeps_an_existing_version_with_the_same_name(folder: Path, target: Path) -> None:
    first, second = Job(folder, "first", 19), Job(folder, "second", 16)
    first.publish()
    shutil.copytree(target / first.version, target / second.version)
    assert not second.publish()
    assert verify(target / second.version) == []


def test_version_refused_at_its_second_target_stays_at_the_first(
    folder: Path, target: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    both = {"publish": [{"uri": "pvc://models/other"}, {"uri": URI}]}
    job, better = Job(folder, "first", 16, spec=both), Job(folder, "second", 19)
    copy, copied = shutil.copyfile, list[Path]()

    def publish_first(source: Path, to: Path) -> None:
        if not copied and to.is_relative_to(job.root / "volumes" / "models" / "extractor"):
            copied.append(to)
            better.publish()
        copy(source, to)

    monkeypatch.setattr(shutil, "copyfile", publish_first)
    job.publish()
    report = job.context().report
    assert [one.uri for one in report.published] == [f"pvc://models/other/{job.version}"]
    assert report.sequence == 1, "one report has both, because the operator ends the job after a lost verdict"
    assert job.operators_judgement().state is VerdictState.FAILED
    assert versions(target) == {better.version}


def test_best_version_of_several_targets_is_the_baseline(folder: Path) -> None:
    Job(folder, "good", 19).publish()
    Job(folder, "newer", 16, spec={"publish": [{"uri": "pvc://models/other"}]}).publish()
    both = {"publish": [{"uri": "pvc://models/other"}, {"uri": URI}]}
    job = Job(folder, "job", 17, spec=both)
    assert not job.publish()
    assert job.operators_judgement().gates[0].baselines["LastPublished"] == 19


def test_advisory_cases_do_not_decide_which_target_is_the_baseline(folder: Path) -> None:
    job = Job(folder, "job", 20, gate_spec={"golden": {"advisory": [f"case-{i}" for i in range(5)]}})
    (gate,) = job.request.final_gates
    better, advisory = (
        PublishedVersion(job=name, golden_sha256=gate.golden_sha256, outcomes=outcomes, by_case=True)
        for name, outcomes in (("better", "f" * 5 + "p" * 15), ("advisory", "p" * 18 + "ff"))
    )
    results = job.context(Role.GATE).report.results
    assert strictest([{GATE: [better]}, {GATE: [advisory]}], [gate], results)[GATE] == better


def test_damaged_version_at_one_of_two_targets_is_an_error(folder: Path, target: Path) -> None:
    damaged = Job(folder, "damaged", 16)
    Job(folder, "good", 19, spec={"publish": [{"uri": "pvc://models/other"}]}).publish()
    damaged.publish()
    change_evidence(target, damaged)
    age(target / damaged.version)
    job = Job(folder, "job", 20, spec={"publish": [{"uri": "pvc://models/other"}, {"uri": URI}]})
    assert not job.publish()
    assert job.operators_judgement().state is VerdictState.ERROR


def test_publish_retry_reads_the_last_published_version_again(
    folder: Path, target: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The gate role read the first version. The crashed attempt read the second version, which was then
    removed."""
    first, second, job = Job(folder, "first", 18), Job(folder, "second", 19), Job(folder, "job", 19)
    first.publish()
    found = newest_versions(URI, target, job.request.final_gates, job.version)
    gate = job.context(Role.GATE)
    read = next_reading(None, {name: version for name, (version,) in found.items()})
    gate.send_report(results=gate.report.results.merged(Results(last_published=read)))
    second.publish()
    crash = before(Path, "rename", lambda: fail(Interrupted()), monkeypatch, at=".history")
    with crash, pytest.raises(Interrupted):
        job.publish()
    assert job.operators_judgement().gates[0].baselines["LastPublished"] == 19
    shutil.rmtree(target / second.version)
    assert job.publish()
    assert baselines(target, job)["LastPublished"]["passed"] == 18
    assert job.operators_judgement().gates[0].baselines["LastPublished"] == 18


def test_latest_link_points_to_the_newest_existing_version(folder: Path, target: Path) -> None:
    first, second = Job(folder, "first", 18), Job(folder, "second", 19)
    first.publish()
    second.publish()
    shutil.rmtree(target / second.version)
    assert first.publish()
    assert (target / "latest").readlink() == Path(first.version)


def test_baseline_is_the_previous_version_if_the_newest_is_removed(folder: Path, target: Path) -> None:
    first, second, third = Job(folder, "first", 16), Job(folder, "second", 20), Job(folder, "third", 17)
    first.publish()
    second.publish()
    shutil.rmtree(target / second.version)
    assert third.publish()
    assert baselines(target, third)["LastPublished"]["passed"] == 16
    assert history(target) == [first.version, second.version, third.version]


def test_version_without_history_entry_is_a_baseline(folder: Path, target: Path) -> None:
    """The target may be a copy without the hidden folder of the history."""
    first, second = Job(folder, "first", 19), Job(folder, "second", 16)
    first.publish()
    shutil.rmtree(target / ".history")
    assert not second.publish()
    assert f"LastPublished ({first.version}) 19/20" in second.operators_judgement().message


def test_unlisted_version_is_the_baseline_if_the_newest_is_removed(folder: Path, target: Path) -> None:
    first, second, third = Job(folder, "first", 19), Job(folder, "second", 20), Job(folder, "third", 16)
    first.publish()
    shutil.rmtree(target / ".history")
    second.publish()
    shutil.rmtree(target / second.version)
    assert not third.publish()


def test_later_version_with_another_golden_set_is_not_compared(
    folder: Path, target: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """The publish role cannot evaluate it. The job is published as if it had been first."""
    job = Job(folder, "job", 16)
    plant_version(target, "rival", GATE, "e" * 64, "p" * 20)
    assert job.publish()
    assert f"not compared with {URI}/rival: it was not evaluated on this golden set" in caplog.text
    assert job.operators_judgement().gates[0].skipped == ("LastPublished",)


def test_outcomes_of_another_gate_with_the_same_golden_set_count(folder: Path, target: Path) -> None:
    job = Job(folder, "job", 16)
    plant_version(target, "rival", "another-gate", job.golden_sha256, "p" * 20)
    assert not job.publish()
    assert "LastPublished (rival) 20/20" in job.operators_judgement().message


def test_newer_version_of_another_gate_does_not_hide_the_baseline(folder: Path, target: Path) -> None:
    first, second = Job(folder, "first", 20), Job(folder, "second", 12)
    first.publish()
    plant_version(target, "easy", "another-gate", "e" * 64, "f" * 20)
    newest = newest_versions(URI, target, second.request.final_gates, own="")
    assert [(v.job, v.unjudged) for v in newest[GATE]] == [("easy", True), ("first", False)]
    assert not second.publish()
    assert f"LastPublished ({first.version}) 20/20" in second.operators_judgement().message


def test_version_that_only_passed_other_dry_runs_is_ignored(folder: Path, target: Path) -> None:
    first, second = Job(folder, "first", 20), Job(folder, "second", 12)
    first.publish()
    plant_version(target, "rehearsal", "another-gate", "e" * 64, "p" * 20, dry_run=True)
    newest = newest_versions(URI, target, second.request.final_gates, own="")
    assert [v.job for v in newest[GATE]] == ["first"]


@pytest.mark.parametrize(
    "generation", [{"samples": {"count": 8}}, {"maxNewTokens": 9}, {"reasoning": "Keep"}]
)
def test_outcomes_with_other_generation_settings_are_not_compared(
    folder: Path, target: Path, generation: dict[str, Any]
) -> None:
    first = Job(folder, "first", 20)
    first.publish()
    second = Job(folder, "second", 12, gate_spec={"generation": generation})
    (found,) = newest_versions(URI, target, second.request.final_gates, own="")[GATE]
    assert (found.job, found.unjudged) == ("first", True)


@pytest.mark.parametrize(
    ("later", "is_compared"),
    [
        ([JUDGE, GUARDRAIL], True),
        ([JUDGE | {"rubric": "It is short."}, GUARDRAIL], False),
        ([JUDGE, GUARDRAIL | {"protocol": "Qwen3Guard"}], False),
        ([JUDGE], False),
        ([JUDGE, GUARDRAIL | {"agreement": {"set": "people"}}], False),
    ],
)
def test_outcomes_of_another_judge_or_guardrail_are_not_compared(
    folder: Path, target: Path, later: list[dict[str, Any]], is_compared: bool
) -> None:
    first = Job(folder, "first", 20, gate_spec={"graders": [JUDGE, GUARDRAIL]})
    (gate,) = first.request.final_gates
    path = first.workspace / first.paths.gate / "result.json"
    used = {"judges": {GATE: used_judge(gate)}, "guardrails": {GATE: used_guardrail(gate)}}
    result = GateRoleResult.model_validate_json(path.read_bytes())
    write_model(path, result.model_copy(update=used))
    first.publish()
    second = Job(folder, "second", 12, gate_spec={"graders": later})
    (found,) = newest_versions(URI, target, second.request.final_gates, own="")[GATE]
    assert found.unjudged is not is_compared


def test_result_versions_that_differ_from_the_report_are_refused(folder: Path, target: Path) -> None:
    job = Job(folder, "job", 16)
    plant_version(target, "rival", "another-gate", "e" * 64, "p" * 20)
    ((found,),) = newest_versions(URI, target, job.request.gates, own="").values()
    outcomes = {"outcomes": "p" * 16 + "ffff", "by_case": True, "rejudged": True}
    again = found.model_copy(update=outcomes | {"unjudged": False, "problem": None})
    report = job.context(Role.GATE).report
    read = LastPublished(reading=1, versions={GATE: again})
    job.write_report(Role.GATE, results=report.results.model_copy(update={"last_published": read}))
    with pytest.raises(UserError, match="differ, so one of these files was changed"):
        job.publish()


def test_version_that_the_gate_judged_again_is_the_baseline(folder: Path, target: Path) -> None:
    job = Job(folder, "job", 16)
    plant_version(target, "rival", "another-gate", "e" * 64, "p" * 20)
    ((found,),) = newest_versions(URI, target, job.request.gates, own="").values()
    outcomes = {"outcomes": "p" * 19 + "f", "by_case": True, "rejudged": True}
    again = found.model_copy(update=outcomes | {"unjudged": False, "problem": None})
    path = job.workspace / job.paths.gate / "result.json"
    result = GateRoleResult.model_validate_json(path.read_bytes())
    write_model(path, result.model_copy(update={"rejudged": {GATE: [again]}}))
    assert not job.publish()
    judged = job.operators_judgement()
    assert "golden 16/20, LastPublished (rival, judged again) 19/20: -15.0 points" in judged.message


def test_baseline_is_found_after_many_versions_of_a_dry_run(folder: Path, target: Path) -> None:
    first, second = Job(folder, "first", 20), Job(folder, "second", 16)
    first.publish()
    for number in range(120):
        plant_version(target, f"other-{number}", GATE, first.golden_sha256, "p" * 4, dry_run=True)
    assert not second.publish()
    assert f"LastPublished ({first.version}) 20/20" in second.operators_judgement().message


def test_dry_run_version_is_no_baseline_for_enforced_gate(folder: Path) -> None:
    first, rehearsal = (
        Job(folder, "first", 20),
        Job(folder, "rehearsal", 10, gate_spec={"enforcement": "DryRun"}),
    )
    second = Job(folder, "second", 16)
    first.publish()
    assert rehearsal.publish()
    assert not second.publish()
    assert f"LastPublished ({first.version}) 20/20" in second.operators_judgement().message


def test_dry_run_version_is_a_baseline_for_dry_run_gate(folder: Path, target: Path) -> None:
    first, second = (
        Job(folder, name, 10, gate_spec={"enforcement": "DryRun"}) for name in ("first", "second")
    )
    first.publish()
    second.publish()
    assert baselines(target, second)["LastPublished"]["passed"] == 10


def test_gate_without_last_published_ignores_the_target(folder: Path) -> None:
    Job(folder, "first", 20).publish()
    assert Job(folder, "second", 16, gate_spec={"compareWith": [{"type": "BaseModel"}]}).publish()


def change_evidence(target: Path, job: Job) -> None:
    path = target / job.version / "evidence" / "verdict.json"
    path.write_text(path.read_text().replace('"outcomes": "ppp', '"outcomes": "fff'))


def claim_more_cases(target: Path, job: Job) -> None:
    path = target / job.version / "evidence" / "verdict.json"
    path.write_text(path.read_text().replace('"outcomes": "', '"outcomes": "' + "p" * 1001))
    digest = json.loads((target / job.version / "manifest.json").read_text())["digest"]
    seal(target / job.version, digest)


DAMAGES: dict[str, Callable[[Path, Job], object]] = {
    "evidence changed": change_evidence,
    "evidence beyond any bound": claim_more_cases,
    "evidence removed": lambda target, job: (target / job.version / "evidence" / "verdict.json").unlink(),
    "manifest cut": lambda target, job: (target / job.version / "manifest.json").write_text("{"),
    "not complete": lambda target, job: (target / job.version / "DONE").unlink(),
    "entry cut": lambda target, _: (target / ".history" / "000001" / "entry.json").write_text(""),
}


@pytest.mark.parametrize("damage", DAMAGES)
def test_damaged_last_version_is_an_error(folder: Path, target: Path, damage: str) -> None:
    first, second = Job(folder, "first", 16), Job(folder, "second", 20)
    first.publish()
    DAMAGES[damage](target, first)
    age(target / first.version)
    assert not second.publish()
    judged = second.operators_judgement()
    assert judged.state is VerdictState.ERROR
    assert "Cannot compare with LastPublished (" in judged.message
    assert versions(target) == {first.version}


def test_version_that_is_being_removed_raises_a_retryable_error(folder: Path, target: Path) -> None:
    first, second, third = Job(folder, "first", 19), Job(folder, "second", 20), Job(folder, "third", 19)
    first.publish()
    second.publish()
    (target / second.version / "DONE").unlink()  # a removal is in progress
    with pytest.raises(StorageError, match="changed less than 10 minutes ago"):
        third.publish()
    assert third.operators_judgement().state is VerdictState.PASSED
    shutil.rmtree(target / second.version)
    assert third.publish()


def test_error_names_the_damaged_history_entry(folder: Path, target: Path) -> None:
    first, second = Job(folder, "first", 16), Job(folder, "second", 20)
    first.publish()
    DAMAGES["entry cut"](target, first)
    second.publish()
    assert f"{URI}/.history/000001 cannot be read" in second.operators_judgement().message


def test_target_with_a_read_error_raises_a_retryable_error(
    folder: Path, target: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    first, second = Job(folder, "first", 19), Job(folder, "second", 19)
    first.publish()
    listdir = os.listdir

    def stale(path: Any) -> list[str]:
        if Path(path).name == ".history":
            raise OSError(errno.ESTALE, os.strerror(errno.ESTALE))
        return listdir(path)

    with monkeypatch.context() as broken:
        broken.setattr(os, "listdir", stale)
        with pytest.raises(StorageError, match="Stale file handle"):
            second.publish()
    assert not is_complete(target / second.version)
    assert second.publish()


def test_results_merged_in_any_order_keep_the_latest_baseline(folder: Path) -> None:
    first, second = Job(folder, "first", 19), Job(folder, "second", 16)
    first.publish()
    second.publish()
    gate, publish = (second.context(role).report.results for role in (Role.GATE, Role.PUBLISH))
    for order in ((gate, publish, gate), (publish, gate, Results()), (publish, publish, gate)):
        merged = Results()
        for results in order:
            merged = merged.merged(results)
        assert merged.last_published == publish.last_published
        assert merged.last_published is not None
        assert merged.last_published.versions[GATE].job == "first"
