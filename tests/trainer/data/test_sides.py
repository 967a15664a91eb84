"""Sides over several jobs: a job never trains on rows that an earlier job held out, nor tests on its training
rows."""

import json
import shutil
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from support.tiny_model import make_tokenizer
from support.trainer_root import PAIRS_OF_ORDERS, ROWS_OF_ORDERS, TrainerRoot, gate_spec, stage_plan
from tunegate_api.contract.plan import Plan
from tunegate_api.contract.process import ExitCode, Role
from tunegate_api.contract.request import StartRequest
from tunegate_api.contract.workspace import PAIRS_PREFIX, TRAIN_EXAMPLES, Workspace
from tunegate_api.v1alpha2.finetunejob_status import Failure
from tunegate_trainer.data.parse import prompt_text
from tunegate_trainer.data.sides import SIDES_FILE
from tunegate_trainer.data.split import SIDES
from tunegate_trainer.main import main
from tunegate_trainer.process.files import seal, write_model
from tunegate_trainer.tokens.example_file import ExampleFile
from tunegate_trainer.tokens.examples import tokenize_rows
from tunegate_trainer.tokens.rows import read_pairs, read_rows

Rows = list[dict[str, Any]]


def orders(first: int, last: int, **fields: str) -> Rows:
    return [{"prompt": f"order {i} mugs", "completion": f"mugs: {i}", **fields} for i in range(first, last)]


def turn(role: str, content: str) -> dict[str, str]:
    return {"role": role, "content": content}


@dataclass
class Job:
    """A job whose data role has run."""

    root: TrainerRoot
    uid: str
    start: StartRequest
    """The request of a later job that starts from this job."""

    @property
    def data(self) -> Path:
        return self.root.workspace / Workspace(self.uid).data

    @property
    def plan(self) -> Plan:
        plan = self.root.report(Role.DATA).plan
        assert plan is not None
        return plan

    @property
    def failure(self) -> Failure:
        failure = self.root.report(Role.DATA).failure
        assert failure is not None
        return failure

    def prompts(self, *sides: str, pairs: bool = False) -> set[str]:
        read, prefix = (read_pairs, PAIRS_PREFIX) if pairs else (read_rows, "")
        return {
            prompt_text(row.prompt) for side in sides for row in read(self.data / f"{prefix}{side}.jsonl")
        }

    @property
    def held_out(self) -> set[str]:
        return self.prompts("dev", "test")


@pytest.fixture
def run_job(tmp_path, tiny_model, monkeypatch):
    """Run the data role of jobs that share a volume. They all end with the tiny model."""
    volume, jobs = tmp_path / "volume", []

    def run(
        rows: Rows,
        *,
        start: Job | None = None,
        code: ExitCode = ExitCode.OK,
        fraction: str = "20%",
        group_by: str | None = None,
        pairs: Rows | None = None,
        golden: Rows | None = None,
    ) -> Job:
        uid = f"0f7c9c1e-0000-4000-8000-10000000000{len(jobs)}"
        sources = [ROWS_OF_ORDERS, *([PAIRS_OF_ORDERS] if pairs else [])]
        texts = {"train": rows, "pairs": pairs or []}
        root = TrainerRoot(
            tmp_path / uid,
            inputs={
                f"orders/{name}.jsonl": "".join(json.dumps(row) + "\n" for row in content)
                for name, content in texts.items()
            },
            gates={"orders": gate_spec(golden)},
            spec={
                "model": {"uri": f"file://{tiny_model}"} if start is None else {"startFrom": "before"},
                "data": {
                    "goal": "StyleOrFormat",
                    "sources": sources,
                    "sizePolicy": "Warn",
                    "heldOut": {"fraction": fraction} | ({"groupBy": group_by} if group_by else {}),
                },
            },
        ).write_for_data(tiny_model)
        volume.mkdir(exist_ok=True)
        root.workspace.symlink_to(volume)
        (root.path / "volumes").mkdir()
        (root.path / "volumes" / "tuning").symlink_to(volume)
        request = root.context(Role.DATA).request
        before = start.start if start else None
        write_model(
            root.path / "request" / "request.json",
            request.model_copy(update={"uid": uid, "start_from": before}),
        )
        manifest = seal(shutil.copytree(tiny_model, volume / Workspace(uid).model))
        start_from_this = StartRequest(
            job=f"job-{len(jobs)}",
            uid=uid,
            claim="tuning",
            digest=manifest.digest,
            base_digest="0" * 64,
            trained=stage_plan("sft").parameters,
        )
        monkeypatch.setenv("TUNEGATE_ROOT", str(root.path))
        assert main(["data"]) == code
        jobs.append(Job(root, uid, start_from_this))
        return jobs[-1]

    return run


@pytest.mark.parametrize(("before", "after"), [("40%", "10%"), ("10%", "40%")])
def test_later_job_keeps_the_splits_of_the_earlier_job(run_job, before, after):
    first = run_job(orders(0, 120), fraction=before)
    second = run_job(orders(0, 120), start=first, fraction=after)
    for side in SIDES:
        assert second.prompts(side) == first.prompts(side)


def test_splits_stay_the_same_over_three_jobs_with_growing_data(run_job):
    first = run_job(orders(0, 120))
    second = run_job(orders(0, 180), start=first)
    third = run_job(orders(0, 300), start=second)
    for side in SIDES:
        assert first.prompts(side) < second.prompts(side) < third.prompts(side)


def test_rows_missing_from_the_second_job_keep_their_split(run_job):
    first = run_job(orders(0, 120), fraction="40%")
    second = run_job(orders(200, 320), start=first, fraction="10%")
    third = run_job(orders(0, 120), start=second, fraction="10%")
    assert third.held_out == first.held_out


def test_new_rows_of_a_held_out_group_are_held_out(run_job):
    customers = [f"customer {i}" for i in range(20)]
    rows = [row for i, who in enumerate(customers) for row in orders(10 * i, 10 * i + 5, customer=who)]
    more = [row for i, who in enumerate(customers) for row in orders(10 * i + 5, 10 * i + 10, customer=who)]
    first = run_job(rows, group_by="customer", fraction="40%")
    second = run_job(more, start=first, group_by="customer", fraction="10%")

    def who(prompts: set[str]) -> set[int]:
        return {int(prompt.split()[1]) // 10 for prompt in prompts}

    assert who(second.held_out) == who(first.held_out)


def test_held_out_row_whose_group_was_trained_is_excluded(run_job):
    first = run_job(orders(0, 120), fraction="40%")
    grouped = [row | {"customer": f"customer {i % 30}"} for i, row in enumerate(orders(0, 120))]
    new = [row for i in range(30) for row in orders(1000 + i, 1001 + i, customer=f"new {i}")]
    second = run_job([*grouped, *new], start=first, group_by="customer", fraction="40%")
    assert not second.prompts("train") & first.held_out
    assert not second.held_out & first.prompts("train")
    count = len(first.held_out - second.held_out)
    assert second.plan.data.dropped == count > 0
    assert (
        f"{count} rows or pairs are excluded: FineTuneJob job-0, or a job that it started from, held them "
        "out but trained on other rows of their groups; data/report.json on the volume lists them"
    ) in second.plan.data.warnings
    lines = json.loads((second.data / "report.json").read_text())["conflicts"]["train"]
    numbers = {int(line.removeprefix("line ")) for line in lines}
    assert {f"order {number - 1} mugs" for number in numbers} == first.held_out - second.held_out


def test_chat_answer_to_an_earlier_held_out_prompt_is_masked(run_job):
    first = run_job(orders(0, 60))
    asked = sorted(first.held_out)[0]
    plain: Rows = [{"messages": [turn("user", f"lamp {i}"), turn("assistant", "yes")]} for i in range(60)]
    chat = [turn("user", asked), turn("assistant", "mugs"), turn("user", "more"), turn("assistant", "yes")]
    chats: Rows = [{"messages": [*chat[:2], turn("user", f"more {i}"), chat[3]]} for i in range(20)]
    second = run_job([*plain, *chats], start=first)
    rows = read_rows(second.data / "train.jsonl")
    masked = [row.unlearned for row in rows if len(row.prompt) > 1]
    assert masked == [[1]] * len(masked)
    assert masked
    assert list(ExampleFile(second.data / TRAIN_EXAMPLES)) == tokenize_rows(make_tokenizer(), rows, 256)


def test_prompt_of_an_earlier_training_chat_is_not_held_out(run_job):
    chats: Rows = [
        {
            "messages": [
                turn("user", f"order {i} mugs"),
                turn("assistant", "yes"),
                turn("user", "more"),
                turn("assistant", f"{i}"),
            ]
        }
        for i in range(60)
    ]
    first = run_job(chats)
    taught = {row.prompt[0].content for row in read_rows(first.data / "train.jsonl") if not row.unlearned}
    second = run_job(orders(0, 120), start=first, fraction="50%")
    assert not second.held_out & taught


def test_pairs_get_their_prompts_split_in_the_earlier_job(run_job):
    first = run_job(orders(0, 120), fraction="40%")
    ranked = [{"prompt": row["prompt"], "chosen": "yes", "rejected": "no"} for row in orders(0, 120)]
    second = run_job(orders(1000, 1100), start=first, fraction="10%", pairs=ranked)
    for side in SIDES:
        assert second.prompts(side, pairs=True) == first.prompts(side)


def test_later_job_keeps_splits_after_row_file_cleanup(run_job):
    first = run_job(orders(0, 120), fraction="40%")
    held_out = first.held_out
    for path in first.data.glob("*.jsonl"):
        path.unlink()
    assert run_job(orders(0, 120), start=first, fraction="10%").held_out == held_out


def test_missing_split_record_of_the_earlier_job_is_refused(run_job):
    first = run_job(orders(0, 120))
    (first.data / SIDES_FILE).unlink()
    second = run_job(orders(0, 120), start=first, code=ExitCode.NOT_FOUND)
    uri = f"pvc://tuning/tunegate/jobs/{first.uid}/data/sides.json"
    assert second.failure.message == (
        f"model.startFrom: {uri}, the record of the rows that FineTuneJob job-0 trained on, is missing"
    )
    assert "rows that were trained on could be held out" in second.failure.hint


@pytest.mark.parametrize("text", ["{", "[]", '{"train": []}', '{"train": 1, "dev": [], "test": []}'])
def test_damaged_split_record_of_the_earlier_job_is_refused(run_job, text):
    first = run_job(orders(0, 120))
    (first.data / SIDES_FILE).write_text(text)
    second = run_job(orders(0, 120), start=first, code=ExitCode.STORAGE)
    assert second.failure.message.endswith(
        "the record of the rows that FineTuneJob job-0 trained on, is damaged"
    )


def test_data_with_only_held_out_rows_is_refused(run_job):
    first = run_job(orders(0, 120), fraction="40%")
    rows = [row for row in orders(0, 120) if row["prompt"] in first.held_out]
    second = run_job(rows, start=first, code=ExitCode.BAD_DATA)
    assert second.failure.message.startswith("data.sources[train]: the train split is empty")


def test_golden_prompt_trained_by_the_earlier_job_gives_a_warning(run_job):
    first = run_job(orders(0, 120))
    trained, held_out = sorted(first.prompts("train"))[0], sorted(first.held_out)[0]
    asked = [{"role": "system", "content": "Be brief."}, {"role": "user", "content": trained}]
    expect = [{"type": "contains", "value": "mug"}]
    golden: Rows = [
        {"id": "seen", "prompt": trained.upper(), "expect": expect},
        {"id": "held-out", "prompt": held_out, "expect": expect},
        {"id": "new", "prompt": "any mugs?", "expect": expect},
        {"id": "in-system", "messages": asked, "expect": expect},
    ]
    second = run_job(orders(1000, 1120), start=first, golden=golden)
    assert (
        "the model that the job starts from was trained on the prompts of these golden cases, so they "
        "measure memorization: seen of EvalGate orders, in-system of EvalGate orders"
    ) in second.plan.data.warnings
