"""A job, its gate and its rows, as a user of the Python package writes them."""

from pathlib import Path

import tunegate as tg

ROWS = [
    {"prompt": f"order {2918 + i}: {'mug ' * (1 + i % 6)}".strip(), "completion": "yes"} for i in range(64)
]
CASES = [
    {"id": f"case-{i}", "prompt": f"golden order {i}", "expect": [{"type": "equals", "value": "yes"}]}
    for i in range(20)
]


def rows() -> dict[str, object]:
    return tg.config_map("rows", {"train.jsonl": ROWS})


def cases() -> dict[str, dict[str, str]]:
    return tg.config_map("cases", {"golden.jsonl": CASES})


def gate() -> tg.EvalGate:
    golden = tg.GateSet(
        name="golden",
        source=tg.CaseSource(config_map="cases"),
        sha256=tg.sha256(cases()["data"]["golden.jsonl"]),
        rules=[tg.SetRule(name="all", min_pass_rate="80%")],
    )
    return tg.EvalGate(
        metadata=tg.ObjectMeta(name="golden"),
        spec=tg.EvalGateSpec(
            sets=[golden],
            generation=tg.Generation(max_new_tokens=6),
        ),
    )


def job(model: Path, *, steps: int = 15) -> tg.FineTuneJob:
    return tg.FineTuneJob(
        metadata=tg.ObjectMeta(name="orders"),
        spec=tg.FineTuneJobSpec(
            model=tg.ModelSource(uri=f"file://{model}"),
            data=tg.Data(
                goal="StyleOrFormat",
                size_policy="Warn",
                sources=[tg.DataSource(name="rows", config_map="rows")],
                held_out=tg.HeldOut(fraction="25%"),
            ),
            task_metrics=[tg.TaskMetric(name="exact_match", type="ExactMatch", min="80%")],
            stages=[
                tg.Stage(
                    name="sft",
                    method="SFT",
                    adapter=tg.Adapter(type="LoRA", r=8),
                    training=tg.Training(
                        max_steps=steps, learning_rate="0.01", batch_size=4, max_length=128, seed=1
                    ),
                )
            ],
            gates=[tg.GateReference(name="golden")],
            evaluation=tg.EvaluationSettings(every="50%"),
            resources=tg.Resources(accelerator="CPU"),
            storage=tg.Storage(persistent_volume_claim="tuning"),
            publish=[tg.PublishTarget(uri="pvc://models/orders")],
        ),
    )
