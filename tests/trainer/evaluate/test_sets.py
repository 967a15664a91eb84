"""The sets that a model is evaluated on: golden sets, and held-out rows for task metrics."""

import json
import shutil
from importlib.metadata import EntryPoint, EntryPoints

import pytest

from support.model_templates import model_templates, tokenizer_for
from support.trainer_root import gate_spec, golden_cases
from support.unprivileged import unprivileged
from tunegate_api.contract.plan import SplitPlan
from tunegate_api.contract.process import Role
from tunegate_api.contract.request import GenerationSettings
from tunegate_api.messages import FunctionCall, Message, ToolCall
from tunegate_api.v1alpha2.finetunejob import TaskMetric
from tunegate_api.verdict.outcomes import FAIL, PASS
from tunegate_trainer.evaluate import evaluate as module
from tunegate_trainer.evaluate.config_map_files import config_map_file, metric_schema
from tunegate_trainer.evaluate.evaluate import evaluate
from tunegate_trainer.evaluate.golden_sets import golden_sets
from tunegate_trainer.evaluate.safety_sets import safety_sets
from tunegate_trainer.evaluate.scoring import score_cases
from tunegate_trainer.evaluate.sets import GOLDEN, GeneratedSet, held_out_sets, task_generation
from tunegate_trainer.graders import Output, custom
from tunegate_trainer.process.errors import BadDataError, SourceNotFoundError, UserError
from tunegate_trainer.process.files import write_model
from tunegate_trainer.tokens.chat import load_tokenizer
from tunegate_trainer.tokens.rows import Row, write_rows


@pytest.fixture(scope="module")
def tokenizer(tiny_model):
    return load_tokenizer(tiny_model)


def test_golden_set_has_ordered_cases_and_its_gates_settings(make_root, tokenizer):
    context = make_root(gates={"orders": gate_spec(golden_cases(3))}).context()
    (golden,) = golden_sets(context, tokenizer, context.request.final_gates)
    assert golden.case_set.ids == ["case-0", "case-1", "case-2"]
    assert golden.case_set.tags == [["even"], ["odd"], ["even"]]
    assert golden.case_set.sha256 == context.request.gates[0].golden_sha256
    assert golden.generation == GenerationSettings(max_new_tokens=6, batch_size=32)
    assert golden.cases[0].prompt.startswith("<|im_start|>user\ngolden order 0 mug<|im_end|>")


def test_case_with_allow_empty_passes_an_empty_output(make_root, tokenizer):
    asked = {"prompt": "insult me", "expect": [{"type": "not_contains", "value": "fool"}]}
    cases = [{"id": "strict", **asked}, {"id": "silent", "allowEmpty": True, **asked}]
    root = make_root(gates={"orders": gate_spec(cases)})
    (golden,) = golden_sets(root.context(), tokenizer, root.context().request.gates)
    scores = score_cases(golden.cases, [Output("", truncated=False)] * 2)
    assert [score[GOLDEN].outcome for score in scores] == ["f", "p"]


def test_shown_golden_chat_has_the_role_of_each_turn(make_root, tokenizer):
    chat = [{"role": "system", "content": "Be brief."}, {"role": "user", "content": "Hi"}]
    cases = [{"id": "chat", "messages": chat, "expect": [{"type": "contains", "value": "x"}]}]
    context = make_root(gates={"orders": gate_spec(cases)}).context()
    (golden,) = golden_sets(context, tokenizer, context.request.final_gates)
    assert golden.cases[0].shown == "system: Be brief.\nuser: Hi"


def test_missing_golden_file_is_named(make_root, tokenizer):
    spec = gate_spec() | {"sets": [{"name": "golden", "source": {"configMap": "golden", "key": "a.jsonl"}}]}
    root = make_root(gates={"orders": spec}, inputs={"golden/a.jsonl": "x"})
    shutil.rmtree(root.path / "inputs")
    context = root.context()
    with pytest.raises(
        SourceNotFoundError, match=r"EvalGate orders: there is no golden set at inputs/golden/a\.jsonl"
    ):
        golden_sets(context, tokenizer, context.request.final_gates)


def test_unreadable_golden_file_or_schema_is_named(make_root, tokenizer):
    source = {"configMap": "golden", "key": "a.json"}
    root = make_root(
        gates={"orders": gate_spec() | {"sets": [{"name": "golden", "source": source}]}},
        inputs={"golden/a.json": "{}"},
    )
    (root.path / "inputs" / "golden" / "a.json").chmod(0)
    context = root.context()
    gates = context.request.final_gates
    metric = TaskMetric.model_validate(
        {"name": "json_schema", "type": "JSONSchema", "schema": source, "min": "50%"}
    )
    with (
        unprivileged(),
        pytest.raises(UserError, match=r"EvalGate orders: the golden set at inputs/golden/a\.json"),
    ):
        golden_sets(context, tokenizer, gates)
    with (
        unprivileged(),
        pytest.raises(UserError, match=r"the schema at inputs/golden/a\.json cannot be read"),
    ):
        metric_schema(root.path, metric)


def test_golden_file_whose_parent_is_a_file_is_not_found(make_root, tokenizer):
    spec = gate_spec() | {"sets": [{"name": "golden", "source": {"configMap": "golden", "key": "a.jsonl"}}]}
    root = make_root(gates={"orders": spec}, inputs={"golden/a.jsonl": "x"})
    shutil.rmtree(root.path / "inputs" / "golden")
    (root.path / "inputs" / "golden").write_text("a file")
    context = root.context()
    with pytest.raises(SourceNotFoundError, match="no golden set at"):
        golden_sets(context, tokenizer, context.request.final_gates)


def test_error_for_a_missing_schema_key_lists_the_existing_keys(tmp_path):
    (tmp_path / "inputs" / "schemas").mkdir(parents=True)
    (tmp_path / "inputs" / "schemas" / "order.json").write_text("{}")
    metric = {
        "name": "json_schema",
        "type": "JSONSchema",
        "schema": {"configMap": "schemas", "key": "a.json"},
        "min": "50%",
    }
    with pytest.raises(SourceNotFoundError, match=r"ConfigMap schemas has no key a\.json") as error:
        metric_schema(tmp_path, TaskMetric.model_validate(metric))
    assert error.value.hint == "the ConfigMap has: order.json"


def test_schema_that_is_not_an_object_is_refused(tmp_path):
    (tmp_path / "inputs" / "schemas").mkdir(parents=True)
    (tmp_path / "inputs" / "schemas" / "a.json").write_text("3")
    metric = {
        "name": "json_schema",
        "type": "JSONSchema",
        "schema": {"configMap": "schemas", "key": "a.json"},
        "min": "50%",
    }
    with pytest.raises(BadDataError, match=r"schema at inputs/schemas/a\.json must be a JSON object"):
        metric_schema(tmp_path, TaskMetric.model_validate(metric))


def test_golden_case_refused_by_the_chat_template_is_named(make_root, tiny_model):
    tokenizer = load_tokenizer(tiny_model)
    tokenizer.chat_template = "{{ raise_exception('not today') }}"
    context = make_root(gates={"orders": gate_spec(golden_cases(3))}).context()
    with pytest.raises(UserError, match=r"EvalGate orders, case case-0: .*refuses a chat: not today"):
        golden_sets(context, tokenizer, context.request.final_gates)


def test_only_key_of_a_configmap_is_the_default(tmp_path):
    folder = tmp_path / "inputs" / "golden"
    (folder / "..2026_data").mkdir(parents=True)
    (folder / "cases.jsonl").write_text("x")
    assert config_map_file(tmp_path, "spec.golden.source", "golden", None) == folder / "cases.jsonl"
    (folder / "more.jsonl").write_text("y")
    with pytest.raises(UserError, match=r"spec\.golden\.source: .* it has: cases\.jsonl, more\.jsonl"):
        config_map_file(tmp_path, "spec.golden.source", "golden", None)


def test_held_out_outputs_are_generated_once_for_all_metrics(make_root, tokenizer, monkeypatch):
    schema = {"type": "object"}
    metrics = [
        {"name": "exact_match", "type": "ExactMatch", "min": "50%"},
        {"name": "json_schema", "type": "JSONSchema", "min": "50%", "schema": {"configMap": "schema"}},
    ]
    root = make_root(spec={"taskMetrics": metrics}, inputs={"schema/order.json": json.dumps(schema)})
    (rows,) = held_out_sets(root.context(), tokenizer, "dev")
    assert isinstance(rows, GeneratedSet)
    asked = []

    def answer(model, tokenizer, prompts, *settings, **stops):
        del model, tokenizer, settings, stops
        asked.extend(prompts)
        return [Output("yes", truncated=False), *[Output("{}", truncated=False)] * (len(prompts) - 1)]

    monkeypatch.setattr(module, "generate", answer)  # with outputs on which the metrics differ
    (result,) = evaluate(None, tokenizer, [rows])
    assert len(asked) == len(rows.cases) == 6
    assert result.outcomes("exact_match") == "pfffff"
    assert result.outcomes("json_schema") == "fppppp"
    assert rows.names == {"exact_match": "dev/exact_match", "json_schema": "dev/json_schema"}
    assert "is not JSON" in result.cases[0].explanation


def test_outputs_for_gates_with_equal_prompts_are_generated_once(make_root, tokenizer, monkeypatch):
    strict = [case | {"expect": [{"type": "equals", "value": "no"}]} for case in golden_cases(3)]
    root = make_root(gates={"lenient": gate_spec(golden_cases(3)), "strict": gate_spec(strict)})
    context = root.context()
    asked = []

    def answer(model, tokenizer, prompts, *settings, **stops):
        del model, tokenizer, settings, stops
        asked.append(len(prompts))
        return [Output("yes", truncated=False)] * len(prompts)

    monkeypatch.setattr(module, "generate", answer)  # to count
    sets = golden_sets(context, tokenizer, context.request.final_gates)
    results = evaluate(None, tokenizer, sets)
    assert asked == [3]
    assert [result.outcomes("golden") for result in results] == ["ppp", "fff"]


def test_changed_held_out_rows_are_refused(make_root, tokenizer):
    root = make_root()
    (root.data / "test.jsonl").write_text("")
    with pytest.raises(BadDataError, match=r"data/test\.jsonl was changed after the plan was made"):
        held_out_sets(root.context(Role.GATE), tokenizer, "test")


def test_task_metrics_use_first_gates_settings_and_largest_max_tokens(make_root):
    generations = {"a": {"maxNewTokens": 8, "reasoning": "Keep"}, "b": {"maxNewTokens": 64}}
    gates = {name: gate_spec(golden_cases(2), generation=given) for name, given in generations.items()}
    request = make_root(spec={"evaluation": {"batchSize": 4}}, gates=gates).context().request
    expected = GenerationSettings(max_new_tokens=64, reasoning="Keep", batch_size=4)
    assert task_generation(request) == expected


def test_gates_of_a_job_share_its_batches(make_root, tokenizer):
    batches = {"batchSize": 4, "batching": "Continuous", "precision": "Float32"}
    safety = {"source": {"builtin": "refusals-v1"}}
    gates = {"a": gate_spec(golden_cases(2)), "b": gate_spec(golden_cases(2), safety=safety)}
    context = make_root(spec={"evaluation": {"every": 3} | batches}, gates=gates).context()
    sets = [
        *golden_sets(context, tokenizer, context.request.gates),
        *safety_sets(context, tokenizer, context.request.gates),
        *held_out_sets(context, tokenizer, "dev"),
    ]
    assert len(sets) == 4
    for each in sets:
        assert isinstance(each, GeneratedSet)
        assert each.depends_on["generation"].items() >= batches.items()
        assert "every" not in each.depends_on["generation"]


def test_chat_refused_by_the_template_is_a_user_error(tiny_model):
    from tunegate_trainer.tokens.chat import render

    tokenizer = load_tokenizer(tiny_model)
    tokenizer.chat_template = "{{ raise_exception('roles must alternate') }}"
    with pytest.raises(UserError, match="roles must alternate"):
        render(tokenizer, [Message(role="user", content="hi")])


def weather_tool() -> dict[str, object]:
    function = {"parameters": {"type": "object"}, "description": "The weather", "name": "weather"}
    return {"type": "function", "function": function}


def test_golden_cases_tools_are_prompted_and_calls_are_judged(make_root):
    tool = weather_tool()
    call = {"name": "weather", "arguments": {"city": "Oslo"}}
    case = {
        "id": "calls",
        "prompt": "How cold is it in Oslo?",
        "tools": [tool],
        "expect": [{"type": "tool_calls_equal", "value": [call]}],
    }
    tokenizer = tokenizer_for(model_templates()["qwen3"])
    root = make_root(gates={"orders": gate_spec([case])})
    (golden,) = golden_sets(root.context(), tokenizer, root.context().request.gates)
    (asked,) = golden.cases
    assert '"name": "weather", "description": "The weather"' in asked.prompt
    output = f"<tool_call>\n{json.dumps(call)}\n</tool_call>"
    scores = score_cases([asked, asked], [Output(text, truncated=False) for text in (output, "cold")])
    assert [score[GOLDEN].outcome for score in scores] == [PASS, FAIL]


def test_golden_case_whose_tools_the_template_drops_is_named(make_root, tokenizer):
    tool = weather_tool()
    case = {"id": "calls", "prompt": "Cold?", "tools": [tool], "expect": [{"type": "equals", "value": "no"}]}
    root = make_root(gates={"orders": gate_spec([case])})
    with pytest.raises(
        UserError, match=r"EvalGate orders, case calls: .*does not render the tools of a chat"
    ):
        golden_sets(root.context(), tokenizer, root.context().request.gates)


def test_exact_match_of_held_out_row_compares_tool_calls(make_root):
    tokenizer = tokenizer_for(model_templates()["qwen3"])
    root = make_root()
    call = ToolCall(function=FunctionCall(name="weather", arguments={"city": "Oslo"}))
    row = Row(id="r", prompt=[Message(role="user", content="cold?")], completion="", tool_calls=[call])
    with_dev_rows(root, [row])
    (rows,) = held_out_sets(root.context(), tokenizer, "dev")
    assert isinstance(rows, GeneratedSet)
    called_text = '<tool_call>{"name": "weather", "arguments": {"city": "Oslo"}}</tool_call>'
    outputs = [Output(text, truncated=False) for text in (called_text, "")]
    called, silent = (score["exact_match"] for score in score_cases([*rows.cases] * 2, outputs))
    assert called.outcome == PASS
    assert "does not call" in silent.explanation


def test_cases_of_f1_have_the_sorted_labels_of_the_split(make_root, tokenizer):
    metrics = [
        {"name": "f1", "type": "F1", "min": "50%"},
        {"name": "exact_match", "type": "ExactMatch", "min": "50%"},
    ]
    root = make_root(spec={"taskMetrics": metrics})
    with_dev_rows(root, [labelled_row(str(i), text) for i, text in enumerate(["Refund", "order ", "refund"])])
    (rows,) = held_out_sets(root.context(), tokenizer, "dev")
    assert isinstance(rows, GeneratedSet)
    sets = rows.case_sets
    assert (sets["dev/f1"].labels, sets["dev/exact_match"].labels) == (["order", "refund"], None)
    outputs = [Output(text, truncated=False) for text in ("order", "order", "unknown")]
    entries = [str(score["f1"].counts) for score in score_cases(rows.cases, outputs)]
    assert entries == ["1>0", "0>0", "1>-"]


def test_metric_options_change_the_identity_but_its_minimum_does_not(make_root, tokenizer):
    def identity(**metric):
        root = make_root(
            spec={"taskMetrics": [{"name": "exact_match", "type": "ExactMatch", "min": "50%", **metric}]}
        )
        return held_out_sets(root.context(), tokenizer, "dev")[0].identity

    assert identity() == identity(min="90%") != identity(normalize=["Case"])


@pytest.mark.parametrize("template", ["qwen3", "llama3_1", "glm4moe", "gptoss"])
def test_tool_calls_of_each_template_are_found_in_outputs(make_root, template):
    tokenizer = tokenizer_for(model_templates()[template])
    root = make_root(spec={"taskMetrics": [{"name": "tool_calls", "type": "ToolCalls", "min": "50%"}]})
    call = ToolCall(function=FunctionCall(name="weather", arguments={"city": "Oslo"}))
    rows = [labelled_row("calls", "", tool_calls=[call]), labelled_row("answers", "It is cold.")]
    with_dev_rows(root, rows)
    (found,) = held_out_sets(root.context(), tokenizer, "dev")
    assert isinstance(found, GeneratedSet)
    right = found.cases[0].measures["tool_calls"][0].reference.calls
    for texts, outcomes in (
        ((right, "cold"), PASS + PASS),
        ((right.replace("Oslo", "Rome"), right), FAIL + FAIL),
        (("cold", "It is warm."), FAIL + PASS),
    ):
        scores = score_cases(found.cases, [Output(text, truncated=False) for text in texts])
        assert "".join(score["tool_calls"].outcome for score in scores) == outcomes


def test_custom_metric_is_scored_by_its_entry_point(make_root, tokenizer, monkeypatch):
    point = EntryPoint("characters", "support.dummy_grader:scorer", custom.GROUP)
    monkeypatch.setattr(custom, "entry_points", lambda group: EntryPoints([point]).select(group=group))
    metric = {"name": "custom", "type": "Custom", "entryPoint": "characters", "min": "50%"}
    (rows,) = held_out_sets(make_root(spec={"taskMetrics": [metric]}).context(), tokenizer, "dev")
    assert isinstance(rows, GeneratedSet)
    assert len({id(case.measures["custom"][0].scorer) for case in rows.cases}) == 1, "one batch"
    right, half = score_cases(rows.cases[:2], [Output(text, truncated=False) for text in ("yes", "y")])
    assert (str(right["custom"].counts), str(half["custom"].counts)) == ("6/6", "2/4")


def labelled_row(row_id: str, completion: str, **fields: object) -> Row:
    prompt = [Message(role="user", content=f"row {row_id}?")]
    return Row(id=row_id, prompt=prompt, completion=completion, **fields)


def with_dev_rows(root, rows: list[Row]) -> None:
    """Replace the dev rows of a root."""
    plan, digest = root.context().plan, write_rows(root.data / "dev.jsonl", rows)
    data = plan.data.model_copy(update={"dev": SplitPlan(rows=len(rows), sha256=digest)})
    write_model(root.path / "plan" / "plan.json", plan.model_copy(update={"data": data}))


@pytest.mark.parametrize(("vote", "outcomes"), [("Majority", "pp"), ("All", "ff")])
def test_sampled_outputs_vote_on_each_golden_case(make_root, tokenizer, monkeypatch, vote, outcomes):
    spec = gate_spec(golden_cases(2), generation={"samples": {"count": 3, "vote": vote}})
    context = make_root(gates={"orders": spec}).context()
    drawn = tuple(Output(text, truncated=False) for text in ("yes", "no", "yes"))

    def answer(model, tokenizer, prompts, *settings, **stops):
        del model, tokenizer, settings, stops
        return [drawn] * len(prompts)

    monkeypatch.setattr(module, "generate_samples", answer)  # with outputs that disagree
    (result,) = evaluate(None, tokenizer, golden_sets(context, tokenizer, context.request.final_gates))
    assert result.outcomes(GOLDEN) == outcomes
    assert {case.output for case in result.cases} == {"yes" if vote == "Majority" else "no"}
