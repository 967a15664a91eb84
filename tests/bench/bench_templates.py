"""Compare training text with the chat templates in TRL's package: ``make bench-templates``.

Prints a row for each original template. It shows for which chats the trained text, prompt and answer, equals
the text that the template renders for the whole chat. The chats are a question, three turns, a system turn, a
tool call and the turn after a tool call, each with reasoning on and off. The same is shown for a naive
rendering: prompt, answer and end token. Writes build/bench/templates.json.
"""

import json
import os
import sys
import warnings
from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from datetime import datetime, tzinfo
from importlib.metadata import version
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parents[2]
sys.path[:0] = [str(ROOT), str(ROOT / "tests")]
os.environ["HF_HUB_OFFLINE"] = "1"
os.environ["TRANSFORMERS_VERBOSITY"] = "error"

from measures import Measure, run
from transformers import PreTrainedTokenizerBase
from transformers.utils import chat_template_utils

from support.model_templates import model_templates, tokenizer_for
from tunegate_api.messages import Message
from tunegate_trainer.process.errors import UserError
from tunegate_trainer.tokens.answers import answer_after, example_tokens
from tunegate_trainer.tokens.chat import TODAY, end_of_turn, render, template_arguments, with_arguments
from tunegate_trainer.tokens.reasoning import opens_reasoning, reasoning_marks, without_reasoning

QUESTION = [Message(role="user", content="mug to Oslo?")]
CALL = Message.model_validate(
    {
        "role": "assistant",
        "tool_calls": [{"id": "call_0001", "function": {"name": "weather", "arguments": {"city": "Oslo"}}}],
    }
)
TWO_CALLS = CALL.model_copy(update={"tool_calls": 2 * (CALL.tool_calls or [])})
TOOL_RESULT = Message(role="tool", content='{"temp": -3}', tool_call_id="call_0001", name="weather")
TOOL = {
    "type": "function",
    "function": {
        "name": "weather",
        "description": "The weather",
        "parameters": {"type": "object", "properties": {"city": {"type": "string", "description": "where"}}},
    },
}
ANSWER = Message(role="assistant", content="please send 2")
THOUGHT = ANSWER.model_copy(update={"reasoning_content": "they order lamps"})


@dataclass(frozen=True)
class Chat:
    """A prompt, and the answer that a model is trained on."""

    prompt: list[Message]
    answer: Message = ANSWER
    tools: list[dict[str, Any]] | None = None
    arguments: dict[str, Any] = field(default_factory=dict)


CHATS = {
    "question": Chat(QUESTION),
    "three turns": Chat([*QUESTION, Message(role="assistant", content="yes"), *QUESTION]),
    "system": Chat([Message(role="system", content="be brief"), *QUESTION]),
    "call": Chat(QUESTION, CALL, [TOOL]),
    "after a call": Chat([*QUESTION, CALL, TOOL_RESULT], ANSWER, [TOOL]),
    "two calls": Chat(QUESTION, TWO_CALLS, [TOOL]),
    "thought, call": Chat(QUESTION, CALL.model_copy(update={"reasoning_content": "they ask"}), [TOOL]),
    "reasoning": Chat(QUESTION, THOUGHT),
    "thinking on": Chat(QUESTION, THOUGHT, arguments={"enable_thinking": True}),
    "thinking off": Chat(QUESTION, arguments={"enable_thinking": False}),
}
SAME, READ, WARNED, REFUSED, OTHER, NONE = "same", "read", "warned", "refused", "OTHER", "-"

LEGEND = f"""
{SAME}: the text that the template writes
{READ}: what a server with a reasoning parser reads as the answer, where the prompt opens a thought that the
  history drops or writes otherwise
{WARNED}: the text that the template writes without the reasoning, which it does not write, with a warning
{REFUSED}: before training, with the reason below
{NONE}: not a feature of the template
"""


class Clock(datetime):
    """A clock with a fixed date for templates that render the date. Training also uses a fixed date."""

    @classmethod
    def now(cls, tz: tzinfo | None = None) -> "Clock":
        return cls(TODAY.year, TODAY.month, TODAY.day, tzinfo=tz)


def main() -> int:
    return run(
        "templates", {"templates": _measures}, f"trl {version('trl')}, transformers {version('transformers')}"
    )


def _measures() -> Iterator[Measure]:
    warnings.simplefilter("ignore")
    chat_template_utils.datetime = Clock
    templates = model_templates()
    print(f"{'template':<24}" + "".join(f"{name:<14}" for name in CHATS))
    found, naive, why = {}, {}, []
    for name, template in templates.items():
        for chat_name, chat in CHATS.items():
            key = name, chat_name
            found[key], reason = _compared(template, chat)
            naive[key] = _naively(template, chat)
            why += [f"{name}, {chat_name}: {reason}"] if reason else []
        print(f"{name:<24}" + "".join(f"{found[name, chat]:<14}" for chat in CHATS))
    print(LEGEND)
    print("\n".join(why), end="\n\n")
    every = len(templates)
    for chat_name in CHATS:
        outcomes = [found[name, chat_name] for name in templates]
        applies = [
            naive[name, chat_name] for name in templates if found[name, chat_name] not in (REFUSED, NONE)
        ]
        peer = f"{applies.count(True)} by prompt + answer + end"
        good = sum(outcomes.count(outcome) for outcome in (SAME, READ, WARNED))
        yield Measure(
            f"{chat_name}: trained as served", good, f"of {len(applies)}", f">= {len(applies)}", peer
        )
    plain = [name for name in templates if found[name, "question"] == REFUSED]
    yield Measure("templates refused for a question", len(plain), f"of {every}", "<= 3")
    yield Measure("texts that differ otherwise", list(found.values()).count(OTHER), "", "<= 0")


def _compared(template: str, chat: Chat) -> tuple[str, str]:
    """Return how the trained text compares with the template's text, and the reason if the chat is
    refused."""
    if not chat.arguments.keys() <= template_arguments(template, {}):
        return NONE, ""
    plain, tokenizer = tokenizer_for(template), tokenizer_for(with_arguments(template, chat.arguments))
    if chat.answer.reasoning_content and reasoning_marks(tokenizer) is None:
        return NONE, ""
    try:
        prompt_ids, completion_ids = example_tokens(tokenizer, chat.prompt, chat.answer, chat.tools)
    except UserError as error:
        return REFUSED, str(error)
    prompt, completion = tokenizer.decode(prompt_ids), tokenizer.decode(completion_ids)
    asked, whole = (_written(plain, chat, is_answered=answered) for answered in (False, True))
    if asked is None or whole is None or prompt != asked:
        return OTHER, ""
    if not answer_after(tokenizer, chat.prompt, chat.answer, chat.tools).has_reasoning:
        silent = chat.answer.model_copy(update={"reasoning_content": None})
        whole = _written(plain, replace(chat, answer=silent), is_answered=True)
        return WARNED if whole and _starts_with(whole, prompt + completion, tokenizer) else OTHER, ""
    if _starts_with(whole, prompt + completion, tokenizer):
        return SAME, ""
    form = reasoning_marks(tokenizer)
    if form and opens_reasoning(prompt, form):
        text = completion.removesuffix(end_of_turn(tokenizer))
        read = without_reasoning(form, prompt, text)
        content = chat.answer.content
        if read.strip() == content if content else read.strip() in whole:
            return READ, ""
    return OTHER, ""


def _starts_with(whole: str, trained: str, tokenizer: PreTrainedTokenizerBase) -> bool:
    """Return whether a chat starts with the trained text, followed only by white space or one end token."""
    ends = [tokenizer.eos_token, end_of_turn(tokenizer)]
    if whole.startswith(trained):
        return whole[len(trained) :].strip() in ("", *ends)
    return trained.removesuffix(str(tokenizer.eos_token)) == whole  # a template without end-of-turn tokens


def _naively(template: str, chat: Chat) -> bool:
    """Return whether generation prompt, answer and end token together are the text that the template
    renders."""
    if chat.answer.tool_calls:
        return False
    tokenizer = tokenizer_for(with_arguments(template, chat.arguments))
    try:
        trained = render(tokenizer, chat.prompt, chat.tools) + chat.answer.content + end_of_turn(tokenizer)
    except UserError:
        return False
    whole = _written(tokenizer_for(template), chat, is_answered=True)
    return whole is not None and _starts_with(whole, trained, tokenizer)


def _written(tokenizer: PreTrainedTokenizerBase, chat: Chat, *, is_answered: bool) -> str | None:
    """Return the text that transformers renders, with message contents and tool arguments in a form that the
    template accepts."""
    turns = [*chat.prompt, chat.answer] if is_answered else chat.prompt
    plain = [turn.model_dump(exclude_none=True) for turn in turns]
    parts = [{**turn, "content": [{"type": "text", "text": turn["content"]}]} for turn in plain]
    texts = [{**turn, **_with_texts(turn)} for turn in plain]
    for form in (plain, parts, texts):
        try:
            text = tokenizer.apply_chat_template(
                form,
                tools=chat.tools,
                tokenize=False,
                add_generation_prompt=not is_answered,
                **chat.arguments,
            )
        except Exception:  # noqa: BLE001, S112 - a template is a program, which may raise anything
            continue
        if QUESTION[0].content in text:
            return str(text)
    return None


def _with_texts(turn: dict[str, Any]) -> dict[str, Any]:
    """Return the field ``tool_calls`` of a turn, with the arguments as JSON strings; empty if there is
    none."""
    calls = [
        {**call, "function": {**call["function"], "arguments": json.dumps(call["function"]["arguments"])}}
        for call in turn.get("tool_calls", ())
    ]
    return {"tool_calls": calls} if calls else {}


if __name__ == "__main__":
    sys.exit(main())
