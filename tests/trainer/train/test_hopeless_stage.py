"""A stage in which no checkpoint can pass is not trained."""

from typing import Any

import pytest

from support.trainer_root import STAGE, gate_spec, golden_cases
from tunegate_api.contract.process import ROOT_VARIABLE, ExitCode, Outcome
from tunegate_trainer.evaluate import evaluate
from tunegate_trainer.graders import Output
from tunegate_trainer.main import main

NON_INFERIOR = {"test": "NonInferior"}


@pytest.mark.parametrize(
    ("text", "limits", "steps"),
    [
        ("yes", NON_INFERIOR, [0]),
        ("y", NON_INFERIOR, [0]),
        ("no", NON_INFERIOR, [0, 3, 6]),
        ("y", {}, [0, 3, 6]),
    ],
    ids=["passes-all", "all-truncated", "room", "points"],
)
def test_stage_ends_after_starting_model_if_no_checkpoint_passes(
    make_root, monkeypatch, text: str, limits: dict[str, Any], steps: list[int]
):
    root = make_root(gates={"orders": gate_spec(golden_cases(20), limits={**limits})})
    answer = Output(text, truncated=text == "y")
    # The outcomes of a real model cannot be chosen.
    monkeypatch.setattr(
        evaluate, "generate", lambda _model, _tokenizer, prompts, *_, **__: [answer] * len(prompts)
    )
    monkeypatch.setenv(ROOT_VARIABLE, str(root.path))
    for _ in range(2):  # a restarted pod decides the same
        assert main(["train", "--stage", STAGE]) == ExitCode.OK
        assert root.report().outcome is Outcome.COMPLETED
        assert root.evaluated_steps() == steps
    assert len(root.losses()) == steps[-1]
