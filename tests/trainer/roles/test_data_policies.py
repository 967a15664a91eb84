"""The policies and limits of data checks in the data role: BadRows, and max of Distribution."""

import json
from collections.abc import Mapping
from typing import Any

import pytest

from support.trainer_root import TrainerRoot, orders_spec
from tunegate_api.contract.process import ExitCode, Role
from tunegate_trainer.main import main

BROKEN = '{"prompt": \n'
NO_ANSWER = json.dumps({"prompt": "order a lamp"}) + "\n"


def rows(count: int) -> str:
    lines = ({"prompt": f"order {i} mugs", "completion": f"mugs: {i}"} for i in range(count))
    return "".join(json.dumps(line) + "\n" for line in lines)


def pairs(count: int) -> str:
    lines = ({"prompt": f"pair {i}", "chosen": f"mugs: {i}", "rejected": "lamps"} for i in range(count))
    return "".join(json.dumps(line) + "\n" for line in lines)


@pytest.fixture
def make_job(tmp_path, tiny_model, monkeypatch):
    """A root before its data role has run, with these settings of checks and files with rows, pairs and
    production inputs."""

    def make(
        checks: Mapping[str, Mapping[str, str]],
        train: str,
        *,
        preference: str = "",
        production: str = "",
        max_length: int | None = None,
        max_too_long: str = "1%",
    ) -> TrainerRoot:
        files = {"preference": preference, "production": production}
        sources = [
            {"name": name, "use": name.capitalize(), "configMap": name}
            for name, text in files.items()
            if text
        ]
        listed = [{"name": name, **given} for name, given in checks.items()]
        training = {"maxLength": max_length} if max_length else {}
        sft = {"name": "sft", "method": "SFT", "adapter": {"type": "LoRA"}, "training": training}
        dpo = {"name": "dpo", "method": "DPO", "adapter": {"from": "Previous"}}
        root = TrainerRoot(
            tmp_path / "root",
            inputs={
                "orders/train.jsonl": train,
                **{f"{name}/rows.jsonl": text for name, text in files.items() if text},
            },
            spec=orders_spec(
                tiny_model,
                {"maxTooLong": max_too_long, "checks": listed, "sources": sources},
                stages=[sft, dpo] if preference else [sft],
            ),
        ).write_for_data(tiny_model)
        monkeypatch.setenv("TUNEGATE_ROOT", str(root.path))
        return root

    return make


def failure(root: TrainerRoot) -> Any:
    found = root.report(Role.DATA).failure
    assert found is not None
    return found


def result(root: TrainerRoot, name: str) -> tuple[str, int | None, str | None]:
    (found,) = [one for one in root.report(Role.DATA).data_checks if one.name == name]
    return found.result, found.count, found.share


@pytest.mark.parametrize(
    ("settings", "code", "outcome"),
    [
        ({}, ExitCode.BAD_DATA, "Refused"),
        ({"max": "1.9%"}, ExitCode.BAD_DATA, "Refused"),
        ({"max": "2%"}, ExitCode.OK, "Passed"),
        ({"policy": "Warn"}, ExitCode.OK, "Warned"),
    ],
)
def test_bad_rows_are_refused_dropped_or_warned_about(make_job, settings, code, outcome):
    root = make_job({"BadRows": settings}, rows(98) + BROKEN + NO_ANSWER)
    assert main(["data"]) == code
    assert result(root, "bad_rows") == (outcome, 2, "0.02")
    if code is ExitCode.OK:
        data = root.report(Role.DATA).plan.data
        assert (data.dropped, data.train.rows + data.dev.rows + data.test.rows) == (2, 98)
        warned = [
            text for text in data.warnings if text.startswith("data.sources[train] has 2 bad rows: line 99: ")
        ]
        assert len(warned) == (outcome == "Warned")


def test_disabled_check_drops_bad_rows_without_a_result(make_job):
    root = make_job({"BadRows": {"policy": "Off"}}, rows(98) + BROKEN + NO_ANSWER)
    assert main(["data"]) == ExitCode.OK
    assert result(root, "bad_rows") == ("Off", None, None)
    assert root.report(Role.DATA).plan.data.dropped == 2


@pytest.mark.parametrize("settings", [{"policy": "Warn"}, {"policy": "Off"}, {"max": "100%"}])
def test_source_without_remaining_rows_is_refused_under_any_policy(make_job, settings):
    root = make_job({"BadRows": settings}, BROKEN + NO_ANSWER)
    assert main(["data"]) == ExitCode.BAD_DATA
    start = "data.sources[train]: no row is left to train on: line 1: the row is not JSON"
    assert failure(root).message.startswith(start)
    assert "line 2: completion is missing" in failure(root).message
    assert failure(root).hint == (
        "correct these rows, or check that uri or key names the right file; data/report.json on the volume "
        "lists all of them"
    )


def test_pairs_of_which_none_is_left_are_refused(make_job):
    root = make_job({"BadRows": {"policy": "Warn"}}, rows(98), preference=NO_ANSWER)
    assert main(["data"]) == ExitCode.BAD_DATA
    assert failure(root).message.startswith(
        "data.sources[preference]: no row is left to train on: line 1 of preference: "
    )


def test_source_of_which_all_rows_are_too_long_is_refused(make_job):
    root = make_job({}, rows(20), max_length=8, max_too_long="100%")
    assert main(["data"]) == ExitCode.BAD_DATA
    message = "data.sources[train]: no row is left to train on: line 1: the row has "
    assert failure(root).message.startswith(message)
    assert "; and 10 more" in failure(root).message


def test_rows_are_not_tokenized_if_too_many_are_bad(make_job):
    root = make_job({}, rows(98) + BROKEN, max_length=8)
    assert main(["data"]) == ExitCode.BAD_DATA
    assert failure(root).message.startswith("data.sources[train] has 1 bad row: line 99: ")
    assert [one.name for one in root.report(Role.DATA).data_checks] == ["schemas", "bad_rows"]


@pytest.mark.parametrize(
    ("settings", "code", "outcome"),
    [
        ({}, ExitCode.BAD_DATA, "Refused"),
        ({"max": "99%"}, ExitCode.BAD_DATA, "Refused"),
        ({"max": "100%"}, ExitCode.OK, "Warned"),
        ({"policy": "Warn"}, ExitCode.OK, "Warned"),
    ],
)
def test_max_decides_whether_unlike_production_inputs_are_refused(make_job, settings, code, outcome):
    production = "".join(json.dumps(f"where is my refund of {i} euros?") + "\n" for i in range(120))
    root = make_job({"Distribution": settings}, rows(120), production=production)
    assert main(["data"]) == code
    assert result(root, "distribution_shift")[0] == outcome
    if code is ExitCode.OK:
        assert float(root.report(Role.DATA).plan.data.production.distribution_auc) > 0.99
