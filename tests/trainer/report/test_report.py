"""The HTML report shows the state of a job from the files on the volume so far."""

import json
import re
import subprocess
import sys
from pathlib import Path

import pytest

from support.job_folder import GATE, JobFolder
from support.report_page import BASE, GOOD, LOSSES, PageText, page, text_of, train
from tunegate_api.contract.plan import MixedPlan
from tunegate_api.contract.process import Outcome, Role
from tunegate_api.contract.report import PublishedArtifact
from tunegate_api.contract.results import Evaluation, Results, Subject, golden_set, task_set
from tunegate_api.v1alpha2.data_status import DataCheckResult
from tunegate_api.v1alpha2.finetunejob_status import Failure
from tunegate_api.verdict.outcomes import CaseSet
from tunegate_api.verdict.safety import safety_set
from tunegate_trainer.report.collect import collect, read_lines

DASH = "\N{EN DASH}"


@pytest.fixture
def job(tmp_path: Path) -> JobFolder:
    return JobFolder(tmp_path)


def test_job_without_files_has_a_report(job: JobFolder) -> None:
    text = text_of(page(job))
    assert "Not started" in text
    assert "invoice-extractor" in text


def test_report_shows_how_many_epoch_rows_are_mixed_in(tmp_path: Path) -> None:
    job = JobFolder(
        tmp_path, mix=[MixedPlan(name="chats", source_sha256="c" * 64, rows=20, rows_per_epoch=50)]
    )
    text = text_of(page(job.write_data()))
    assert "1,840 in an epoch, 50 of them from chats" in text


def test_report_after_data_step_shows_counts_warnings_and_dropped_rows(job: JobFolder) -> None:
    job.warnings = ["900 training rows, but goal TaskSpecialization needs at least 1000"]
    report = {
        "rows": 1872,
        "format": "Parquet",
        "shape": "OpenAI chat",
        "dropped": [{"line": 17, "reason": "duplicate of line 3"}],
        "split": {"seed": 7, "overlapping_prompts": 0},
        "lengths": {"mean": 31.5, "max": 80, "width": 8, "counts": [5, 9]},
    }
    text = text_of(page(job.write_data(report)))
    assert "Data is ready" in text
    assert "Train 1,840 Dev 10 scores checkpoints Test 10" in text
    assert "Left out 12 of 1,872 rows" in text
    assert "The file format of train is Parquet, and its rows have the shape OpenAI chat." in text
    assert "900 training rows, but goal TaskSpecialization needs at least 1000" in text
    assert "line 17 duplicate of line 3" in text
    assert "31.5 on average, 80 in the longest" in text
    assert "0 prompts are in more than one split" in text


def test_report_shows_findings_of_checks_with_examples_and_remedies(job: JobFolder) -> None:
    finding = {"result": "Warned", "count": 3, "share": "0.02", "examples": ["line 4: AKIA…"], "remedy": ""}
    report = {
        "rows": 150,
        "checks": [
            {"check": "secrets", "message": "3 rows have <secrets>", **finding},
            {"check": "few_rows", "result": "Refused", "message": "data has 150 rows", "count": 150}
            | {"share": None, "examples": [], "remedy": "add rows"},
        ],
    }
    job.write_data(report)
    results = [
        {"name": "bad_rows", "result": "Passed"},
        {"name": "secrets", "result": "Warned"},
        {"name": "refusals", "result": "Off"},
    ]
    checks = [DataCheckResult.model_validate(one) for one in results]
    job.write_report(Role.DATA, data_checks=checks, outcome=Outcome.FAILED)
    text = text_of(page(job))
    refused, warned = text.index("Refused: few_rows 150"), text.index("Warned: secrets 3, 0.02")
    assert refused < warned
    assert "What to do: add rows" in text
    assert "3 rows have <secrets> line 4: AKIA…" in text
    assert "1 check passed: bad_rows. Switched off: refusals." in text


def test_report_of_bad_data_shows_error_hint_and_rows(job: JobFolder) -> None:
    (job.folder / "data").mkdir(parents=True)
    bad = {"rows": 40, "bad": [{"line": 12, "reason": "prompt is missing"}]}
    (job.folder / "data" / "report.json").write_text(json.dumps(bad))
    failure = Failure(
        reason="BadData", message="data.sources[train] has 1 bad row", hint="correct or remove these rows"
    )
    job.write_report(Role.DATA, failure=failure, outcome=Outcome.FAILED)

    text = text_of(page(job))
    assert "Data preparation failed Nothing was trained." in text
    assert "data.sources[train] has 1 bad row (BadData)" in text
    assert "What to do: correct or remove these rows" in text
    assert "line 12 prompt is missing" in text


def test_failed_training_shows_its_error(job: JobFolder) -> None:
    job.write_data()
    train(job, {0: BASE, 20: GOOD})
    failure = Failure(reason="CudaOutOfMemory", message="the GPU is out of memory", hint="lower batchSize")
    job.write_report(Role.TRAIN, stage="sft", failure=failure, outcome=Outcome.FAILED)

    text = text_of(page(job))
    assert "Training (sft) failed" in text
    assert "the GPU is out of memory (CudaOutOfMemory)" in text


def test_running_training_shows_progress_and_best_checkpoint(job: JobFolder) -> None:
    job.write_data()
    train(job, {0: BASE, 20: GOOD, 40: "p" * 20, 60: GOOD})
    text = text_of(page(job))
    assert "Training At step 80 of 100, stage sft." in text
    assert "step 40 best ✓ Passed 1 20/20 8/10" in text
    assert "Tuned: sft, step 40 (best so far)" in text


def test_failed_checkpoint_shows_the_numbers_of_its_gate(job: JobFolder) -> None:
    job.write_data()
    train(job, {0: BASE, 20: "p" * 17 + "fff"})
    assert f"{GATE}: golden 17/20 = 0.85, required 0.90" in text_of(page(job))


def test_report_of_stopped_run_shows_step_reason_and_saved_time(job: JobFolder) -> None:
    job.write_data()
    train(job, {0: BASE, 40: GOOD, 60: "ff" + GOOD[2:], 70: "fft" + GOOD[3:]}, outcome=Outcome.STOPPED)

    html = page(job)
    text = text_of(html)
    assert "Stopped at step 70 of 100" in text
    assert f"{GATE}: golden 16/20 at step 70, best 19/20 at step 40: -15.0 points, limit -5.0" in text
    assert "Kept step 40 the best so far" in text
    assert "Steps saved 30 of 100" in text
    assert "Time saved 1 min 30 s at 3 s a step" in text
    assert "3 cases regressed: case-0 case-1 case-2" in text
    assert "tunegate continue invoice-extractor" in text
    assert "Step 40, the best so far against step 70, which stopped" in text
    for case in ("case-0", "case-1", "case-2"):  # each id links to its outputs
        assert f'href="#golden-{GATE}.{case}"' in html
        assert f'id="golden-{GATE}.{case}"' in html


@pytest.mark.parametrize(
    ("accelerator", "sentence"),
    [
        ("GPU", "Step 40 is kept, the GPU is free, and the job waits for a decision"),
        ("CPU", "Step 40 is kept, and the job waits for a decision"),
    ],
)
def test_report_of_stopped_run_mentions_gpu_only_if_used(
    job: JobFolder, accelerator: str, sentence: str
) -> None:
    job.spec = {"resources": {"accelerator": accelerator}}
    job.write_data()
    train(job, {0: BASE, 40: GOOD, 60: "ff" + GOOD[2:], 70: "fft" + GOOD[3:]}, outcome=Outcome.STOPPED)
    assert sentence in text_of(page(job))


def test_must_pass_failure_is_shown_as_stop_reason(job: JobFolder) -> None:
    job.gate_spec = {"golden": {"rules": [{"name": "critical", "cases": ["case-3"], "minPassRate": "100%"}]}}
    job.write_data()
    train(job, {0: BASE, 40: GOOD[:3] + "f" + GOOD[4:]}, outcome=Outcome.STOPPED)
    text = text_of(page(job))
    assert "A case that must pass passed before and fails now. 1 case regressed: case-3" in text


def test_report_of_metric_stop_names_metric_and_rows(job: JobFolder) -> None:
    metric = {"name": "exact_match", "type": "ExactMatch", "min": "80%", "checkpoints": {"failAtDrop": "10%"}}
    job.spec = {"taskMetrics": [metric]}
    job.write_data()
    dev = {60: "f" + "p" * 7 + "ff", 70: "ff" + "p" * 6 + "ff"}
    train(job, {0: BASE, 40: GOOD, 60: GOOD, 70: GOOD}, dev=dev, outcome=Outcome.STOPPED)
    html = page(job)
    text = text_of(html)
    assert "Stopped at step 70 of 100" in text
    assert (
        "taskMetrics: exact_match 6/10 at step 70, starting model 8/10: -20.0 points, limit -10.0, confirmed"
        in text
    )
    assert "The starting model was best" in text
    assert "The task metric exact_match fell below the best so far by its limit or more." in text
    assert "2 rows regressed: dev-0 dev-1" in text
    for row in ("dev-0", "dev-1"):
        assert f'href="#dev.{row}"' in html
        assert f'id="dev.{row}"' in html


def test_continued_run_is_not_shown_as_stopped(job: JobFolder) -> None:
    job.gate_spec = {"golden": {"checkpoints": {"onRegression": "Immediate"}}}
    job.write_data()
    train(job, {0: BASE, 40: GOOD, 60: "fff" + GOOD[3:], 80: "ff" + GOOD[2:]})
    text = text_of(page(job))
    assert "Stopped at" not in text
    assert "A person continued the training after the stop at step 60" in text


def test_report_of_second_stop_compares_with_the_accepted_checkpoint(job: JobFolder) -> None:
    job.gate_spec = {"golden": {"checkpoints": {"onRegression": "Immediate"}}}
    job.write_data()
    stop = "f" * 6 + GOOD[6:]
    train(job, {0: BASE, 40: GOOD, 60: "fff" + GOOD[3:], 80: stop}, outcome=Outcome.STOPPED)
    text = text_of(page(job))
    assert "golden 13/20 at step 80, best 16/20 at step 60: -15.0 points" in text


def test_report_shows_a_stage_without_passing_checkpoint_as_failed(job: JobFolder) -> None:
    job.write_data()
    train(job, {0: BASE, 100: "p" * 17 + "fff"}, outcome=Outcome.COMPLETED)
    text = text_of(page(job))
    assert "Failed: no checkpoint passed" in text


def test_report_of_interrupted_run_states_that_progress_is_saved(job: JobFolder) -> None:
    job.write_data()
    train(job, {0: BASE, 20: GOOD}, outcome=Outcome.INTERRUPTED)
    assert "Interrupted at step 80 of 100, stage sft Everything is saved" in text_of(page(job))


def test_report_of_failed_gate_shows_findings_and_both_numbers(job: JobFolder) -> None:
    job.write_data()
    train(job, {0: BASE, 100: GOOD}, outcome=Outcome.COMPLETED)
    job.write_gate(base=(BASE, "pp" + "f" * 8), final=("p" * 17 + "fff", "p" * 7 + "fff"))
    text = text_of(page(job))
    assert "Failed It was measured and is not good enough. Nothing was published." in text
    assert f"✗ {GATE}: golden 17/20 = 0.85, required 0.90 {DASH} Failed" in text
    assert "golden 17/20, BaseModel 10/20: +35.0 points, limit -5.0" in text
    assert f"exact_match 7/10 = 0.70, required 0.80 {DASH} Failed" in text
    assert "exact_match, test ✗ Failed, required 0.8 0.20 2/10 0.06 to 0.51 0.70 7/10 0.40 to 0.89" in text
    assert "0.40 to 0.89 +50.0" in text
    assert "exact_match, dev not judged 0.80 8/10 0.49 to 0.94 0.80 8/10 0.49 to 0.94 +0.0" in text


@pytest.mark.parametrize(("steps", "shown"), [((0, 20), False), ((0, 20, 40), True)])
def test_report_states_that_a_selected_golden_rate_is_optimistic(
    job: JobFolder, steps: tuple[int, ...], shown: bool
) -> None:
    job.write_data()
    train(job, dict.fromkeys(steps, GOOD), outcome=Outcome.COMPLETED)
    job.write_gate(base=(BASE, "pp" + "f" * 8), final=(GOOD, "p" * 9 + "f"))
    selected = f"It is the best of 2 checkpoints by {GATE}: rate up to 3.4 points too high on average"
    assert (selected in text_of(page(job))) is shown


def test_published_model_shows_its_address(job: JobFolder) -> None:
    job.write_data()
    digest = job.write_gate(base=(BASE, "pp" + "f" * 8), final=(GOOD, "p" * 9 + "f"))
    uri = "pvc://models/invoice-extractor/invoice-extractor-3f2b9"
    job.write_report(Role.PUBLISH, published=[PublishedArtifact(uri=uri, digest=digest)])
    text = text_of(page(job))
    assert "Passed and published" in text
    assert f"Published to {uri}" in text


@pytest.mark.parametrize(
    ("failure", "count", "expected"),
    [
        (None, 1, "Passed and published to 1 of 2 addresses so far"),
        (None, 2, "Passed and published The exact artifact"),
        (Failure(reason="StorageError", message="full"), 1, "Publishing failed Published only to pvc://a/v."),
        (Failure(reason="UserError", message="latest"), 2, "Publishing failed The model is published."),
    ],
)
def test_duplicate_publish_address_is_counted_once(
    job: JobFolder, failure: Failure | None, count: int, expected: str
) -> None:
    job.spec = {"publish": [{"uri": "pvc://a"}, {"uri": "pvc://b"}, {"uri": "pvc://a"}]}
    job.write_data()
    digest = job.write_gate(base=(BASE, "pp" + "f" * 8), final=(GOOD, "p" * 9 + "f"))
    published = [PublishedArtifact(uri=uri, digest=digest) for uri in ("pvc://a/v", "pvc://b/v")][:count]
    outcome = Outcome.FAILED if failure else None
    job.write_report(Role.PUBLISH, published=published, failure=failure, outcome=outcome)
    assert expected in text_of(page(job))


@pytest.mark.parametrize(
    ("golden", "title"),
    [(GOOD[:-1] + "e", "Error It could not be measured"), ("p" * 20, "Passed The exact artifact")],
)
def test_report_title_is_the_verdict(job: JobFolder, golden: str, title: str) -> None:
    job.write_data()
    job.write_gate(base=(BASE, "p" * 10), final=(golden, "p" * 10))
    assert title in text_of(page(job))


def test_too_few_cases_are_inconclusive(tmp_path: Path) -> None:
    job = JobFolder(tmp_path, golden_ids=("a", "b")).write_data()
    job.write_gate(base=("pp", "p" * 10), final=("pp", "p" * 10))
    text = text_of(page(job))
    assert "Inconclusive It was measured, but on too few cases to say." in text


def test_cases_are_grouped_with_the_regressed_first(job: JobFolder) -> None:
    job.write_data()
    job.write_gate(base=(BASE, "p" * 10), final=("f" + "p" * 18 + "f", "p" * 10))
    html = page(job)
    section = html[html.index('id="cases"') :]
    groups = re.findall(r"<summary>([A-Z][a-z ]+) <span class=\"count\">(\d+)", section)
    assert groups[:4] == [("Regressed", "1"), ("Still failing", "1"), ("Fixed", "9"), ("Still passing", "9")]
    assert section.index("output case-0 p") < section.index("output case-0 f") < section.index("case-19")


def test_model_output_is_escaped_not_executed(job: JobFolder) -> None:
    attack = '</pre><script>alert(1)</script><img src=x onerror="alert(2)">'
    texts = {"case-0": (f"prompt {attack}", f"output {attack} \u202e\x00 LONE")}
    job.write_data({"dropped": [{"line": 1, "reason": attack}]})
    job.write_gate(base=(BASE, "p" * 10), final=(GOOD, "p" * 10), base_texts=texts, texts=texts)
    cases = job.folder / "gate" / f"golden-{GATE}.jsonl"
    cases.write_text(
        cases.read_text().replace("LONE", "\\ud800")
    )  # half of a surrogate pair, which JSON can express
    html = page(job)
    assert "<script" not in html
    assert "<img" not in html
    assert html.count("&lt;script&gt;alert(1)&lt;/script&gt;") == 4
    assert "default-src 'none'" in html


def test_long_outputs_and_large_groups_are_cut_in_the_report(tmp_path: Path) -> None:
    ids = tuple(f"case-{i}" for i in range(1000))
    job = JobFolder(tmp_path, golden_ids=ids).write_data()
    texts = dict.fromkeys(ids, ("prompt", "word " * 4000))
    job.write_gate(base=("f" * 1000, "p" * 10), final=("p" * 1000, "p" * 10), base_texts=texts, texts=texts)
    html = page(job)
    assert len(html) < 2_000_000
    assert "more characters on the volume" in html
    assert "And 900 more; their outputs are on the volume" in html
    assert "case-999" in html


def test_page_is_one_file_without_external_references(job: JobFolder) -> None:
    job.write_data()
    train(job, {0: BASE, 20: GOOD, 40: GOOD}, outcome=Outcome.COMPLETED)
    job.write_gate(base=(BASE, "p" * 10), final=(GOOD, "p" * 10))
    html = page(job)
    assert re.findall(r"https?:", html) == []
    assert re.findall(r"(?:src|href)=\"(?!#)[^\"]*\"|@import|url\((?!#)", html) == []
    assert [path.name for path in job.folder.iterdir() if path.name.startswith(".")] == []


def test_charts_have_titles_and_text_descriptions(job: JobFolder) -> None:
    job.write_data()
    train(job, {0: BASE, 40: GOOD, 60: "ff" + GOOD[2:], 70: "fff" + GOOD[3:]}, outcome=Outcome.STOPPED)
    html = page(job)
    assert html.count('<svg role="img" aria-labelledby=') == 2
    assert "Training loss from 2 at step 1 to 0.683 at step 80. Best checkpoint: step 40." in html
    assert f"golden {GATE} from 50% at step 0 to 80% at step 70" in html
    assert "; dev exact_match from 80% at step 0 to 80% at step 70." in html
    assert re.search(r"<text[^>]*>dev exact_match</text>", html)
    assert "stroke-dasharray: 8.8,4.4" in html, "dev is drawn apart from golden"
    assert "Stopped at step 70.</desc>" in html
    assert re.search(r"<text[^>]*>best</text>", html)
    assert re.search(r"<text[^>]*>stopped</text>", html)


def test_html_ids_are_unique_with_several_charts(tmp_path: Path) -> None:
    job = JobFolder(tmp_path, stages=("sft", "dpo")).write_data()
    for stage in job.stages:
        job.write_losses(stage, LOSSES)
        job.write_training(stage, [job.write_checkpoint(stage, step, GOOD, "p" * 10) for step in (0, 20, 40)])
    parser = PageText()
    parser.feed(page(job))
    assert len(parser.ids) == len(set(parser.ids))


def test_base_scores_come_from_the_first_stages_start(tmp_path: Path) -> None:
    job = JobFolder(tmp_path, stages=("sft", "dpo")).write_data()
    first = [job.write_checkpoint("sft", 0, BASE, "f" * 10), job.write_checkpoint("sft", 20, GOOD, "p" * 10)]
    job.write_training("sft", first, outcome=Outcome.COMPLETED)
    second = [job.write_checkpoint("dpo", 0, GOOD, "p" * 10), job.write_checkpoint("dpo", 20, GOOD, "p" * 10)]
    job.write_training("dpo", second)
    text = text_of(page(job))
    assert (
        f"golden set {GATE} ✓ Passed, required 0.9 0.50 10/20 0.30 to 0.70 0.95 19/20 0.76 to 0.99 +45.0"
        in text
    )


def test_report_is_rendered_from_evaluations_if_outbox_is_gone(job: JobFolder) -> None:
    job.write_data()
    train(job, {0: BASE, 20: GOOD})
    for path in (job.folder / "outbox").iterdir():
        path.unlink()
    assert "step 20 best ✓ Passed 1 19/20 8/10" in text_of(page(job))


def test_report_is_rendered_without_damaged_files(job: JobFolder) -> None:
    job.write_data()
    train(job, {0: BASE, 20: GOOD})
    (job.folder / "data" / "report.json").write_text("{")
    (job.folder / "data" / "plan.json").write_text("[]")
    (job.folder / "outbox" / "publish.json").write_text("")
    losses = job.folder / "stages" / "sft" / "losses.jsonl"
    losses.write_text(losses.read_text() + '{"step": 81, "lo')
    cases = job.folder / "evals" / "sft" / "step-000020" / f"golden-{GATE}.jsonl"
    cases.write_text(cases.read_text()[:300])
    text = text_of(page(job))
    assert "Training At step 80 of 100" in text


def test_rendering_again_replaces_the_page(job: JobFolder) -> None:
    job.write_data()
    assert "Data is ready" in page(job)
    train(job, {0: BASE, 20: GOOD})
    assert "Data is ready" not in page(job)


def test_last_loss_is_used_for_a_repeated_step(job: JobFolder) -> None:
    job.write_data()
    train(job, {0: BASE, 20: GOOD})
    losses = job.folder / "stages" / "sft" / "losses.jsonl"
    losses.write_text(losses.read_text() + '{"step": 1, "loss": 1.5}\n')
    assert "Training loss from 1.5 at step 1 to 0.683 at step 80." in page(job)


def test_page_of_30000_steps_is_below_150_kb(job: JobFolder) -> None:
    job.write_data()
    train(job, {0: BASE, 20: GOOD}, losses=[1.0 + (i % 7) / 10 for i in range(30_000)])
    assert len(page(job)) < 150_000


def test_report_imports_no_torch_and_matplotlib_only_for_charts(job: JobFolder) -> None:
    job.write_data()
    (job.root / "request.json").write_text(job.request.model_dump_json(by_alias=True, exclude_none=True))
    code = (
        "import sys; from pathlib import Path; from tunegate_api.contract.request import Request\n"
        "from tunegate_trainer.report import render\n"
        f"root = Path({str(job.root)!r})\n"
        "render(root / 'workspace', Request.model_validate_json((root / 'request.json').read_text()))\n"
        "print([m for m in ('torch', 'transformers', 'matplotlib') if m in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


def test_f1_is_shown_with_interval_and_label_scores(tmp_path: Path) -> None:
    metrics = [{"name": "f1", "type": "F1", "average": "Macro", "min": "50%"}]
    job = JobFolder(tmp_path, spec={"taskMetrics": metrics}).write_data()
    digest = job.write_artifact()
    counts = {
        Subject.BASE: " ".join(["0>0"] * 6 + ["1>0"] * 4),
        Subject.FINAL: " ".join(["0>0"] * 6 + ["1>1"] * 2 + ["1>0", "1>-"]),
    }
    evaluations = [
        Evaluation(
            subject=subject,
            stage="sft",
            step=100,
            digest=digest,
            outcomes={golden_set(GATE): GOOD, task_set("test", "f1"): "p" * 10},
            counts={task_set("test", "f1"): text},
        )
        for subject, text in counts.items()
    ]
    rows = CaseSet(sha256="3" * 64, ids=[f"row-{i}" for i in range(10)], labels=["order", "refund <i>"])
    sets = {golden_set(GATE): job.golden_set, task_set("test", "f1"): rows}
    job.write_report(Role.GATE, results=Results(sets=sets, evaluations=evaluations))
    text = text_of(page(job))
    # order: 12/(6 + 7) = 0.92; refund: 4/(4 + 2) = 0.66; their mean is 0.79.
    assert "f1, test ✓ Passed, required 0.5 0.37" in text
    assert re.search(r"0\.79 0\.\d\d to 1\.00 \+41\.\d", text), text
    assert "f1 of each label, test Label Rows Base Tuned order 6 0.75 0.92 refund <i> 4 0.00 0.66" in text


def test_macro_f1_of_correct_rows_explains_its_missing_interval(tmp_path: Path) -> None:
    metrics = [{"name": "f1", "type": "F1", "average": "Macro", "min": "50%"}]
    job = JobFolder(tmp_path, spec={"taskMetrics": metrics}).write_data()
    evaluation = Evaluation(
        subject=Subject.FINAL,
        stage="sft",
        step=100,
        digest=job.write_artifact(),
        outcomes={golden_set(GATE): GOOD, task_set("test", "f1"): "p" * 10},
        counts={task_set("test", "f1"): " ".join(["0>0"] * 6 + ["1>1"] * 4)},
    )
    rows = CaseSet(sha256="3" * 64, ids=[f"row-{i}" for i in range(10)], labels=["order", "refund"])
    sets = {golden_set(GATE): job.golden_set, task_set("test", "f1"): rows}
    job.write_report(Role.GATE, results=Results(sets=sets, evaluations=[evaluation]))
    assert "1.00 no interval: all samples of the rows have this value" in text_of(page(job))


@pytest.mark.parametrize("field", ["group", "prompt"])
def test_groups_of_golden_cases_are_read_from_the_results(job: JobFolder, field: str) -> None:
    job.write_data().write_checkpoint("sft", 20, GOOD, "p" * 10)
    path = job.workspace / job.paths.evaluation("sft", 20) / f"golden-{GATE}.jsonl"
    lines = [case | {field: f"template-{i // 2}"} for i, case in enumerate(read_lines(path))]
    path.write_text("".join(json.dumps(line) + "\n" for line in lines))
    found = collect(job.workspace, job.request).results.sets[golden_set(GATE)]
    assert found.groups == [i // 2 for i in range(20)]


def test_safety_cases_of_a_checkpoint_are_read_from_the_results(tmp_path: Path) -> None:
    safety = {"source": {"builtin": "refusals-v1"}, "checkpoints": {"onRegression": "Confirm"}}
    job = JobFolder(tmp_path, gate_spec={"safety": safety}).write_data()
    job.write_checkpoint("sft", 20, GOOD, "p" * 10)
    path = job.workspace / job.paths.evaluation("sft", 20) / f"safety-{GATE}.jsonl"
    job.write_cases(path, "pf", ids=["bad", "good"], measure="safety")
    assert collect(job.workspace, job.request).results.sets[safety_set(GATE)].ids == ["bad", "good"]


def test_dev_labels_come_from_the_train_pods_report(tmp_path: Path) -> None:
    job = JobFolder(tmp_path, spec={"taskMetrics": [{"name": "f1", "type": "F1", "min": "50%"}]}).write_data()
    name = task_set("dev", "f1")
    evaluation = job.write_checkpoint("sft", 20, GOOD, "p" * 10)
    ids = [case["id"] for case in read_lines(job.workspace / job.paths.evaluation("sft", 20) / "dev.jsonl")]
    reported = CaseSet(sha256="2" * 64, ids=ids, labels=["order", "refund"])
    results = Results(sets={name: reported}, evaluations=[evaluation])
    job.write_report(Role.TRAIN, stage="sft", results=results)
    assert collect(job.workspace, job.request).results.sets[name] == reported
    changed = reported.model_copy(update={"ids": ids[1:]})
    job.write_report(Role.TRAIN, stage="sft", results=Results(sets={name: changed}))
    assert collect(job.workspace, job.request).results.sets[name].ids == ids
