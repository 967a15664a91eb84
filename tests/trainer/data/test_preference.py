"""Preference data: parsing pairs, reporting bad ones, and splitting them so that no held-out prompt is
trained on."""

import json
import os
import shutil
from dataclasses import dataclass
from fractions import Fraction

import pytest
from hypothesis import given
from hypothesis import strategies as st

from support.records import records_of
from support.trainer_root import TrainerRoot
from tunegate_api.contract.plan import Plan
from tunegate_api.contract.process import ExitCode, Role
from tunegate_api.contract.workspace import PAIRS_PREFIX
from tunegate_api.v1alpha2.data import Columns
from tunegate_trainer.data.held_out import check_disjoint
from tunegate_trainer.data.parse import parse_pairs, prompt_text
from tunegate_trainer.data.split import SIDES, group_of, normalize, split_rows
from tunegate_trainer.main import main
from tunegate_trainer.tokens.rows import read_pairs, read_rows

PAIR = {"prompt": "two mugs", "chosen": "mugs: 2", "rejected": "Sure! Two mugs."}
NOT_COMPARED = [{"name": "Distribution", "policy": "Off"}]
"""Data checks without a comparison with production inputs."""


def lines(*rows: object) -> str:
    return "".join(row + "\n" if isinstance(row, str) else json.dumps(row) + "\n" for row in rows)


def turn(role: str, content: str = "text") -> dict[str, str]:
    return {"role": role, "content": content}


# Rows


def test_pair_has_a_prompt_and_two_answers():
    (found,) = parse_pairs(records_of(PAIR), Columns(), None).rows
    assert [(m.role, m.content) for m in found.row.prompt] == [("user", "two mugs")]
    assert (found.row.chosen, found.row.rejected) == ("mugs: 2", "Sure! Two mugs.")
    assert (found.row.id, found.place.number) == ("line-1", 1)


def test_prompt_and_answers_may_be_turns_of_a_chat():
    row = {
        "prompt": [turn("system", "be brief"), turn("user", "two mugs")],
        "chosen": [turn("assistant", "mugs: 2")],
        "rejected": [turn("assistant", "Sure!")],
    }
    (found,) = parse_pairs(records_of(row), Columns(), None).rows
    assert [m.role for m in found.row.prompt] == ["system", "user"]
    assert (found.row.chosen, found.row.rejected) == ("mugs: 2", "Sure!")


def test_columns_map_the_fields_of_pairs():
    columns = Columns(prompt="q", chosen="better", rejected="worse", id="n")
    (found,) = parse_pairs(records_of({"q": "a", "better": "b", "worse": "c", "n": 7}), columns, None).rows
    assert (found.row.chosen, found.row.rejected, found.row.id) == ("b", "c", "7")


def test_pair_with_another_rejected_answer_is_not_a_duplicate():
    parsed = parse_pairs(records_of(PAIR, PAIR, PAIR | {"rejected": "No."}), Columns(), None)
    assert [found.place.number for found in parsed.rows] == [1, 3]
    assert [problem.reason for problem in parsed.duplicates] == ["repeats line 1"]


@pytest.mark.parametrize(
    ("row", "reason"),
    [
        ({"prompt": "a", "chosen": "b"}, "rejected is missing; the fields here are: chosen, prompt"),
        (
            PAIR | {"rejected": " mugs:  2\n"},
            "chosen and rejected are the same text, so the pair expresses no preference",
        ),
        (PAIR | {"chosen": ""}, "chosen is empty"),
        (PAIR | {"prompt": [turn("user"), turn("assistant")]}, "prompt must end with a user turn"),
        (PAIR | {"prompt": []}, "prompt must be a list of {role, content}"),
        (PAIR | {"chosen": [turn("user")]}, "chosen must be a single assistant turn"),
        (PAIR | {"chosen": [turn("assistant"), turn("user")]}, "chosen must be a single assistant turn"),
        (PAIR | {"rejected": []}, "rejected must be a single assistant turn"),
        ("{", "not JSON"),
    ],
)
def test_bad_preference_pair_is_reported_with_its_line(row, reason):
    parsed = parse_pairs(records_of(PAIR, row), Columns(), None)
    assert [(problem.place.number, reason in problem.reason) for problem in parsed.bad] == [(2, True)]


# The split


@dataclass(frozen=True)
class Item:
    name: int
    group: str


items = st.lists(st.integers(0, 40), min_size=1, max_size=120).map(
    lambda groups: [Item(i, group_of(f"prompt-{g}")) for i, g in enumerate(groups)]
)
places = st.dictionaries(st.integers(0, 40).map(lambda g: group_of(f"prompt-{g}")), st.sampled_from(SIDES))
fractions = st.fractions(min_value=Fraction(1, 20), max_value=Fraction(1, 2))


@given(items, places, fractions)
def test_pairs_get_the_split_already_assigned_to_their_group(pairs, held, fraction):
    split = split_rows(pairs, fraction, held)
    assert sorted(pair.name for side in SIDES for pair in split.side(side)) == [p.name for p in pairs]
    where = {pair.group: side for side in SIDES for pair in split.side(side)}
    for side in SIDES:
        assert all(where[pair.group] == side for pair in split.side(side))
        assert all(held.get(pair.group, side) == side for pair in split.side(side))


def test_pairs_already_held_out_count_toward_the_held_out_fraction():
    pairs = [Item(i, group_of(f"prompt-{i}")) for i in range(100)]
    held = {group_of(f"prompt-{i}"): "dev" for i in range(20)}
    assert {pair.group for pair in split_rows(pairs, Fraction(1, 5), held).dev} == held.keys(), (
        "twice its share"
    )
    few = split_rows(pairs[:10], Fraction(1, 5), {group_of(f"prompt-{i}"): "train" for i in range(10)})
    assert (few.dev, few.test) == ([], [])


# The role


@pytest.fixture
def make_job(tmp_path, tiny_model, monkeypatch):
    """Make a root for the data role, with forty rows, and with the pairs in ``text``."""

    plain = lines(*({"prompt": f"order {i} mugs", "completion": f"mugs: {i}"} for i in range(40)))

    def make(
        text: str,
        rows: str = plain,
        fraction: str = "20%",
        group_by: str | None = None,
        checks: list[dict[str, str]] | None = None,
        **spec: object,
    ) -> TrainerRoot:
        shutil.rmtree(tmp_path / "root", ignore_errors=True)
        root = TrainerRoot(
            tmp_path / "root",
            inputs={"orders/train.jsonl": rows, "orders/pairs.jsonl": text},
            spec={
                "model": {"uri": f"file://{tiny_model}"},
                "data": {
                    "goal": "StyleOrFormat",
                    "sources": [
                        {"name": "train", "configMap": "orders", "key": "train.jsonl"},
                        {
                            "name": "preference",
                            "use": "Preference",
                            "configMap": "orders",
                            "key": "pairs.jsonl",
                        },
                    ],
                    "sizePolicy": "Warn",
                    "checks": checks or [],
                    "heldOut": {"fraction": fraction} | ({"groupBy": group_by} if group_by else {}),
                },
                "stages": [
                    {"name": "sft", "method": "SFT", "adapter": {"type": "LoRA", "r": 4, "dropout": "0.05"}},
                    {"name": "dpo", "method": "DPO", "adapter": {"from": "Previous"}},
                ],
                **spec,
            },
        ).write_for_data(tiny_model)
        monkeypatch.setenv("TUNEGATE_ROOT", str(root.path))
        return root

    return make


def test_place_of_a_pair_names_its_source_unlike_its_id() -> None:
    numbered, other = parse_pairs(
        records_of(PAIR, {**PAIR, "prompt": "b", "id": 7}), Columns(), None, source="ranked"
    ).rows
    assert [str(numbered.place), str(other.place)] == ["line 1 of ranked", "line 2 of ranked"]
    assert [numbered.row.id, other.row.id] == ["line-1", "7"]


def pairs(count: int, first: int = 0) -> str:
    return lines(
        *(
            {"prompt": f"order {i} mugs", "chosen": f"mugs: {i}", "rejected": f"Sure, order {i}!"}
            for i in range(first, first + count)
        )
    )


def run(root: TrainerRoot) -> int:
    assert os.environ["TUNEGATE_ROOT"] == str(root.path)
    return main(["data"])


def plan_of(root: TrainerRoot) -> Plan:
    plan = root.report(Role.DATA).plan
    assert plan is not None
    return plan


def failure(root: TrainerRoot) -> str:
    found = root.report(Role.DATA).failure
    assert found is not None
    return f"{found.message} | {found.hint}"


@pytest.mark.parametrize(
    ("accelerator", "dropout", "shared"),
    [("CPU", "0", True), ("CPU", "0.1", False), ("GPU", "0", False)],
    ids=["CPU", "dropout", "GPU"],
)
def test_plan_counts_pair_prompt_once_on_cpu_without_dropout(make_job, accelerator, dropout, shared):
    long = [{"prompt": "order mugs " * n, "chosen": "mugs", "rejected": "no mugs"} for n in range(10, 50)]
    dpo = {"name": "dpo", "method": "DPO", "adapter": {"type": "LoRA", "dropout": dropout}}
    root = make_job(lines(*long), stages=[dpo], resources={"accelerator": accelerator})
    assert run(root) == ExitCode.OK
    largest = plan_of(root).stages[0].largest_pass
    assert largest.longest > 80
    assert (largest.tokens < 0.6 * largest.examples * largest.longest) is shared
    assert (largest.keys > largest.tokens) is shared


def test_plan_counts_pairs_and_trains_on_no_held_out_prompts(make_job):
    root = make_job(pairs(60))
    assert run(root) == ExitCode.OK
    plan = plan_of(root)
    found = plan.data.preference
    assert found is not None
    assert (found.train.rows, found.dev.rows, found.test.rows) == (49, 8, 3)
    held_rows = {
        normalize(prompt_text(row.prompt))
        for side in ("dev", "test")
        for row in read_rows(root.data / f"{side}.jsonl")
    }
    trained = {normalize(prompt_text(p.prompt)) for p in read_pairs(root.data / f"{PAIRS_PREFIX}train.jsonl")}
    assert held_rows
    assert not trained & held_rows
    report = json.loads((root.data / "report.json").read_text())
    assert report["rows"] == 40
    assert report["preference"]["rows"] == 60
    assert report["preference"]["split"] == {"train": 49, "dev": 8, "test": 3}

    sft, dpo = plan.stages
    assert (sft.starts_from, dpo.starts_from) == (None, "Adapter")
    assert (dpo.parameters.lora_r, dpo.parameters.lora_alpha, dpo.parameters.lora_dropout) == (4, 8, 0.0)
    assert sft.parameters.lora_dropout == 0.05
    assert (dpo.parameters.beta, dpo.parameters.loss, dpo.parameters.learning_rate) == (0.1, "sigmoid", 5e-6)
    assert dpo.total_steps == 4, "49 pairs once, in batches of 16"


def test_second_data_run_keeps_pair_files_and_rewrites_damaged_ones(make_job):
    root = make_job(pairs(60))
    assert run(root) == ExitCode.OK
    path = root.data / f"{PAIRS_PREFIX}train.jsonl"
    before, inode = path.read_bytes(), path.stat().st_ino
    assert run(root) == ExitCode.OK
    assert path.stat().st_ino == inode
    path.write_bytes(before[:-10])
    assert run(root) == ExitCode.OK
    assert path.read_bytes() == before


def test_bad_pairs_are_in_the_message_and_the_report(make_job):
    root = make_job(pairs(3) + lines({"prompt": "a", "chosen": "b"}))
    assert run(root) == ExitCode.BAD_DATA
    assert "data.sources[preference] has 1 bad row: line 4 of preference: rejected is missing" in failure(
        root
    )
    report = json.loads((root.data / "report.json").read_text())
    assert report["preference"]["bad"][0]["line"] == 4


@pytest.mark.parametrize(
    ("checks", "result", "exit_code"),
    [
        ({}, "Warned", ExitCode.OK),
        ({"policy": "Enforce"}, "Refused", ExitCode.BAD_DATA),
        ({"policy": "Enforce", "max": "20%"}, "Passed", ExitCode.OK),
        ({"policy": "Off"}, "Off", ExitCode.OK),
    ],
)
def test_policy_of_pairs_decides_what_near_equal_answers_lead_to(make_job, checks, result, exit_code):
    pairs = [
        {"prompt": f"pair {i}", "chosen": f"mugs: {i}", "rejected": f"Mugs: {i}." if i < 2 else f"cups: {i}"}
        for i in range(10)
    ]
    root = make_job(lines(*pairs), checks=[{"name": "Pairs", **checks}])
    assert run(root) == exit_code
    results = {one.name: one.result for one in root.report(Role.DATA).data_checks}
    assert results["near_equal_pairs"] == result
    if result == "Warned":
        assert any("2 of 10 pairs have a chosen answer" in warning for warning in plan_of(root).data.warnings)
    if result == "Refused":
        assert "line 1 of preference: they differ only in case" in failure(root)


def test_pair_is_too_long_if_its_longer_answer_is(make_job):
    long = {"prompt": "a", "chosen": "b", "rejected": "very " * 200}
    root = make_job(
        pairs(120) + lines(long),
        stages=[
            {"name": "dpo", "method": "DPO", "adapter": {"type": "LoRA"}, "training": {"maxLength": 128}}
        ],
    )
    assert run(root) == ExitCode.OK
    assert plan_of(root).data.dropped == 1
    report = json.loads((root.data / "report.json").read_text())
    assert report["preference"]["dropped"][0]["line"] == 121
    assert "tokens, but at most 128" in report["preference"]["dropped"][0]["reason"]


def test_data_whose_pairs_are_all_held_out_are_refused(make_job):
    prompts = held_out_prompts(make_job(pairs(60)))
    held = [i for i in range(40) if f"order {i} mugs" in prompts]
    root = make_job("".join(pairs(1, first=i) for i in held))
    assert run(root) == ExitCode.BAD_DATA
    assert f"all {len(held)} pairs are held out, so no pair is left to train on" in failure(root)


def held_out_prompts(root: TrainerRoot) -> set[str]:
    assert run(root) == ExitCode.OK
    return {
        row.prompt[0].content for side in ("dev", "test") for row in read_rows(root.data / f"{side}.jsonl")
    }


def test_metric_on_pairs_needs_pairs_in_dev_and_test(make_job):
    metrics = [{"name": "preference_accuracy", "type": "PreferenceAccuracy", "min": "50%"}]
    root = make_job(pairs(4, first=100), taskMetrics=metrics)
    assert run(root) == ExitCode.BAD_DATA
    assert "0 of 4 pairs are held out as dev and 0 as test" in failure(root)


def test_text_in_two_splits_raises_an_error():
    with pytest.raises(AssertionError, match=r"not disjoint: \[\"'a' \(dev, train\)\"\]"):
        check_disjoint({"train": ["a", "b"], "dev": ["a"]})


def test_pairs_get_the_split_of_rows_with_the_same_group(make_job):
    def customer(i: int) -> str:
        return f"customer-{i % 10}"

    rows = lines(
        *(
            {"prompt": f"order {i} mugs", "completion": f"mugs: {i}", "customer": customer(i)}
            for i in range(40)
        )
    )
    grouped = lines(
        *({"prompt": f"pair {i}", "chosen": "a", "rejected": "b", "customer": customer(i)} for i in range(60))
    )
    root = make_job(grouped, rows=rows, group_by="customer")
    assert run(root) == ExitCode.OK
    of_rows = {
        customer(int(row.prompt[0].content.split()[1])): side
        for side in SIDES
        for row in read_rows(root.data / f"{side}.jsonl")
    }
    assert set(of_rows.values()) == set(SIDES)
    for side in SIDES:
        for pair in read_pairs(root.data / f"{PAIRS_PREFIX}{side}.jsonl"):
            assert of_rows[customer(int(pair.prompt[0].content.split()[1]))] == side


def test_pair_without_the_group_field_is_bad(make_job):
    root = make_job(pairs(3), group_by="customer")
    assert run(root) == ExitCode.BAD_DATA
    assert "the field customer, which heldOut.groupBy names, is missing or empty" in failure(root)


def test_job_with_only_dpo_stages_needs_enough_pairs(make_job):
    stages = [{"name": "dpo", "method": "DPO", "adapter": {"type": "LoRA"}}]
    root = make_job(pairs(60), stages=stages, checks=NOT_COMPARED)
    assert run(root) == ExitCode.OK
    assert (
        plan_of(root).data.warnings[0]
        == "data has 49 training pairs, but data.goal StyleOrFormat needs at least 200"
    )


@pytest.mark.slow
def test_held_out_rows_or_pairs_above_the_limit_give_warnings(make_job):
    rows = lines(*({"prompt": f"row {i}", "completion": f"{i} mugs"} for i in range(4100)))
    stages = [{"name": "dpo", "method": "DPO", "adapter": {"type": "LoRA"}}]
    root = make_job(pairs(4200), rows=rows, fraction="50%", stages=stages, checks=NOT_COMPARED)
    assert run(root) == ExitCode.OK
    assert plan_of(root).data.warnings[:2] == [
        "heldOut.fraction 50% of 4100 rows is 2050 rows, but dev and test can have at most 1000 rows each; "
        "no stage trains on the other rows",
        "heldOut.fraction 50% of 4200 pairs is 2100 pairs, but dev and test can have at most 1000 pairs "
        "each, without pairs in the groups of held-out rows; the other pairs are trained on",
    ]


def test_merged_form_is_refused_if_last_stage_trains_all_weights(make_job):
    root = make_job(pairs(60), stages=[{"name": "dpo", "method": "DPO"}], artifact={"form": "Merged"})
    assert run(root) == ExitCode.USER_ERROR
    assert "artifact.form: the last stage trains all weights" in failure(root)


def test_adapter_from_previous_is_refused_after_a_stage_without_adapter(make_job):
    stages = [
        {"name": "sft", "method": "SFT"},
        {"name": "dpo", "method": "DPO", "adapter": {"from": "Previous"}},
    ]
    root = make_job(pairs(60), stages=stages)
    assert run(root) == ExitCode.USER_ERROR
    assert "stage dpo: adapter.from: Previous trains the previous stage's adapter" in failure(root)


@pytest.mark.parametrize("again", [None, "NF4"])
def test_continued_adapter_keeps_the_quantization_of_its_first_stage(make_job, again):
    stages = [
        {"name": "sft", "method": "SFT", "adapter": {"type": "LoRA"}, "quantization": "NF4"},
        {"name": "dpo", "method": "DPO", "adapter": {"from": "Previous"}, "quantization": again},
    ]
    root = make_job(pairs(60), stages=stages)
    assert run(root) == ExitCode.OK
    assert [stage.parameters.quantization for stage in plan_of(root).stages] == ["NF4", "NF4"]


def test_quantization_is_refused_for_an_adapter_trained_without_it(make_job):
    stages = [
        {"name": "sft", "method": "SFT", "adapter": {"type": "LoRA"}},
        {"name": "dpo", "method": "DPO", "adapter": {"from": "Previous"}, "quantization": "NF4"},
    ]
    root = make_job(pairs(60), stages=stages)
    assert run(root) == ExitCode.USER_ERROR
    assert "stage dpo: quantization is NF4, but the stage continues the adapter" in failure(root)
