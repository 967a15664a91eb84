"""Production inputs: reading them in every form, reporting bad rows, and keeping them out of training."""

import json

import pytest

from support.records import records_of
from support.trainer_root import TrainerRoot
from tunegate_api.contract.plan import Plan
from tunegate_api.contract.process import ExitCode, Role
from tunegate_api.v1alpha2.data import Columns
from tunegate_trainer.data import production
from tunegate_trainer.data.inputs import parse_inputs
from tunegate_trainer.data.parse import RowProblem, prompt_text
from tunegate_trainer.data.production import read_production
from tunegate_trainer.data.records import read_records
from tunegate_trainer.data.records.record import RecordPlace
from tunegate_trainer.data.usable import Limit
from tunegate_trainer.main import main
from tunegate_trainer.tokens.chat import load_tokenizer


def lines(*rows: object) -> str:
    return "".join(json.dumps(row) + "\n" for row in rows)


def turn(role: str, content: str = "text") -> dict[str, str]:
    return {"role": role, "content": content}


USER, ANSWER, SYSTEM = turn("user", "two mugs"), turn("assistant", "mugs: 2"), turn("system", "be brief")
ASKED = {"from": "human", "value": "two mugs"}


@pytest.mark.parametrize(
    ("row", "columns", "prompt"),
    [
        ("two mugs", {}, "two mugs"),
        ({"prompt": "two mugs"}, {}, "two mugs"),
        ({"prompt": "two mugs", "completion": 3}, {}, "two mugs"),
        ({"prompt": [SYSTEM, USER]}, {}, "be brief\ntwo mugs"),
        ({"messages": [USER]}, {}, "two mugs"),
        ({"messages": [SYSTEM, USER, ANSWER]}, {}, "be brief\ntwo mugs"),
        ({"messages": [USER, ANSWER, turn("user", "and a lamp")]}, {}, "two mugs\nmugs: 2\nand a lamp"),
        ({"conversations": [USER, ANSWER]}, {}, "two mugs"),
        ({"text": "two mugs", "messages": 1}, {"prompt": "text"}, "two mugs"),
        ({"text": "two mugs", "instruction": 1}, {"prompt": "text"}, "two mugs"),
        ({"conversations": [ASKED, {"from": "gpt", "value": "mugs: 2"}]}, {}, "two mugs"),
        ({"conversations": [ASKED], "system": "be brief", "tools": "[]"}, {}, "be brief\ntwo mugs"),
        ({"chat": [ASKED]}, {"messages": "chat"}, "two mugs"),
        ({"instruction": "two mugs", "output": 3}, {}, "two mugs"),
        ({"messages": [USER], "instruction": "no"}, {}, "two mugs"),
        ({"conversations": [ASKED], "instruction": "no"}, {}, "two mugs"),
        ({"chat": [USER], "instruction": "no"}, {"messages": "chat"}, "two mugs"),
        (
            {"instruction": "order", "input": "two mugs", "system": "be brief"},
            {},
            "be brief\norder\ntwo mugs",
        ),
        ({"chat": [USER], "prompt": "no"}, {"messages": "chat"}, "two mugs"),
    ],
)
def test_prompt_is_read_from_every_form_of_row(row, columns, prompt):
    (found,) = parse_inputs(records_of(json.dumps(row)), Columns(**columns))
    assert prompt_text(found.prompt) == prompt


@pytest.mark.parametrize(
    ("line", "reason"),
    [
        ("two mugs", "the row is not JSON: Expecting value at column 1"),
        ('"two mugs', "the row is not JSON: Unterminated string starting at at column 1"),
        ("7", "a row must be a JSON object, but it is a number"),
        ('""', "the row is empty"),
        ('{"completion": "a"}', "prompt is missing; the fields here are: completion"),
        ('{"messages": []}', "messages must be a list of {role, content}, but it is a list"),
        (json.dumps({"messages": [SYSTEM]}), "messages has no user turn"),
        (json.dumps({"messages": [USER, USER]}), "messages[1].role must be assistant here, but it is user"),
        (json.dumps({"messages": [USER], "tools": 3}), "tools: Input should be a valid list"),
    ],
)
def test_bad_row_is_reported_with_line_and_reason(line, reason):
    assert list(parse_inputs(records_of("", line), Columns())) == [RowProblem(RecordPlace(2), reason)]


@pytest.mark.parametrize(
    ("name", "content"),
    [("a.json", '["two mugs", {"prompt": "a lamp"}]'), ("a.csv", "prompt,user\ntwo mugs,1\na lamp,2\n")],
)
def test_inputs_are_read_from_other_file_formats(tmp_path, name, content):
    (tmp_path / name).write_text(content)
    found = parse_inputs(read_records(tmp_path / name, "data.sources[production]"), Columns())
    assert [prompt_text(one.prompt) for one in found] == ["two mugs", "a lamp"]


@pytest.fixture
def make_job(tmp_path, tiny_model, monkeypatch):
    """A root before its data role has run, with these production rows."""

    def make(text: str, **checks: dict[str, str]) -> TrainerRoot:
        train = lines(*({"prompt": f"order {i} mugs", "completion": f"mugs: {i}"} for i in range(120)))
        root = TrainerRoot(
            tmp_path / "root",
            inputs={"orders/train.jsonl": train, "requests/rows.jsonl": text},
            spec={
                "model": {"uri": f"file://{tiny_model}"},
                "data": {
                    "goal": "StyleOrFormat",
                    "sources": [
                        {"name": "train", "configMap": "orders"},
                        {"name": "production", "use": "Production", "configMap": "requests"},
                    ],
                    "sizePolicy": "Warn",
                    "heldOut": {"fraction": "20%"},
                    "checks": [{"name": name, **given} for name, given in checks.items()],
                },
            },
        ).write_for_data(tiny_model)
        monkeypatch.setenv("TUNEGATE_ROOT", str(root.path))
        return root

    return make


REQUESTS = [f"order {i} mugs" for i in range(0, 180, 3)]


def plan_of(root: TrainerRoot) -> Plan:
    plan = root.report(Role.DATA).plan
    assert plan is not None
    return plan


def report_of(root: TrainerRoot) -> dict:
    return json.loads((root.data / "report.json").read_text())


def test_plan_has_digest_rows_and_auc_of_production_inputs(make_job):
    root = make_job(lines(*REQUESTS, REQUESTS[0].upper()))
    assert main(["data"]) == ExitCode.OK
    found = plan_of(root).data.production
    assert found.rows == len(REQUESTS)
    assert len(found.source_sha256) == 64
    assert 0.3 < float(found.distribution_auc) < 0.75
    report = report_of(root)
    assert report["production"] == {"rows": 61, "distinct": 60, "compared": 60, "bad": []}
    assert report["distribution"]["auc"] == float(found.distribution_auc)
    page = (root.workspace / root.paths.report).read_text(encoding="utf-8")
    assert "Lengths of training inputs and production inputs</title>" in page


def test_production_inputs_are_never_trained_on(make_job):
    root = make_job(lines(*({"prompt": text, "completion": "never"} for text in REQUESTS)))
    assert main(["data"]) == ExitCode.OK
    texts = [path.read_text() for path in root.data.glob("*.jsonl")]
    assert len(texts) == 3
    assert not any("never" in text or "order 177 mugs" in text for text in texts)


def test_bad_production_rows_above_the_limit_are_refused(make_job):
    root = make_job(lines(*REQUESTS, {"prompt": ""}), BadRows={"max": "1%"})
    assert main(["data"]) == ExitCode.BAD_DATA
    failure = root.report(Role.DATA).failure
    assert failure.message == "data.sources[production] has 1 bad row: line 61: prompt is empty"


def test_error_about_a_missing_prompt_names_the_setting(make_job):
    root = make_job(lines(*({"question": text} for text in REQUESTS)))
    assert main(["data"]) == ExitCode.BAD_DATA
    failure = root.report(Role.DATA).failure
    assert "line 1: prompt is missing; the fields here are: question" in failure.message
    assert "set columns.prompt of the source if another field has the prompt" in failure.hint


def test_bad_production_rows_up_to_limit_are_dropped_and_counted(make_job):
    root = make_job(lines(*REQUESTS, {"prompt": ""}), BadRows={"max": "2%"})
    assert main(["data"]) == ExitCode.OK
    assert plan_of(root).data.production.rows == 60
    assert report_of(root)["production"]["bad"] == [{"line": 61, "reason": "prompt is empty"}]
    (found,) = [one for one in root.report(Role.DATA).data_checks if one.name == "bad_inputs"]
    assert (found.result, found.count, found.share) == ("Passed", 1, "0.01639")


def test_empty_production_sample_is_refused(make_job):
    root = make_job("\n")
    assert main(["data"]) == ExitCode.BAD_DATA
    assert "data.sources[production] has no rows" in root.report(Role.DATA).failure.message


def test_check_that_is_off_compares_nothing_and_warns_of_nothing(make_job):
    root = make_job(lines("refund"), Distribution={"policy": "Off"})
    assert main(["data"]) == ExitCode.OK
    assert plan_of(root).data.production.distribution_auc is None
    assert not any("production" in warning for warning in plan_of(root).data.warnings)


def test_prompt_that_the_template_refuses_is_a_bad_row(make_root, tiny_model):
    data = {
        "goal": "StyleOrFormat",
        "sources": [
            {"name": "train", "configMap": "a"},
            {"name": "production", "use": "Production", "configMap": "requests"},
        ],
    }
    text = lines("fine", {"messages": [turn("system", "no"), USER]})
    root = make_root(spec={"data": data}, inputs={"requests/rows.jsonl": text})
    tokenizer = load_tokenizer(tiny_model)
    tokenizer.chat_template = (
        "{% if messages|length > 1 %}{{ raise_exception('one turn only') }}{% endif %}text"
    )
    found = read_production(root.context(Role.DATA), tokenizer, Limit(128, None))
    assert [one.place.number for one in found.inputs] == [1]
    ((line, reason),) = [(problem.place.number, problem.reason) for problem in found.bad]
    assert line == 2
    assert "one turn only" in reason


def test_large_production_sample_is_sampled_from_all_its_parts(make_root, tiny_model, monkeypatch):
    monkeypatch.setattr(production, "MOST_INPUTS", 40)
    data = {
        "goal": "StyleOrFormat",
        "sources": [
            {"name": "train", "configMap": "a"},
            {"name": "production", "use": "Production", "configMap": "requests"},
        ],
    }
    text = lines(*(f"order {i}" for i in range(400)))
    root = make_root(spec={"data": data}, inputs={"requests/rows.jsonl": text})
    read = [
        read_production(root.context(Role.DATA), load_tokenizer(tiny_model), Limit(128, None))
        for _ in range(2)
    ]
    found = [one.place.number for one in read[0].inputs]
    assert found == sorted(set(found)) == [one.place.number for one in read[1].inputs]
    assert (len(found), read[0].distinct) == (40, 400)
    assert min(sum(start < line <= start + 100 for line in found) for start in range(0, 400, 100)) >= 3
