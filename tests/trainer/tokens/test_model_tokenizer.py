"""Chat templates of the common model families: which answers are trained on, and which templates are
refused."""

import json
import shutil
from dataclasses import dataclass
from pathlib import Path

import pytest
import trl
from transformers import PreTrainedTokenizerBase

from support.tiny_model import make_tokenizer
from support.trainer_root import TrainerRoot, gate_spec
from tunegate_api.contract.process import ROOT_VARIABLE, ExitCode, Termination
from tunegate_api.messages import Message
from tunegate_trainer.main import main
from tunegate_trainer.process.errors import UserError
from tunegate_trainer.tokens.answers import is_rewritten
from tunegate_trainer.tokens.chat import answer_end, load_tokenizer
from tunegate_trainer.tokens.examples import IGNORED, tokenize_rows
from tunegate_trainer.tokens.rows import Row

GENERATION = "{% if add_generation_prompt %}"


@dataclass(frozen=True)
class Family:
    """A model family, with a template of our own that renders turns like the family's."""

    template: str
    tokens: tuple[str, ...]
    eos: str
    end: str
    """The token that ends an answer."""


FAMILIES = {
    "ChatML": Family(
        "{% for m in messages %}<|im_start|>{{ m.role }}\n{{ m.content }}<|im_end|>\n{% endfor %}"
        f"{GENERATION}<|im_start|>assistant\n{{% endif %}}",
        ("<|im_start|>", "<|im_end|>"),
        "<|im_end|>",
        "<|im_end|>",
    ),
    # Qwen2.5: a default system turn.
    "default system turn": Family(
        "{% if messages[0].role != 'system' %}<|im_start|>system\nbe helpful<|im_end|>\n{% endif %}"
        "{% for m in messages %}<|im_start|>{{ m.role }}\n{{ m.content }}<|im_end|>\n{% endfor %}"
        f"{GENERATION}<|im_start|>assistant\n{{% endif %}}",
        ("<|im_start|>", "<|im_end|>", "<|endoftext|>"),
        "<|endoftext|>",
        "<|im_end|>",
    ),
    # Qwen3: answers after the last question have reasoning, which may be empty. Earlier ones lose theirs.
    "reasoning": Family(
        "{% set ns = namespace(last=-1) %}{% for m in messages %}"
        "{% if m.role == 'user' %}{% set ns.last = loop.index0 %}{% endif %}{% endfor %}"
        "{% for m in messages %}<|im_start|>{{ m.role }}\n"
        "{% if m.role == 'assistant' %}{% if loop.index0 > ns.last %}<think>\n\n</think>\n\n{% endif %}"
        "{{ m.content.split('</think>')[-1].lstrip('\n') }}{% else %}{{ m.content }}{% endif %}"
        "<|im_end|>\n{% endfor %}"
        f"{GENERATION}<|im_start|>assistant\n{{% endif %}}",
        ("<|im_start|>", "<|im_end|>"),
        "<|im_end|>",
        "<|im_end|>",
    ),
    # Llama 3: a BOS token, headers, and contents that are trimmed.
    "headers": Family(
        "{{ bos_token }}{% for m in messages %}<|start_header_id|>{{ m.role }}<|end_header_id|>\n\n"
        "{{ m.content | trim }}<|eot_id|>{% endfor %}"
        f"{GENERATION}<|start_header_id|>assistant<|end_header_id|>\n\n{{% endif %}}",
        ("<|start_header_id|>", "<|end_header_id|>", "<|eot_id|>", "<|end_of_text|>"),
        "<|end_of_text|>",
        "<|eot_id|>",
    ),
    # Gemma: the assistant is called model, and there is no system turn.
    "model turns": Family(
        "{% if messages[0].role == 'system' %}{{ raise_exception('no system turn') }}{% endif %}"
        "{% for m in messages %}<start_of_turn>{{ 'model' if m.role == 'assistant' else m.role }}\n"
        "{{ m.content | trim }}<end_of_turn>\n{% endfor %}"
        f"{GENERATION}<start_of_turn>model\n{{% endif %}}",
        ("<start_of_turn>", "<end_of_turn>", "<eos>"),
        "<eos>",
        "<end_of_turn>",
    ),
    # Mistral: brackets, a space before each answer, and the system message in the last question.
    "brackets": Family(
        "{% set system = messages[0].content if messages[0].role == 'system' else '' %}"
        "{% for m in messages %}{% if m.role == 'user' %}[INST] "
        "{% if loop.last and system %}{{ system }}\n\n{% endif %}{{ m.content }} [/INST]"
        "{% elif m.role == 'assistant' %} {{ m.content }}</s>{% endif %}{% endfor %}",
        ("[INST]", "[/INST]", "</s>"),
        "</s>",
        "</s>",
    ),
    # Llama 2: the same with spaces around an answer, and with markers that are not tokens.
    "spaces": Family(
        "{% for m in messages %}{% if m.role == 'user' %}[INST] {{ m.content }} [/INST]"
        "{% elif m.role == 'assistant' %} {{ m.content | trim }} </s>{% endif %}{% endfor %}",
        ("</s>",),
        "</s>",
        "</s>",
    ),
    # Phi and Zephyr: a token for each role.
    "roles": Family(
        "{% for m in messages %}<|{{ m.role }}|>\n{{ m.content }}<|end|>\n{% endfor %}"
        f"{GENERATION}<|assistant|>\n{{% endif %}}",
        ("<|user|>", "<|assistant|>", "<|system|>", "<|end|>"),
        "<|end|>",
        "<|end|>",
    ),
}


def tokenizer_of(family: Family) -> PreTrainedTokenizerBase:
    tokenizer = make_tokenizer()
    tokenizer.add_special_tokens(
        {"eos_token": family.eos, "bos_token": "<|begin|>", "additional_special_tokens": list(family.tokens)}
    )
    tokenizer.chat_template = family.template
    return tokenizer


def chat(*contents: str, system: str = "") -> Row:
    turns = [Message(role="system", content=system)] if system else []
    turns += [Message(role=("user", "assistant")[i % 2], content=text) for i, text in enumerate(contents)]
    return Row(id="r", prompt=turns[:-1], completion=turns[-1].content)


def learned(tokenizer: PreTrainedTokenizerBase, row: Row) -> list[str]:
    """Return the answers that carry loss, with their end tokens and without white space around them."""
    (example,) = tokenize_rows(tokenizer, [row], 512)
    ids = [i for i, label in zip(example["input_ids"], example["labels"], strict=True) if label != IGNORED]
    end = answer_end(tokenizer).token
    return [part.strip() + end for part in tokenizer.decode(ids).split(end)[:-1]]


@pytest.mark.parametrize("name", sorted(FAMILIES.keys() - {"reasoning"}))
def test_every_chat_answer_is_trained_on_with_end_token(name):
    family = FAMILIES[name]
    tokenizer = tokenizer_of(family)
    row = chat("mug to Oslo", "yes 2", "and a lamp", "no", "thanks", "please")
    assert answer_end(tokenizer).token == family.end
    assert not is_rewritten(tokenizer, row.prompt)
    assert learned(tokenizer, row) == [f"{text}{family.end}" for text in ("yes 2", "no", "please")]


def test_earlier_answer_is_masked_if_empty_reasoning_is_dropped():
    tokenizer = tokenizer_of(FAMILIES["reasoning"])
    row = chat("mug to Oslo", "yes 2", "and a lamp", "no")
    assert is_rewritten(tokenizer, row.prompt)
    assert learned(tokenizer, row) == ["<think>\n\n</think>\n\nno<|im_end|>"]


@pytest.mark.parametrize(
    ("name", "end"),
    [
        ("cohere", "<|END_OF_TURN_TOKEN|>"),
        ("gemma", "<end_of_turn>"),
        ("gemma3", "<end_of_turn>"),
        ("lfm2", "<|im_end|>"),
        ("llama3", "<|eot_id|>"),
        ("qwen2_5", "<|im_end|>"),
        ("qwen3_instruct_2507", "<|im_end|>"),
    ],
)
def test_loss_mask_equals_that_of_trls_training_template(name, end):
    """TRL ships both templates. Its mask also has the line ends after turns, which no model has to
    generate."""
    templates = Path(trl.__file__).parent / "chat_templates"
    tokenizer = make_tokenizer()
    tokenizer.add_special_tokens({"additional_special_tokens": [end]})
    tokenizer.chat_template = (templates / f"{name}.jinja").read_text(encoding="utf-8")
    row = chat("mug to Oslo", "yes 2", "and a lamp", "no", "thanks", "please")
    turns = [*row.prompt, Message(role="assistant", content=row.completion)]
    marked = tokenizer.apply_chat_template(
        [{"role": turn.role, "content": turn.content} for turn in turns],
        chat_template=(templates / f"{name}_training.jinja").read_text(encoding="utf-8"),
        return_dict=True,
        return_assistant_tokens_mask=True,
    )
    (example,) = tokenize_rows(tokenizer, [row], 512)
    ids, length = marked["input_ids"], len(example["input_ids"])
    assert ids[:length] == example["input_ids"]
    pairs = zip(example["labels"], ids, marked["assistant_masks"], strict=False)
    differs = [token for label, token, mark in pairs if (label != IGNORED) != bool(mark)]
    assert set(tokenizer.decode(differs)) <= {"\n"}
    assert learned(tokenizer, row) == [f"{text}{end}" for text in ("yes 2", "no", "please")]


@pytest.mark.parametrize("name", ["headers", "model turns", "spaces"])
def test_answer_trimmed_by_the_template_does_not_count_as_rewritten(name):
    tokenizer = tokenizer_of(FAMILIES[name])
    assert not is_rewritten(tokenizer, chat("mug", "\nyes\n", "lamp", "no").prompt)


def test_earlier_answer_is_masked_if_its_reasoning_is_dropped():
    tokenizer = tokenizer_of(FAMILIES["reasoning"])
    row = chat("mug", "<think>2</think>yes", "lamp", "<think>3</think>no")
    assert is_rewritten(tokenizer, row.prompt)
    assert learned(tokenizer, row) == ["<think>\n\n</think>\n\nno<|im_end|>"]


def test_answer_is_masked_if_the_template_changes_its_question():
    """The template puts the system message into the last question. When the answer was rendered, that was the
    first question."""
    tokenizer = tokenizer_of(FAMILIES["brackets"])
    row = chat("mug", "yes", "lamp", "no", system="be brief")
    assert is_rewritten(tokenizer, row.prompt)
    assert learned(tokenizer, row) == ["no</s>"]


def test_message_includes_the_error_of_the_chat_template():
    with pytest.raises(UserError, match="the model's chat template refuses a chat: no system turn"):
        learned(tokenizer_of(FAMILIES["model turns"]), chat("mug", "yes", system="be brief"))


def test_template_with_an_unknown_end_token_raises_an_error():
    tokenizer = make_tokenizer()
    tokenizer.chat_template = FAMILIES["headers"].template
    with pytest.raises(UserError, match=r"ends an answer with <\|eot_id\|>, which is not a token of"):
        answer_end(tokenizer)


@pytest.mark.parametrize(("others", "default"), [({}, ""), ({"default": "ChatML"}, "ChatML")])
def test_default_template_is_used_if_there_are_several(tmp_path, others, default):
    tokenizer = make_tokenizer()
    own = FAMILIES["ChatML"].template
    tokenizer.chat_template = {"tool_use": "{{ messages }}"} | dict.fromkeys(others, own)
    tokenizer.save_pretrained(tmp_path)
    if default:
        assert load_tokenizer(tmp_path).chat_template == own
    else:
        with pytest.raises(UserError, match="has the chat templates tool_use, but none called default"):
            load_tokenizer(tmp_path)


SYSTEM = {"role": "system", "content": "be brief"}


@pytest.fixture
def prepare(tmp_path, tiny_model, monkeypatch):
    """Run the data role on rows and golden cases with or without a system turn. Return its termination."""

    def run(rows: list[bool], cases: list[bool], template: str | None = None) -> Termination:
        model = shutil.copytree(tiny_model, tmp_path / "model")
        if template:
            (model / "chat_template.jinja").write_text(template)

        def turns(text: str, system: bool) -> list[dict[str, str]]:
            return [*([SYSTEM] if system else []), {"role": "user", "content": text}]

        answer = {"role": "assistant", "content": "yes"}
        lines = [
            json.dumps({"messages": [*turns(f"order {i}", rows[i % len(rows)]), answer]}) for i in range(40)
        ]
        golden = [
            {
                "id": f"case-{i}",
                "messages": turns(f"golden {i}", system),
                "expect": [{"type": "equals", "value": "yes"}],
            }
            for i, system in enumerate(cases)
        ]
        root = TrainerRoot(
            tmp_path / "root",
            gates={"orders": gate_spec(golden)},
            inputs={"orders/train.jsonl": "\n".join(lines)},
            spec={
                "model": {"uri": f"file://{model}"},
                "data": {
                    "goal": "StyleOrFormat",
                    "sizePolicy": "Warn",
                    "sources": [{"name": "train", "configMap": "orders"}],
                    "heldOut": {"fraction": "20%"},
                    "checks": [{"name": "MixedTemplates", "policy": "Off"}],
                },
            },
        ).write_for_data(tiny_model)
        monkeypatch.setenv(ROOT_VARIABLE, str(root.path))
        main(["data"])
        return Termination.model_validate_json((root.path / "termination.json").read_bytes())

    return run


@pytest.mark.parametrize(
    ("rows", "cases", "whose"),
    [([False], [True, True], "the gate's cases have"), ([True], [False, False], "training rows have")],
)
def test_gate_with_system_turns_unlike_the_rows_is_refused(prepare, rows, cases, whose):
    ended = prepare(rows, cases)
    assert ended.exit_code == ExitCode.BAD_DATA
    message = ended.failure.message
    assert message.startswith(
        f"the prompts of EvalGate orders differ from training prompts: only {whose} a system turn; "
    )
    plain = "'<|im_start|>user\\n"
    with_system = "'<|im_start|>system\\nbe brief<|im_end|>\\n<|im_start|>user\\n"
    trained, asked = (with_system, plain) if rows == [True] else (plain, with_system)
    assert f"a training prompt is {trained}order" in message
    assert f"a golden prompt is {asked}golden 0" in message


@pytest.mark.parametrize(("rows", "cases"), [([False], [False, True]), ([True, False], [False])])
def test_gate_with_system_turns_in_some_cases_is_accepted(prepare, rows, cases):
    assert prepare(rows, cases).exit_code == ExitCode.OK


def test_chat_template_with_an_unknown_end_token_is_refused(prepare):
    ended = prepare([False], [False], FAMILIES["headers"].template)
    assert ended.exit_code == ExitCode.USER_ERROR
    assert ended.failure.message.startswith("model.uri: the chat template ends an answer with <|eot_id|>")
    assert ended.failure.hint
