"""Chats: every assistant turn is trained on, with the same tokens that generation would see."""

import json
import shutil

import pytest
from transformers import PreTrainedTokenizerBase

from support.trainer_root import TrainerRoot
from tunegate_api.contract.plan import Plan
from tunegate_api.contract.process import ExitCode, Role
from tunegate_api.messages import Message
from tunegate_trainer.main import main
from tunegate_trainer.process.errors import UserError
from tunegate_trainer.tokens.answers import answered_tokens, example_tokens, is_rewritten
from tunegate_trainer.tokens.chat import load_tokenizer
from tunegate_trainer.tokens.examples import IGNORED, tokenize_rows
from tunegate_trainer.tokens.rows import Row, read_rows

MARKED = (
    "{% for message in messages %}{{ '<|im_start|>' + message['role'] + '\n' }}"
    "{% if message['role'] == 'assistant' %}{% generation %}{{ message['content'] + '<|im_end|>' }}"
    "{% endgeneration %}{{ '\n' }}{% else %}{{ message['content'] + '<|im_end|>\n' }}{% endif %}{% endfor %}"
)
"""The tiny model's template, with the markers that transformers needs to mask assistant turns."""
THOUGHTLESS = (
    "{% for message in messages %}{{ '<|im_start|>' + message['role'] + '\n' + "
    "(message['content'].split('</think>')[-1] if message['role'] == 'assistant' and not loop.last "
    "else message['content']) + '<|im_end|>\n' }}"
    "{% endfor %}"
    "{% if add_generation_prompt %}{{ '<|im_start|>assistant\n' }}{% endif %}"
)
"""A template that drops the reasoning of earlier answers."""


@pytest.fixture
def tokenizer(tiny_model) -> PreTrainedTokenizerBase:
    return load_tokenizer(tiny_model)


def chat(*contents: str, system: str = "") -> Row:
    """A row with turns of user and assistant. The last turn is the completion."""
    turns = [Message(role="system", content=system)] if system else []
    turns += [
        Message(role="user" if i % 2 == 0 else "assistant", content=content)
        for i, content in enumerate(contents)
    ]
    return Row(id="r", prompt=turns[:-1], completion=turns[-1].content)


def learned(tokenizer: PreTrainedTokenizerBase, row: Row) -> str:
    (example,) = tokenize_rows(tokenizer, [row], 256)
    carried = [
        i for i, label in zip(example["input_ids"], example["labels"], strict=True) if label != IGNORED
    ]
    assert [label for label in example["labels"] if label != IGNORED] == carried
    return str(tokenizer.decode(carried))


def test_every_assistant_turn_and_its_end_is_trained_on(tokenizer):
    row = chat("mug to Oslo", "yes 2", "and a lamp", "no", "thanks", "please", system="be brief")
    assert learned(tokenizer, row) == "yes 2<|im_end|>no<|im_end|>please<|im_end|>"


def test_labels_equal_the_assistant_mask_of_a_marked_chat_template(tokenizer):
    row = chat("mug to Oslo", "yes 2", "and a lamp", "no", "thanks", "please", system="be brief")
    (example,) = tokenize_rows(tokenizer, [row], 256)
    turns = [*row.prompt, Message(role="assistant", content=row.completion)]
    marked = tokenizer.apply_chat_template(
        [{"role": turn.role, "content": turn.content} for turn in turns],
        chat_template=MARKED,
        return_dict=True,
        return_assistant_tokens_mask=True,
    )
    ids, mask = marked["input_ids"], marked["assistant_masks"]
    assert ids[:-1] == example["input_ids"], "except for the line break after the last turn"
    assert [label != IGNORED for label in example["labels"]] == [bool(m) for m in mask[:-1]]


def test_prompt_tokens_in_training_match_generation(tokenizer):
    row = chat("mug to Oslo", "yes 2", "and a lamp", "no")
    (example,) = tokenize_rows(tokenizer, [row], 256)
    prompt, completion = example_tokens(tokenizer, row.prompt, row.answer)
    assert example["input_ids"] == prompt + completion


def test_held_out_turn_is_not_trained_on(tokenizer):
    row = chat("mug to Oslo", "yes 2", "and a lamp", "no", "thanks", "please")
    assert learned(tokenizer, row.model_copy(update={"unlearned": [1]})) == "no<|im_end|>please<|im_end|>"


def test_training_chat_answer_with_a_held_out_prompt_is_masked(make_job):
    """The data has each conversation twice: as a whole, and up to its first answer."""
    rows = []
    for i in range(40):
        turns = [("user", f"q {i}"), ("assistant", f"a {i}"), ("user", f"more {i}"), ("assistant", f"b {i}")]
        messages = [{"role": role, "content": content} for role, content in turns]
        rows += [{"messages": messages}, {"messages": messages[:2]}]
    root = make_job(rows)
    data = root.workspace / root.paths.data
    held_out = {
        row.prompt[0].content
        for side in ("dev", "test")
        for row in read_rows(data / f"{side}.jsonl")
        if len(row.prompt) == 1
    }
    longer = {row.prompt[0].content: row for row in read_rows(data / "train.jsonl") if len(row.prompt) == 3}
    assert held_out & longer.keys(), "otherwise the test shows nothing"
    for question, row in longer.items():
        assert row.unlearned == ([1] if question in held_out else []), question
    masked, plan = len(held_out & longer.keys()), Plan.model_validate_json((data / "plan.json").read_bytes())
    assert plan.data.warnings[0] == (
        f"{masked} earlier answers in {masked} of {plan.data.train.rows} training rows are not trained on, "
        "because their prompts are held out"
    )


def test_only_the_completion_of_a_single_turn_is_trained(tokenizer):
    row = chat("mug to Oslo", "yes 2")
    assert answered_tokens(tokenizer, row.prompt) == []
    assert not is_rewritten(tokenizer, row.prompt)
    assert learned(tokenizer, row) == "yes 2<|im_end|>"


def test_answer_rewritten_by_template_is_not_trained_on(tokenizer):
    tokenizer.chat_template = THOUGHTLESS
    row = chat("mug", "2 </think>yes", "lamp", "no", "thanks", "3 </think>please")
    assert is_rewritten(tokenizer, row.prompt)
    assert learned(tokenizer, row) == "no<|im_end|>3 </think>please<|im_end|>"


def test_model_without_template_accepts_only_single_turns(tokenizer):
    tokenizer.chat_template = None
    assert learned(tokenizer, chat("mug", "yes")) == "yes<|im_end|>"
    for row in (chat("mug", "yes", "lamp", "no"), chat("mug", "yes", system="be brief")):
        with pytest.raises(UserError, match="turns, but the model has no chat template"):
            learned(tokenizer, row)


def test_plan_warns_about_rows_with_masked_answers(make_job):
    roles = ("user", "assistant", "user", "assistant")
    rows = [
        {"messages": [{"role": r, "content": f"{i} </think> {n}"} for n, r in enumerate(roles)]}
        for i in range(40)
    ]
    plan = make_job(rows, THOUGHTLESS).report(Role.DATA).plan
    assert plan is not None
    (warning,) = [w for w in plan.data.warnings if "chat template" in w]
    assert warning.startswith("the model's chat template changes earlier answers of 31 of 31 training rows")


@pytest.fixture
def make_job(tmp_path, tiny_model, monkeypatch):
    """Return a function that makes a root whose data role has run on chats, optionally with another
    template."""

    def make(rows: list[dict[str, object]], template: str | None = None) -> TrainerRoot:
        model = tmp_path / "model"
        shutil.copytree(tiny_model, model)
        if template:
            (model / "chat_template.jinja").write_text(template)
        root = TrainerRoot(
            tmp_path / "root",
            inputs={"orders/train.jsonl": "".join(json.dumps(row) + "\n" for row in rows)},
            spec={
                "model": {"uri": f"file://{model}"},
                "data": {
                    "goal": "StyleOrFormat",
                    "sizePolicy": "Warn",
                    "sources": [{"name": "train", "configMap": "orders"}],
                    "heldOut": {"fraction": "20%"},
                    "checks": [{"name": "Distribution", "policy": "Off"}],
                },
            },
        ).write_for_data(tiny_model)
        monkeypatch.setenv("TUNEGATE_ROOT", str(root.path))
        assert main(["data"]) == ExitCode.OK
        return root

    return make
