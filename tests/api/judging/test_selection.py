"""Which golden rates are optimistic, because they selected the model."""

import pytest

from support.builders import make_gate, make_job
from tunegate_api.contract import GateRequest, Request
from tunegate_api.judging.selection import selecting_gates, selection_text
from tunegate_api.v1alpha1 import EvalGateSpec
from tunegate_api.v1alpha1.finetunejob import FineTuneJobSpec


def request(final: list[str], of_stage: list[str], dry_run: tuple[str, ...] = ()) -> Request:
    spec = make_job().with_gates(*final).spec
    if of_stage:
        spec["stages"][-1]["gates"] = [{"name": name} for name in of_stage]
    gates = [
        GateRequest(
            name=name,
            spec=EvalGateSpec.model_validate(make_gate(name).spec | {"dryRun": name in dry_run}),
            golden_sha256="a" * 64,
        )
        for name in sorted({*final, *of_stage})
    ]
    return Request(
        name="orders", namespace="default", uid="u", spec=FineTuneJobSpec.model_validate(spec), gates=gates
    )


@pytest.mark.parametrize(
    ("final", "of_stage", "dry_run", "found"),
    [
        (["golden", "safety"], [], (), ["golden", "safety"]),
        (["golden", "safety"], ["golden"], (), ["golden"]),
        (["golden"], ["form"], (), []),
        (["golden", "safety"], [], ("safety",), ["golden"]),
    ],
)
def test_only_final_gates_of_the_last_stage_select_its_checkpoint(final, of_stage, dry_run, found):
    assert selecting_gates(request(final, of_stage, dry_run)) == found


def test_text_is_empty_if_nothing_was_selected():
    assert selection_text(1, ["golden"]) == ""
    assert selection_text(5, []) == ""


def test_text_names_checkpoints_and_gates():
    expected = "best of 5 checkpoints by golden, so its golden rate is optimistic"
    assert selection_text(5, ["golden"]) == expected
    assert "by golden and safety, so these golden rates are optimistic" in selection_text(
        2, ["golden", "safety"]
    )
