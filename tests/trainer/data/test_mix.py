"""Mixed rows: each source has its own shape and weight, and its rows are trained on, but never held out."""

import json
from collections import Counter
from fractions import Fraction
from itertools import combinations

import pytest

from support.records import records_of
from support.trainer_root import TrainerRoot, orders_spec
from support.usable_rows import measured_rows
from tunegate_api.contract.plan import DataPlan
from tunegate_api.contract.process import ExitCode, Role
from tunegate_api.contract.workspace import TRAIN_EXAMPLES
from tunegate_api.v1alpha2.data import Columns
from tunegate_trainer.data.mix import repeat_by_weight
from tunegate_trainer.data.parse import ParsedRows, parse_rows
from tunegate_trainer.main import main
from tunegate_trainer.process.files import sha256_file
from tunegate_trainer.tokens.chat import load_tokenizer
from tunegate_trainer.tokens.example_file import ExampleFile
from tunegate_trainer.tokens.examples import examples_of
from tunegate_trainer.tokens.rows import Row, read_rows

NOT_COMPARED = [{"name": "Distribution", "policy": "Off"}]
"""Data checks without a comparison with production inputs."""
ORDER = {"prompt": "two mugs", "completion": "mugs: 2"}


def parsed_mix(*rows: dict[str, object], group_by: str | None = None) -> ParsedRows[Row]:
    """Parse rows of the source chats."""
    return parse_rows(records_of(*rows), Columns(), group_by, mixed="chats")


def test_messages_and_ids_name_the_source():
    lamp = {"prompt": "a lamp", "completion": "lamps: 1"}
    parsed = parsed_mix({"prompt": "hi", "completion": ""}, lamp, {**lamp, "id": 1, "prompt": "one lamp"})
    assert [str(problem.place) for problem in parsed.bad] == ["line 1 of chats"]
    assert parsed.bad[0].entry["source"] == "chats"
    assert [row.row.id for row in parsed.rows] == ["line-2-of-chats", "1-of-chats"]


def test_mixed_rows_need_no_field_of_group_by():
    lamp = {"prompt": "a lamp", "completion": "lamps: 1"}
    grouped, alone = parsed_mix({**lamp, "customer": "a"}, {**lamp, "prompt": "hi"}, group_by="customer").rows
    train = parse_rows(records_of({**ORDER, "customer": "a"}), Columns(), "customer").rows[0]
    assert train.group == grouped.group != alone.group


def per_epoch(weight: str) -> Counter[str]:
    """How often each of 40 mixed rows is trained on."""
    mixed = [{"prompt": f"lamp {i}", "completion": f"{i}"} for i in range(40)]
    rows = measured_rows(*mixed)
    return Counter(rows[position].labelled.row.id for position in repeat_by_weight(rows, Fraction(weight)))


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
    """Run the data role with 100 orders and these sources of use Mix; return the root."""

    def run(
        *mix: tuple[str, dict[str, object]],
        refused: bool = False,
        orders: list[dict[str, object]] = ORDERS,
        stages: list[dict[str, object]] | None = None,
        **data: object,
    ) -> TrainerRoot:
        sources = [
            {"name": f"mix-{i}", "use": "Mix", "configMap": f"mix-{i}", **fields}
            for i, (_, fields) in enumerate(mix)
        ]
        root = TrainerRoot(
            tmp_path / "root",
            inputs={
                "orders/train.jsonl": jsonl(*orders),
                **{f"mix-{i}/rows.jsonl": text for i, (text, _) in enumerate(mix)},
            },
            spec=orders_spec(
                tiny_model,
                {"sources": sources, "checks": NOT_COMPARED, **data},
                **({"stages": stages} if stages else {}),
            ),
        ).write_for_data(tiny_model)
        monkeypatch.setenv("TUNEGATE_ROOT", str(root.path))
        assert (main(["data"]) != ExitCode.OK) is refused
        return root

    return run


def plan_of(root: TrainerRoot) -> DataPlan:
    plan = root.report(Role.DATA).plan
    assert plan is not None
    return plan.data


def test_mixed_rows_are_trained_by_weight_and_never_held_out(run_data):
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


def test_mixed_row_with_a_held_out_prompt_is_excluded(run_data):
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
    assert failure.message.startswith(
        "data.sources[mix-0] has 5 bad rows: line 1 of mix-0: the row is not JSON"
    )


def test_missing_source_is_named(run_data):
    root = run_data((jsonl(*CHATS), {"key": "chats.jsonl"}), refused=True)
    failure = root.report(Role.DATA).failure
    assert failure is not None
    assert failure.message == "data.sources[mix-0]: ConfigMap mix-0 has no key chats.jsonl"


def test_mix_does_not_change_which_rows_are_held_out(run_data):
    """Rows that quote several labeled rows must not join them."""
    orders = [
        {"prompt": " ".join(f"item{i}n{j}" for j in range(20)), "completion": f"{i}"} for i in range(100)
    ]
    alone = run_data(orders=orders)
    held_out = [read_rows(alone.data / f"{side}.jsonl") for side in ("dev", "test")]
    quotes = [
        {"prompt": "\n".join(order["prompt"] for order in orders[i : i + 3]), "completion": "three"}
        for i in range(0, 90, 3)
    ]
    mixed = run_data((jsonl(*quotes), {}), orders=orders)
    assert [read_rows(mixed.data / f"{side}.jsonl") for side in ("dev", "test")] == held_out
    ids = {row.prompt[0].content for side in held_out for row in side}
    trained = [row.prompt[0].content for row in read_rows(mixed.data / "train.jsonl")]
    assert 0 < plan_of(mixed).mix[0].rows < len(quotes)
    assert not [text for text in trained if any(prompt in text for prompt in ids)]


def test_rows_that_repeat_held_out_rows_are_reported(run_data):
    dev = read_rows(run_data().data / "dev.jsonl")[0]
    repeated = {"prompt": dev.prompt[0].content.upper(), "completion": "another answer"}
    root = run_data((jsonl(repeated, {"prompt": "a lamp", "completion": "lamps: 1"}), {}))
    warning = "1 row of mix-0 is not trained on, because of held-out rows with the same content"
    assert warning in plan_of(root).warnings
    (entry,) = json.loads((root.data / "report.json").read_text())["mix"]["mix-0"]["left_out"]
    assert (entry["source"], entry["line"]) == ("mix-0", 1)


def test_long_labeled_rows_are_not_diluted_by_a_mix(run_data):
    long = [{"prompt": f"order {i} " + "mug " * 600, "completion": "mugs"} for i in range(10)]
    stage = {"name": "sft", "method": "SFT", "adapter": {"type": "LoRA"}, "training": {"maxLength": 64}}
    chats = [{"prompt": f"hi {i}", "completion": f"hello {i}"} for i in range(2000)]
    root = run_data(
        (jsonl(*chats), {"weight": "0.01"}), orders=[*ORDERS, *long], refused=True, stages=[stage]
    )
    failure = root.report(Role.DATA).failure
    assert failure is not None
    assert failure.message.startswith("data.sources[train]: 10 of 110 rows")


def test_sample_has_only_rows_that_are_trained_on(run_data):
    chats = [{"prompt": f"hello number {i}", "completion": f"{i}"} for i in range(500)]
    root = run_data((jsonl(*chats), {"weight": "0.02"}), quality={"sample": "100%"})
    review = plan_of(root).review
    assert review is not None
    assert len(review.rows) == plan_of(root).train.rows == 90


def test_source_without_trained_rows_is_reported(run_data):
    root = run_data((jsonl({"prompt": "hi", "completion": "hello"}), {"weight": "0.1"}))
    assert "no row of mix-0 is trained on: check its address and weight" in plan_of(root).warnings
    assert run_data(("", {}), refused=True).report(Role.DATA).failure is not None
