"""The one way a chat becomes text and tokens, in training and evaluation alike."""

import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import date
from functools import lru_cache
from pathlib import Path
from typing import Any

from jinja2 import Environment, TemplateError, nodes
from jinja2.meta import find_undeclared_variables
from transformers import AutoConfig, AutoTokenizer, GenerationConfig, PreTrainedTokenizerBase

from tunegate_api.judging.golden import FunctionCall, Message, ToolCall
from tunegate_trainer.process.errors import UserError

Tools = Sequence[dict[str, Any]] | None
"""Functions that a model may call, in OpenAI's form."""
TODAY = date(2026, 1, 1)
"""What templates are told that ask for the date. It never changes: rows, cases and attempts of all days are
rendered alike, and so a resumed run sees what it saw, and a job the prompts that an earlier one was judged
by."""
_ASKS_FOR_DATE = re.compile(
    r"""strftime_now\(\s*(?:format\s*=\s*)?(?P<quote>['"])(?P<format>.*?)(?P=quote)\s*\)"""
)
CALL_ID = "call00001"
"""Of calls that are rendered to find out how. Mistral's templates take only nine letters and digits."""
_QUESTION, _ANSWER = "TUNEGATE-QUESTION", "TUNEGATE-ANSWER"
_TOKEN = re.compile(r"<\|?[^<>|\s]+\|?>")
"""What special tokens of chats look like."""
_SHOWN = 300
"""Characters of what a template says that an error repeats."""
_GENERATION_TAG = re.compile(r"\{%-?\s*(end)?generation\s*-?%\}")
"""Marks of transformers' own around answers, for training."""
_OF_EVERY_CHAT = frozenset(
    (
        *("add_generation_prompt", "continue_final_message", "documents", "messages", "tools"),
        *("bos_token", "eos_token", "pad_token", "unk_token", "raise_exception", "strftime_now"),
    )
)
_TEMPLATE_FAILURES = (
    *(TemplateError, ArithmeticError, AttributeError, LookupError),
    *(RecursionError, TypeError, ValueError),
)
"""How a template, which is a small program, ends on a chat that it was not made for."""


def load_tokenizer(
    folder: Path, base_model: Path | None = None, arguments: Mapping[str, Any] | None = None
) -> PreTrainedTokenizerBase:
    """The tokenizer in ``folder``; of several chat templates with the one called default, and with
    ``arguments`` as :func:`with_arguments` does.

    Its class, and with it how text becomes tokens, depends on the model's configuration: of an adapter, whose
    folder has none, it is that of ``base_model``. Raises :class:`UserError` where no template is the default.
    """
    described = (
        {"config": AutoConfig.from_pretrained(base_model, trust_remote_code=False)} if base_model else {}
    )
    tokenizer: PreTrainedTokenizerBase = AutoTokenizer.from_pretrained(
        folder, trust_remote_code=False, **described
    )
    templates = tokenizer.chat_template
    if isinstance(templates, dict):
        if "default" not in templates:
            raise UserError(
                f"the model has the chat templates {', '.join(sorted(templates))}, but none called default",
                "save the one to train with as chat_template.jinja",
            )
        tokenizer.chat_template = templates["default"]
    if arguments and tokenizer.chat_template:
        tokenizer.chat_template = with_arguments(tokenizer.chat_template, arguments)
    if tokenizer.pad_token is None:
        tokenizer.pad_token = tokenizer.eos_token
    return tokenizer


def with_arguments(template: str, arguments: Mapping[str, Any]) -> str:
    """A chat template that has ``arguments`` where its caller gives none: who serves the model needs no flag.

    Values are texts, numbers, true and false.
    """
    defaults = _defaults(arguments)
    return template if template.startswith(defaults) else defaults + template


def _defaults(arguments: Mapping[str, Any]) -> str:
    # A line each, as the first block of a template may be the first thing of its line.
    values = {name: json.dumps(arguments[name], ensure_ascii=False) for name in sorted(arguments)}
    return "".join(
        f"{{%- if {name} is not defined %}}{{%- set {name} = {value} %}}{{%- endif %}}\n"
        for name, value in values.items()
    )


def template_arguments(template: str, given: Mapping[str, Any]) -> set[str]:
    """The names of the arguments that a chat template reads, but for those of every chat. ``given`` are those
    that :func:`with_arguments` put in."""
    source = _GENERATION_TAG.sub("", template.removeprefix(_defaults(given)))
    environment = Environment(extensions=["jinja2.ext.loopcontrols"])  # noqa: S701 - it is parsed, not rendered
    parsed = environment.parse(source)
    # What a template sets itself it may read in a branch that does not; an argument it asks for first, as in
    # `x is defined` and `x | default(1)`.
    own = {name.name for name in parsed.find_all(nodes.Name) if name.ctx == "store"}
    asked = [
        node.node
        for node in parsed.find_all((nodes.Test, nodes.Filter))
        if isinstance(node, nodes.Test) or node.name == "default"
    ]
    asked_for = {node.name for node in asked if isinstance(node, nodes.Name)}
    return find_undeclared_variables(parsed) - (own - asked_for) - _OF_EVERY_CHAT


def render(tokenizer: PreTrainedTokenizerBase, messages: list[Message], tools: Tools = None) -> str:
    """The prompt text that a completion follows.

    With a chat template: the template with its generation prompt. Without one: the one message as it is. The
    text holds every special token; encode it with :func:`encode`. ``tools`` are functions that the model may
    call, in OpenAI's form.

    Raises :class:`UserError` where the template refuses the messages, fails on them, or leaves out tools and
    what they answered, and for a chat of several turns whose turns no template separates.
    """
    if not tokenizer.chat_template:
        if tools or any(message.tool_calls for message in messages):
            raise UserError(
                "the chat has tools, but the model has no chat template to render them",
                "use the model's instruct version, or add a chat_template.jinja to the model",
            )
        if len(messages) > 1:
            raise UserError(
                f"the prompt has {len(messages)} turns, but the model has no chat template to separate them",
                "use the model's instruct version, or add a chat_template.jinja to the model",
            )
        return _leading_token(tokenizer) + "".join(message.content for message in messages)
    text = apply_template(tokenizer, messages, add_generation_prompt=True, tools=tools)
    lost = ""
    if not all(_is_in(message.content.strip(), text) for message in messages if message.role == "tool"):
        lost = "the results of tools"
    if tools and text == apply_template(tokenizer, messages, add_generation_prompt=True):
        lost = "the tools of a chat"
    if lost:
        raise UserError(
            f"the model's chat template does not render {lost}",
            "remove the tools, or use a model that can call tools",
        )
    return text


def _is_in(said: str, text: str) -> bool:
    """Whether a text has what a tool said, as it is or as JSON."""
    return any(
        form in text for form in (said, json.dumps(said)[1:-1], json.dumps(said, ensure_ascii=False)[1:-1])
    )


def encode(tokenizer: PreTrainedTokenizerBase, text: str) -> list[int]:
    """Token ids of text from :func:`render`, or of a completion: nothing is added at its ends."""
    ids: list[int] = tokenizer.encode(text, add_special_tokens=False)
    return ids


def end_of_turn(tokenizer: PreTrainedTokenizerBase) -> str:
    """What ends a completion: the special token that the chat template puts after an answer, else eos.

    Raises :class:`UserError` where there is neither, and for a template of another model: one that ends an
    answer with what looks like a token, and is none of this tokenizer's.
    """
    return answer_end(tokenizer).token


@dataclass(frozen=True)
class AnswerEnd:
    """What a template puts behind an answer."""

    token: str
    """The token at which generation ends."""
    generated: str
    """What is generated behind the answer: the token, and what stands before it."""
    after: str
    """All that the template writes behind the last answer of a chat."""


def answer_end(tokenizer: PreTrainedTokenizerBase) -> AnswerEnd:
    """How answers end. Raises :class:`UserError` as :func:`end_of_turn` does."""
    return _answer_end(tokenizer, str(tokenizer.chat_template or ""), str(tokenizer.eos_token or ""))


@lru_cache(maxsize=4)  # asked for every row, and a tokenizer lists all its added tokens anew each time
def _answer_end(tokenizer: PreTrainedTokenizerBase, template: str, eos: str) -> AnswerEnd:
    after = ""
    if template:
        chat = [Message(role="user", content=_QUESTION), Message(role="assistant", content=_ANSWER)]
        _, found, after = apply_template(tokenizer, chat, add_generation_prompt=False).rpartition(_ANSWER)
        if found:
            tokens = special_tokens(tokenizer, after)
            # Some templates end a whole chat with one more token, which no answer before the last has.
            more = [*chat, Message(role="user", content=_QUESTION)]
            _, _, amid = apply_template(tokenizer, more, add_generation_prompt=True).rpartition(_ANSWER)
            shared = special_tokens(tokenizer, common_start(after, amid))
            if tokens:
                token = shared[-1] if shared else tokens[0]
                return AnswerEnd(token, after[: after.index(token) + len(token)], after)
            looks_like_one = _TOKEN.match(after.strip())
            if looks_like_one and looks_like_one[0] != eos:
                raise UserError(
                    f"the chat template ends an answer with {looks_like_one[0]}, which is not a token of the "
                    "tokenizer: the template belongs to another model",
                    "use the model's own chat template, or add the token to the tokenizer and the model",
                )
    if not eos:
        raise UserError(
            "the tokenizer has no end-of-sequence token, and its chat template ends a turn without a token",
            "set eos_token in the model's tokenizer_config.json",
        )
    return AnswerEnd(eos, eos, after)


def end_of_call(tokenizer: PreTrainedTokenizerBase, chat: str = "") -> str:
    """What ends an answer that calls tools, of some models a token of its own. ``chat`` is the text of a chat
    that ends with such an answer; left out, a small one."""
    end, chat = answer_end(tokenizer), chat or _called(tokenizer, str(tokenizer.chat_template or ""))
    tokens = special_tokens(tokenizer, chat) if chat and not chat.endswith(end.after) else []
    return tokens[-1] if tokens else end.token


@lru_cache(maxsize=4)
def _called(tokenizer: PreTrainedTokenizerBase, template: str) -> str:
    """A chat that ends with a call of a tool; empty where the template writes none."""
    call = ToolCall(id=CALL_ID, function=FunctionCall(name=_ANSWER, arguments={"name": _ANSWER}))
    chat = [Message(role="user", content=_QUESTION), Message(role="assistant", tool_calls=[call])]
    try:
        text = apply_template(tokenizer, chat, add_generation_prompt=False) if template else ""
    except UserError:
        return ""
    return text if _ANSWER in text else ""


def common_start(first: str, second: str) -> str:
    """What two texts begin with alike."""
    differs = (i for i, (one, other) in enumerate(zip(first, second, strict=False)) if one != other)
    return first[: next(differs, min(len(first), len(second)))]


def special_tokens(tokenizer: PreTrainedTokenizerBase, text: str) -> list[str]:
    """The added tokens in a text, in their order."""
    added = tokenizer.added_tokens_decoder
    found = [added[i].content for i in encode(tokenizer, text) if i in added]
    return [token for token in found if token in text]  # not what stands for text that it does not know


def without_special_tokens(tokenizer: PreTrainedTokenizerBase, text: str) -> str:
    """A decoded text without the tokens that decoding can leave out."""
    special = [token.content for token in tokenizer.added_tokens_decoder.values() if token.special]
    return re.sub("|".join(map(re.escape, sorted(special, key=len, reverse=True))) or r"(?!)", "", text)


def stop_token_ids(tokenizer: PreTrainedTokenizerBase, generation_config: GenerationConfig) -> list[int]:
    """Every token at which generation ends: the end of a turn and of a call, the tokenizer's end of sequence,
    and what the model's own ``generation_config`` names."""
    named: Any = generation_config.eos_token_id
    ends = [end_of_turn(tokenizer), end_of_call(tokenizer)]
    ids = [*(i for end in ends for i in encode(tokenizer, end)), tokenizer.eos_token_id]
    ids += named if isinstance(named, list) else [named]
    return sorted({i for i in ids if isinstance(i, int)})


def _leading_token(tokenizer: PreTrainedTokenizerBase) -> str:
    """The token that this tokenizer puts before any text, as a text; empty if it puts none."""
    ids = tokenizer.encode("")
    return str(tokenizer.bos_token) if ids[:1] == [tokenizer.bos_token_id] and ids else ""


def apply_template(
    tokenizer: PreTrainedTokenizerBase,
    messages: list[Message],
    *,
    add_generation_prompt: bool,
    tools: Tools = None,
) -> str:
    """What the tokenizer's chat template writes of ``messages``.

    Raises :class:`UserError` where it refuses them, or fails on them.
    """
    try:
        return _written(
            tokenizer,
            messages,
            tools,
            add_generation_prompt=add_generation_prompt,
            forms=_forms(tokenizer, str(tokenizer.chat_template)),
        )
    except _TEMPLATE_FAILURES as error:
        said = str(error) if isinstance(error, TemplateError) else f"{type(error).__name__}: {error}"
        said = said if len(said) <= _SHOWN else f"{said[:_SHOWN]}…"
        raise UserError(
            f"the model's chat template refuses a chat: {said}",
            "change the chat, or the model's chat template",
        ) from error


@dataclass(frozen=True)
class _Forms:
    """In which form a template wants what is not a text alone. A server finds out as well."""

    parts: bool = False
    """Contents as lists of parts, as templates do that also know pictures."""
    texts: bool = False
    """Arguments of calls as texts with JSON in them."""


@lru_cache(maxsize=4)
def _forms(tokenizer: PreTrainedTokenizerBase, template: str) -> _Forms:  # noqa: ARG001 - a part of the key
    asked = Message(role="user", content=_QUESTION)
    function = FunctionCall(name=_ANSWER, arguments={"name": _ANSWER})
    called = Message(role="assistant", tool_calls=[ToolCall(id=CALL_ID, function=function)])

    def writes(messages: list[Message], said: str, forms: _Forms) -> bool:
        try:
            return said in _written(tokenizer, messages, None, add_generation_prompt=False, forms=forms)
        except _TEMPLATE_FAILURES:
            return False

    in_parts = _Forms(parts=True)
    forms = (
        in_parts
        if not writes([asked], _QUESTION, _Forms()) and writes([asked], _QUESTION, in_parts)
        else _Forms()
    )
    in_texts = replace(forms, texts=True)
    chat = [asked, called]
    return in_texts if not writes(chat, _ANSWER, forms) and writes(chat, _ANSWER, in_texts) else forms


def _written(
    tokenizer: PreTrainedTokenizerBase,
    messages: list[Message],
    tools: Tools,
    *,
    add_generation_prompt: bool,
    forms: _Forms,
) -> str:
    return str(
        tokenizer.apply_chat_template(
            [_turn(message, forms) for message in messages],
            tools=None if tools is None else list(tools),
            tokenize=False,
            add_generation_prompt=add_generation_prompt,
            chat_template=_without_clock(str(tokenizer.chat_template)),
        )
    )


def _turn(message: Message, forms: _Forms) -> dict[str, Any]:
    """A message as templates expect it: like OpenAI's, but with the arguments of calls as a mapping."""
    turn = message.model_dump(exclude_none=True)
    if forms.parts:
        turn["content"] = [{"type": "text", "text": message.content}]
    if forms.texts:
        for call in turn.get("tool_calls", ()):
            call["function"]["arguments"] = json.dumps(call["function"]["arguments"])
    return turn


@lru_cache(maxsize=4)
def _without_clock(template: str) -> str:
    """The template with a fixed date where it asks for that of today. What it is told is data, so that no
    function of ours could take the place of the clock."""
    return _ASKS_FOR_DATE.sub(lambda asked: repr(TODAY.strftime(asked["format"])), template)
