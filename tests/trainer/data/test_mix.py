"""Mixed rows: each source has its own shape and weight, and its rows are trained on, but never held out."""

import json
from collections import Counter
from itertools import combinations

import pytest

from support.records import records_of
from support.trainer_root import TrainerRoot, orders_spec
from support.usable_rows import with_lengths
from tunegate_api.contract import ExitCode, Role
from tunegate_api.plan import DataPlan
from tunegate_api.v1alpha1.data import Columns, Data
from tunegate_api.workspace import TRAIN_EXAMPLES
from tunegate_trainer.data.mix import repeat_by_weight
from tunegate_trainer.data.parse import Mixed, Parsed, parse_rows
from tunegate_trainer.main import main
from tunegate_trainer.process.files import sha256_file
from tunegate_trainer.tokens.chat import load_tokenizer
from tunegate_trainer.tokens.example_file import ExampleFile
from tunegate_trainer.tokens.examples import examples_of
from tunegate_trainer.tokens.rows import Row, read_rows

NOT_COMPARED = {"distribution": {"policy": "Off"}}
"""Data checks without a comparison with production inputs."""
ORDER = {"prompt": "two mugs", "completion": "mugs: 2"}


def parsed_with(
    *mixed: dict[str, object], columns: Columns | None = None, group_by: str | None = None
) -> Parsed[Row]:
    """One row of data.train, and these of data.mix[0]."""
    train = {**ORDER, **({group_by: "a"} if group_by else {})}
    return parse_rows(
        records_of(train),
        Columns(),
        group_by,
        mix=[Mixed("data.mix[0]", records_of(*mixed), columns or Columns())],
    )


def test_each_source_has_its_own_shape_and_columns():
    chat = {"messages": [{"role": "user", "content": "hi"}, {"role": "assistant", "content": "hello"}]}
    parsed = parsed_with(chat)
    assert [row.row.completion for row in parsed.rows] == ["mugs: 2", "hello"]
    parsed = parsed_with({"q": "hi", "a": "hello"}, columns=Columns(prompt="q", completion="a"))
    assert [row.row.completion for row in parsed.rows] == ["mugs: 2", "hello"]
    assert parsed.shape == "prompt/completion"


def test_messages_and_ids_name_the_source():
    parsed = parsed_with({"prompt": "hi", "completion": ""}, {"prompt": "a lamp", "completion": "lamps: 1"})
    assert [str(problem.place) for problem in parsed.bad] == ["line 1 of data.mix[0]"]
    assert parsed.bad[0].entry["source"] == "data.mix[0]"
    assert [row.row.id for row in parsed.rows] == ["line-1", "line-2-of-data.mix[0]"]


def test_sources_may_number_their_rows_alike():
    mixed = {"id": 1, "prompt": "a lamp", "completion": "lamps: 1"}
    parsed = parse_rows(
        records_of({**ORDER, "id": 1}),
        Columns(),
        None,
        mix=[Mixed("data.mix[0]", records_of(mixed), Columns())],
    )
    assert [row.row.id for row in parsed.rows] == ["1", "1-of-data.mix[0]"]


def test_row_of_an_earlier_source_is_dropped():
    (duplicate,) = parsed_with(ORDER).duplicates
    assert str(duplicate) == "line 1 of data.mix[0]: repeats line 1"


def test_mixed_rows_need_no_field_of_group_by():
    with_field = {"prompt": "a lamp", "completion": "lamps: 1", "customer": "a"}
    train, grouped, alone = parsed_with(
        with_field, {"prompt": "hi", "completion": "hello"}, group_by="customer"
    ).rows
    assert train.group == grouped.group != alone.group


def per_epoch(weight: str) -> Counter[str]:
    """How often each of 40 mixed rows is trained on."""
    mixed = [{"prompt": f"lamp {i}", "completion": f"{i}"} for i in range(40)]
    rows = with_lengths(parsed_with(*mixed), examples=1)
    data = Data.model_validate(
        {"goal": "StyleOrFormat", "train": {"configMap": "a"}, "mix": [{"configMap": "b", "weight": weight}]}
    )
    counts = Counter(rows[position].labelled.row.id for position in repeat_by_weight(rows, data))
    assert counts.pop("line-1") == 1
    return counts


@pytest.mark.parametrize(
    ("weight", "rows", "total"),
    [("1", 40, 40), ("0.25", 10, 10), ("2", 40, 80), ("2.5", 40, 100), ("0.001", 0, 0)],
)
def test_weight_is_how_often_a_row_is_trained_on(weight, rows, total):
    counts = per_epoch(weight)
    assert (len(counts), counts.total()) == (rows, total)
    assert max(counts.values(), default=0) - min(counts.values(), default=0) <= 1


def test_larger_weight_adds_rows_and_removes_none():
    for smaller, larger in combinations(map(per_epoch, ("0.1", "0.3", "1", "1.3")), 2):
        assert smaller <= larger


def jsonl(*rows: dict[str, object]) -> str:
    return "".join(json.dumps(row) + "\n" for row in rows)


ORDERS = [{"prompt": f"order {i} mugs", "completion": f"mugs: {i}"} for i in range(100)]
CHATS = [
    {
        "messages": [
            {"role": "system", "content": "You help with the garden."},
            {"role": "user", "content": f"How do I water {i} roses in pots?"},
            {"role": "assistant", "content": f"Slowly, {i} times."},
        ]
    }
    for i in range(20)
]


@pytest.fixture
def run_data(tmp_path, tiny_model, monkeypatch):
    """Run the data role with 100 orders and these sources in data.mix; return the root."""

    def run(*mix: tuple[str, dict[str, object]], refused: bool = False, **data: object) -> TrainerRoot:
        sources = [{"configMap": f"mix-{i}", **fields} for i, (_, fields) in enumerate(mix)]
        root = TrainerRoot(
            tmp_path / "root",
            inputs={
                "orders/train.jsonl": jsonl(*ORDERS),
                **{f"mix-{i}/rows.jsonl": text for i, (text, _) in enumerate(mix)},
            },
            spec=orders_spec(tiny_model, {"mix": sources, "checks": NOT_COMPARED, **data}),
        ).write_for_data(tiny_model)
        monkeypatch.setenv("TUNEGATE_ROOT", str(root.path))
        assert (main(["data"]) != ExitCode.OK) is refused
        return root

    return run


def plan_of(root: TrainerRoot) -> DataPlan:
    plan = root.report(Role.DATA).plan
    assert plan is not None
    return plan.data


def test_mixed_rows_are_trained_on_by_weight_and_never_held_out(run_data):
    plan = plan_of(run_data())
    mixed_root = run_data((jsonl(*CHATS), {"weight": "2.5"}))
    mixed = plan_of(mixed_root)
    assert (mixed.dev, mixed.test) == (plan.dev, plan.test)
    assert mixed.train.rows == plan.train.rows + 50
    (source,) = mixed.mix
    assert (source.rows, source.rows_per_epoch) == (20, 50)
    assert source.source_sha256 == sha256_file(mixed_root.path / "inputs" / "mix-0" / "rows.jsonl")
    rows = read_rows(mixed_root.data / "train.jsonl")
    assert Counter(len(row.prompt) for row in rows) == {1: plan.train.rows, 2: 50}


def test_tokenized_rows_are_those_of_the_train_file(run_data, tiny_model):
    root = run_data((jsonl(*CHATS), {"weight": "0.5"}))
    rows, examples = read_rows(root.data / "train.jsonl"), ExampleFile(root.data / TRAIN_EXAMPLES)
    tokenizer = load_tokenizer(tiny_model)
    assert len(rows) == len(examples)
    assert [examples[i] for i in range(len(rows))] == [
        one for row in rows for one in examples_of(tokenizer, row)
    ]


def test_mixed_row_with_a_held_out_prompt_is_not_trained_on(run_data):
    dev = read_rows(run_data().data / "dev.jsonl")[0]
    prompt = dev.prompt[0].content
    repeated = {"prompt": prompt.upper(), "completion": "another answer"}
    root = run_data((jsonl(repeated, {"prompt": "a lamp", "completion": "lamps: 1"}), {}))
    plan = plan_of(root)
    assert (plan.mix[0].rows, plan.dropped) == (1, 1)
    assert prompt.upper() not in (root.data / "train.jsonl").read_text()


def test_mixed_rows_do_not_count_for_the_goal(run_data):
    root = run_data((jsonl(*CHATS), {"weight": "10"}), refused=True, sizePolicy="Refuse")
    failure = root.report(Role.DATA).failure
    assert failure is not None
    assert failure.message.startswith("data has 80 training rows, but data.goal StyleOrFormat needs")


def test_bad_mixed_rows_are_reported_with_their_source(run_data):
    root = run_data(("{\n" * 5, {}), refused=True)
    failure = root.report(Role.DATA).failure
    assert failure is not None
    assert failure.message.startswith("data has 5 bad rows: line 1 of data.mix[0]: the row is not JSON")


def test_missing_source_is_named(run_data):
    root = run_data((jsonl(*CHATS), {"key": "chats.jsonl"}), refused=True)
    failure = root.report(Role.DATA).failure
    assert failure is not None
    assert failure.message == "data.mix[0]: ConfigMap mix-0 has no key chats.jsonl"
