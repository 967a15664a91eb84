"""Jobs and gates that are written in Python become the manifests that a user would write."""

from pathlib import Path

import pytest
import yaml

import tunegate as tg
from support.typed_orders import cases, gate, job, rows
from tunegate_api.validation.problems import find_problems


def test_yaml_has_only_the_fields_that_were_set() -> None:
    (written,) = yaml.safe_load_all(tg.to_yaml(gate()))
    assert written == {
        "apiVersion": "tunegate.dev/v1alpha2",
        "kind": "EvalGate",
        "metadata": {"name": "golden"},
        "spec": {
            "sets": [
                {
                    "name": "golden",
                    "source": {"configMap": "cases"},
                    "sha256": tg.sha256(cases()["data"]["golden.jsonl"]),
                    "rules": [{"name": "all", "minPassRate": "80%"}],
                }
            ],
            "generation": {"maxNewTokens": 6},
        },
    }


def test_yaml_of_several_resources_is_valid() -> None:
    documents = list(yaml.safe_load_all(tg.to_yaml(job(Path("/models/tiny")), gate(), cases(), rows())))
    assert [document["kind"] for document in documents] == [
        "FineTuneJob",
        "EvalGate",
        "ConfigMap",
        "ConfigMap",
    ]
    assert [find_problems(document) for document in documents[:2]] == [[], []]


def test_rows_of_a_config_map_are_json_lines() -> None:
    found = tg.config_map("rows", {"train.jsonl": [{"prompt": "café"}, {"prompt": "b"}], "note.txt": "text"})
    assert found["data"] == {"train.jsonl": '{"prompt": "café"}\n{"prompt": "b"}\n', "note.txt": "text"}


@pytest.mark.parametrize("value", [float("nan"), object()])
def test_value_that_json_lacks_is_reported_with_its_row(value: object) -> None:
    with pytest.raises(tg.InvalidError, match=r"train\.jsonl: row 2 cannot be written as JSON"):
        tg.config_map("rows", {"train.jsonl": [{"prompt": "a"}, {"prompt": value}]})


def test_mistakes_are_reported_together_with_their_fields() -> None:
    wrong = gate()
    wrong.spec.sets[0] = wrong.spec.sets[0].model_copy(update={"sealed": "0%"})
    with pytest.raises(tg.InvalidError) as raised:
        tg.to_yaml(wrong, {"kind": "EvalGate", "metadata": {"name": "other"}, "spec": {}})
    assert raised.value.problems[0] == (
        'EvalGate golden: spec.sets[0].sealed: is "0%": must be more than 0% and less than 100%'
    )
    assert any(problem.startswith("EvalGate other: spec.sets") for problem in raised.value.problems)


def test_number_instead_of_a_percentage_is_explained() -> None:
    with pytest.raises(ValueError, match='must be a percentage: write "80%"'):
        tg.TaskMetric(name="exact_match", type="ExactMatch", min=0.8)


def test_unknown_field_is_refused() -> None:
    with pytest.raises(ValueError, match="epoch"):
        tg.Training(epoch=3)
