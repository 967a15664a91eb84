"""Render chats as text and encode them as tokens, in the same way for training and evaluation."""

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

from tunegate_api.messages import FunctionCall, Message, ToolCall
from tunegate_api.meta import shorten
from tunegate_trainer.process.errors import UserError

Tools = Sequence[dict[str, Any]] | None
"""Functions that a model may call, in OpenAI's format."""
TODAY = date(2026, 1, 1)
"""The date that chat templates get as the current date. It is fixed, so that rows and cases are rendered in
the same way in a resumed run, and in a later job that is compared with this job."""
_DATE_CALL = re.compile(
    r"""strftime_now\(\s*(?:format\s*=\s*)?(?P<quote>['"])(?P<format>.*?)(?P=quote)\s*\)"""
)
CALL_ID = "call00001"
"""The id for tool calls that have no id. Mistral's templates accept only ids of nine letters and digits."""
_QUESTION, _ANSWER = "TUNEGATE-QUESTION", "TUNEGATE-ANSWER"
_TOKEN = re.compile(r"<\|?[^<>|\s]+\|?>")
"""The usual form of special tokens in chats."""
_SHOWN = 300
"""Maximum length of a template's error message in our error, in characters."""
_GENERATION_TAG = re.compile(r"\{%-?\s*(end)?generation\s*-?%\}")
"""Matches ``{% generation %}`` tags, an extension of transformers with which templates mark assistant turns.
Plain Jinja does not know these tags."""
_USUAL_VARIABLES = frozenset(
    (
        *("add_generation_prompt", "continue_final_message", "documents", "messages", "tools"),
        *("bos_token", "eos_token", "pad_token", "unk_token", "raise_exception", "strftime_now"),
    )
)
_TEMPLATE_FAILURES = (
    *(TemplateError, ArithmeticError, AttributeError, LookupError),
    *(RecursionError, TypeError, ValueError),
)
"""Exceptions that a template, which is a small program, can raise for a chat that it does not support."""


def load_tokenizer(
    folder: Path, base_model: Path | None = None, arguments: Mapping[str, Any] | None = None
) -> PreTrainedTokenizerBase:
    """Load the tokenizer in ``folder``, with ``arguments`` in its chat template, see :func:`with_arguments`.

    The class of a tokenizer depends on the model's configuration. The folder of an adapter has no
    configuration, so pass the folder of its base model as ``base_model``. If the model has several chat
    templates, the template ``default`` is used. Raises :class:`UserError` if none of them is called
    ``default``.
    """
    config = {"config": AutoConfig.from_pretrained(base_model, trust_remote_code=False)} if base_model else {}
    tokenizer: PreTrainedTokenizerBase = AutoTokenizer.from_pretrained(
        folder, trust_remote_code=False, **config
    )
    templates = tokenizer.chat_template
    if isinstance(templates, dict):
        if "default" not in templates:
            raise UserError(
                f"the model has the chat templates {', '.join(sorted(templates))}, but none called default",
                "save the template to train with as chat_template.jinja in the model's folder",
            )
        tokenizer.chat_template = templates["default"]
    if arguments and tokenizer.chat_template:
        tokenizer.chat_template = with_arguments(tokenizer.chat_template, arguments)
    if tokenizer.pad_token is None:
        tokenizer.pad_token = tokenizer.eos_token
    return tokenizer


def with_arguments(template: str, arguments: Mapping[str, Any]) -> str:
    """Return a chat template in which ``arguments`` are the defaults, so that servers need no options for
    them.

    The values of the arguments are strings, numbers or booleans.
    """
    defaults = _defaults(arguments)
    return template if template.startswith(defaults) else defaults + template


def _defaults(arguments: Mapping[str, Any]) -> str:
    # One line each, because the first block of a template may depend on being at the start of a line.
    values = {name: json.dumps(arguments[name], ensure_ascii=False) for name in sorted(arguments)}
    return "".join(
        f"{{%- if {name} is not defined %}}{{%- set {name} = {value} %}}{{%- endif %}}\n"
        for name, value in values.items()
    )


def template_arguments(template: str, given: Mapping[str, Any]) -> set[str]:
    """Return the names of the arguments that a chat template reads, apart from standard ones such as
    ``messages``.

    ``given`` are the arguments that :func:`with_arguments` added to the template.
    """
    source = _GENERATION_TAG.sub("", template.removeprefix(_defaults(given)))
    environment = Environment(extensions=["jinja2.ext.loopcontrols"])  # noqa: S701 - it is parsed, not rendered
    parsed = environment.parse(source)
    # A variable that the template sets is not an argument, unless the template also tests it or gives it a
    # default, as in `x is defined` and `x | default(1)`.
    set_by_template = {name.name for name in parsed.find_all(nodes.Name) if name.ctx == "store"}
    tested_nodes = [
        node.node
        for node in parsed.find_all((nodes.Test, nodes.Filter))
        if isinstance(node, nodes.Test) or node.name == "default"
    ]
    tested = {node.name for node in tested_nodes if isinstance(node, nodes.Name)}
    return find_undeclared_variables(parsed) - (set_by_template - tested) - _USUAL_VARIABLES


def render(tokenizer: PreTrainedTokenizerBase, messages: list[Message], tools: Tools = None) -> str:
    """Return the text of a prompt, after which the model generates a completion.

    With a chat template, the text is the rendered chat with the generation prompt. Without a template, it is
    the content of the only message. The text contains all special tokens, so encode it with :func:`encode`.
    ``tools`` are functions that the model may call, in OpenAI's format.

    Raises :class:`UserError` if the template refuses the messages, fails on them, or drops tools or their
    results. Also raises it if the model has no template and the chat has several turns or tools.
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


def _is_in(result: str, text: str) -> bool:
    """Return whether ``text`` contains the ``result`` of a tool, either unchanged or escaped as in JSON."""
    return any(
        form in text
        for form in (result, json.dumps(result)[1:-1], json.dumps(result, ensure_ascii=False)[1:-1])
    )


def encode(tokenizer: PreTrainedTokenizerBase, text: str) -> list[int]:
    """Return the token ids of a text from :func:`render`, or of a completion. No special tokens are added."""
    ids: list[int] = tokenizer.encode(text, add_special_tokens=False)
    return ids


@dataclass(frozen=True)
class AnswerEnd:
    """The text that a template renders after an answer."""

    token: str
    """The token at which generation ends."""
    generated: str
    """The part that a model generates: everything after the answer up to and including ``token``."""
    after: str
    """Everything that the template renders after the last answer of a chat."""


def answer_end(tokenizer: PreTrainedTokenizerBase) -> AnswerEnd:
    """Return the text and the token with which answers end: the token that the chat template puts after an
    answer, else EOS.

    Raises :class:`UserError` if there is neither. Also raises it if the template ends answers with a text
    that looks like a special token but is not a token of this tokenizer, because the template then belongs to
    another model.
    """
    return _answer_end(tokenizer, str(tokenizer.chat_template or ""), str(tokenizer.eos_token or ""))


@lru_cache(maxsize=4)  # called for every row, and a tokenizer builds the list of added tokens each time
def _answer_end(tokenizer: PreTrainedTokenizerBase, template: str, eos: str) -> AnswerEnd:
    after = ""
    if template:
        chat = [Message(role="user", content=_QUESTION), Message(role="assistant", content=_ANSWER)]
        _, found, after = apply_template(tokenizer, chat, add_generation_prompt=False).rpartition(_ANSWER)
        if found:
            tokens = special_tokens(tokenizer, after)
            # Some templates put one more token at the end of a chat, which earlier answers do not have.
            longer = [*chat, Message(role="user", content=_QUESTION)]
            _, _, between = apply_template(tokenizer, longer, add_generation_prompt=True).rpartition(_ANSWER)
            shared = special_tokens(tokenizer, common_prefix(after, between))
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
    """Return the token that ends an answer with tool calls. Some models use a special token for this.

    ``chat`` is the rendered text of a chat that ends with tool calls. By default, a minimal chat is rendered.
    """
    end, chat = answer_end(tokenizer), chat or _chat_with_call(tokenizer, str(tokenizer.chat_template or ""))
    tokens = special_tokens(tokenizer, chat) if chat and not chat.endswith(end.after) else []
    return tokens[-1] if tokens else end.token


@lru_cache(maxsize=4)
def _chat_with_call(tokenizer: PreTrainedTokenizerBase, template: str) -> str:
    """Render a chat that ends with a tool call. Returns an empty text if the template does not render tool
    calls."""
    call = ToolCall(id=CALL_ID, function=FunctionCall(name=_ANSWER, arguments={"name": _ANSWER}))
    chat = [Message(role="user", content=_QUESTION), Message(role="assistant", tool_calls=[call])]
    try:
        text = apply_template(tokenizer, chat, add_generation_prompt=False) if template else ""
    except UserError:
        return ""
    return text if _ANSWER in text else ""


def common_prefix(first: str, second: str) -> str:
    """Return the longest text that both texts start with."""
    if second.startswith(first):  # much faster than the comparison of characters
        return first
    differs = (i for i, (one, other) in enumerate(zip(first, second, strict=False)) if one != other)
    return first[: next(differs, min(len(first), len(second)))]


def special_tokens(tokenizer: PreTrainedTokenizerBase, text: str) -> list[str]:
    """Return the added tokens in a text, in order."""
    added = tokenizer.added_tokens_decoder
    found = [added[i].content for i in encode(tokenizer, text) if i in added]
    return [token for token in found if token in text]  # not the unknown token


def without_special_tokens(tokenizer: PreTrainedTokenizerBase, text: str) -> str:
    """Remove the special tokens from a decoded text, as decoding with ``skip_special_tokens`` would do."""
    special = [token.content for token in tokenizer.added_tokens_decoder.values() if token.special]
    return re.sub("|".join(map(re.escape, sorted(special, key=len, reverse=True))) or r"(?!)", "", text)


def stop_token_ids(tokenizer: PreTrainedTokenizerBase, generation_config: GenerationConfig) -> list[int]:
    """Return the ids of all tokens at which generation ends.

    These are the end of a turn and of a tool call, the tokenizer's EOS token, and the tokens that the model's
    ``generation_config`` names.
    """
    named: Any = generation_config.eos_token_id
    ends = [answer_end(tokenizer).token, end_of_call(tokenizer)]
    ids = [*(i for end in ends for i in encode(tokenizer, end)), tokenizer.eos_token_id]
    ids += named if isinstance(named, list) else [named]
    return sorted({i for i in ids if isinstance(i, int)})


def _leading_token(tokenizer: PreTrainedTokenizerBase) -> str:
    """Return the text of the BOS token if this tokenizer adds it to every text, else an empty text."""
    ids = tokenizer.encode("")
    return str(tokenizer.bos_token) if ids[:1] == [tokenizer.bos_token_id] and ids else ""


def apply_template(
    tokenizer: PreTrainedTokenizerBase,
    messages: list[Message],
    *,
    add_generation_prompt: bool,
    tools: Tools = None,
) -> str:
    """Render ``messages`` with the tokenizer's chat template.

    Raises :class:`UserError` if the template refuses them or fails on them.
    """
    try:
        return _rendered(
            tokenizer,
            messages,
            tools,
            add_generation_prompt=add_generation_prompt,
            formats=_formats(tokenizer, str(tokenizer.chat_template)),
        )
    except _TEMPLATE_FAILURES as error:
        reason = str(error) if isinstance(error, TemplateError) else f"{type(error).__name__}: {error}"
        raise UserError(
            f"the model's chat template refuses a chat: {shorten(reason, _SHOWN)}",
            "change the chat, or the model's chat template",
        ) from error


@dataclass(frozen=True)
class _Formats:
    """The formats in which a template expects the content of messages and the arguments of tool calls.
    Inference servers detect the same formats."""

    content_parts: bool = False
    """Whether contents are lists of parts, as multimodal templates expect them, instead of strings."""
    json_arguments: bool = False
    """Whether the arguments of tool calls are JSON strings instead of mappings."""


@lru_cache(maxsize=4)
def _formats(tokenizer: PreTrainedTokenizerBase, template: str) -> _Formats:  # noqa: ARG001 - cache key
    question = Message(role="user", content=_QUESTION)
    function = FunctionCall(name=_ANSWER, arguments={"name": _ANSWER})
    call = Message(role="assistant", tool_calls=[ToolCall(id=CALL_ID, function=function)])

    def renders(messages: list[Message], text: str, formats: _Formats) -> bool:
        try:
            return text in _rendered(tokenizer, messages, None, add_generation_prompt=False, formats=formats)
        except _TEMPLATE_FAILURES:
            return False

    with_parts = _Formats(content_parts=True)
    formats = (
        with_parts
        if not renders([question], _QUESTION, _Formats()) and renders([question], _QUESTION, with_parts)
        else _Formats()
    )
    with_json = replace(formats, json_arguments=True)
    chat = [question, call]
    return with_json if not renders(chat, _ANSWER, formats) and renders(chat, _ANSWER, with_json) else formats


def _rendered(
    tokenizer: PreTrainedTokenizerBase,
    messages: list[Message],
    tools: Tools,
    *,
    add_generation_prompt: bool,
    formats: _Formats,
) -> str:
    return str(
        tokenizer.apply_chat_template(
            [_turn(message, formats) for message in messages],
            tools=None if tools is None else list(tools),
            tokenize=False,
            add_generation_prompt=add_generation_prompt,
            chat_template=_without_clock(str(tokenizer.chat_template)),
        )
    )


def _turn(message: Message, formats: _Formats) -> dict[str, Any]:
    """Return a message in OpenAI's format, but with the arguments of tool calls as a mapping. If ``formats``
    asks for it, the content is a list of parts, and the arguments are a JSON string."""
    turn = message.model_dump(exclude_none=True)
    if formats.content_parts:
        turn["content"] = [{"type": "text", "text": message.content}]
    if formats.json_arguments:
        for call in turn.get("tool_calls", ()):
            call["function"]["arguments"] = json.dumps(call["function"]["arguments"])
    return turn


@lru_cache(maxsize=4)
def _without_clock(template: str) -> str:
    """Replace the template's calls of ``strftime_now`` by the text of :data:`TODAY`.

    transformers defines that function itself, so the template has to be changed.
    """
    return _DATE_CALL.sub(lambda call: repr(TODAY.strftime(call["format"])), template)
