"""All parameters of a job are sent to trackers, whatever their length."""

from support.trainer_root import dpo_plan, gate_spec, stage_plan
from tunegate_api.v1alpha2.evalgate import EvalGateSpec
from tunegate_trainer.tracking.mlflow_tracker import VALUE_LENGTH, parameter_texts
from tunegate_trainer.tracking.runs import GATE_SETTINGS, job_parameters, stage_parameters


def test_stages_tracker_run_has_every_plan_parameter():
    plan = stage_plan("sft", target_modules=["q_proj", "v_proj"])
    parameters = stage_parameters(plan)
    planned = plan.parameters.model_dump(exclude_none=True)
    assert planned.items() <= parameters.items()
    assert {"lora_r", "lora_alpha", "learning_rate", "target_modules", "seed"} <= parameters.keys()
    assert parameters["checkpoint_steps"] == [3, 6]
    assert dict(parameter_texts(parameters))["target_modules"] == "q_proj, v_proj"


def test_long_parameter_value_is_continued_in_another_parameter():
    modules = [f"model.layers.{i}.self_attn.q_proj" for i in range(200)]
    parameters = dict(parameter_texts({"target_modules": modules}))
    assert len(parameters) > 10
    assert all(len(text) <= VALUE_LENGTH for text in parameters.values())
    names = ["target_modules", *(f"target_modules.{i}" for i in range(2, len(parameters) + 1))]
    assert " ".join(parameters[name] for name in names).split(", ") == modules


def test_tracker_run_has_digests_and_the_parameters_of_every_stage(make_root):
    from mlflow.utils.validation import MAX_ENTITY_KEY_LENGTH  # takes a second to import

    root = make_root(later=[dpo_plan()])
    context = root.context()
    plan, (gate,) = context.plan, context.request.gates
    parameters = dict(parameter_texts(job_parameters(context.request, plan)))
    assert parameters["model.digest"] == plan.model.digest
    assert parameters["data.train.sha256"] == plan.data.train.sha256
    assert parameters["data.preference.dev.sha256"] == plan.data.preference.dev.sha256
    assert parameters["gate.orders.golden_sha256"] == gate.golden_sha256
    assert parameters["sft.lora_r"] == "8"
    assert parameters["dpo.beta"] == "0.1"
    assert len(parameters["plan_sha256"]) == 64
    assert max(map(len, parameters)) <= MAX_ENTITY_KEY_LENGTH


def test_trackers_get_the_enforcement_of_each_gate(make_root):
    context = make_root(gates={"orders": gate_spec(), "tried": gate_spec(enforcement="DryRun")}).context()
    parameters = job_parameters(context.request, context.plan)
    assert parameters["gate.orders.enforcement"] == "Enforce"
    assert parameters["gate.tried.enforcement"] == "DryRun"


def test_every_gate_setting_of_trackers_is_a_field():
    assert EvalGateSpec.model_fields.keys() >= GATE_SETTINGS


def test_trackers_do_not_get_inline_safety_cases(make_root):
    case = {"id": "a", "kind": "Unsafe", "category": "house", "prompt": "the secret request"}
    safety = {"source": {"inline": [case]}, "rules": [{"name": "unsafe", "failAtDrop": 2}]}
    root = make_root(gates={"safe": gate_spec(safety=safety)})
    context = root.context()
    parameters = job_parameters(context.request, context.plan)
    assert parameters["gate.safe.safety_sha256"] == context.request.gates[0].safety_sha256
    assert parameters["gate.safe.sets.safety.rules.unsafe.fail_at_drop"] == 2
    assert "the secret request" not in str(parameters)


def test_trackers_do_not_get_a_safety_sets_signed_url(make_root):
    source = {"uri": "https://example.com/rules.jsonl?X-Amz-Signature=secret"}
    safety = {"source": source, "sha256": "0" * 64}
    root = make_root(gates={"safe": gate_spec(safety=safety)})
    context = root.context()
    assert "example.com" not in str(job_parameters(context.request, context.plan))
