"""Where a model's reasoning ends and its answer begins, by what the chat template writes around the two."""

import re
from dataclasses import dataclass
from functools import lru_cache

from transformers import PreTrainedTokenizerBase

from tunegate_api.judging.golden import FunctionCall, Message, ToolCall
from tunegate_trainer.process.errors import UserError
from tunegate_trainer.tokens.chat import CALL_ID, apply_template, common_start

_QUESTION, _REASONING, _ANSWER = "TUNEGATE-QUESTION", "TUNEGATE-REASONING", "TUNEGATE-ANSWER"
_ASKED = Message(role="user", content=_QUESTION)
_SAID = Message(role="assistant", content=_ANSWER)
_MARKER = re.compile(r"(<[^<>\s]+>|\[[^\[\]\s]+\])\Z")
"""What ends a text and looks like the beginning of a part."""
_USUAL = (("<think>", "</think>"), ("<|channel>thought", "<channel|>"), ("[THINK]", "[/THINK]"))
"""Marks of models whose templates cut them out of earlier answers."""
_OF_THOUGHTS = re.compile("think|thought|reason", re.IGNORECASE)
"""What the markers of thoughts are named by."""


@dataclass(frozen=True)
class Reasoning:
    """The texts around a model's reasoning, white space at their ends apart."""

    opens: str
    closes: str
    """Ends with what the answer begins with."""
    closes_before_call: str
    """The same where a call of a tool follows; a part of ``closes`` where the two begin alike."""
    skipped: str = ""
    """What stands before an answer that nothing was thought for, unless it is a thought that is closed."""


def reasoning_of(tokenizer: PreTrainedTokenizerBase) -> Reasoning | None:
    """How the chat template writes reasoning. None where it knows none."""
    template = str(tokenizer.chat_template or "")
    return _reasoning(tokenizer, template) if template else None


@lru_cache(maxsize=4)
def _reasoning(tokenizer: PreTrainedTokenizerBase, template: str) -> Reasoning | None:
    asked = apply_template(tokenizer, [_ASKED], add_generation_prompt=True)
    start = asked.rfind(_QUESTION)
    thought = _SAID.model_copy(update={"reasoning_content": _REASONING})
    try:
        written = apply_template(tokenizer, [_ASKED, thought], add_generation_prompt=False)
    except UserError:
        return None
    plain = apply_template(tokenizer, [_ASKED, _SAID], add_generation_prompt=False)
    skipped = plain[len(asked) : plain.rfind(_ANSWER)].strip() if plain.startswith(asked) else ""
    before, found, after = written[start:].partition(_REASONING)
    if found and _ANSWER in after:
        prompt = asked[start:]
        opens = before[len(prompt) :] if before.startswith(prompt) else ""
        opens = opens.strip() or _last_marker(before)
        closes = after[: after.index(_ANSWER)].strip()
        before_call = common_start(closes, _behind_thought_of_call(tokenizer)) or closes
        skipped = "" if skipped.endswith(closes) else skipped
        return Reasoning(opens, closes, before_call, skipped) if closes else None
    # A template that drops what was thought opens a thought for the next answer, or cuts it out of a text.
    opens = _last_marker(asked)
    closes = next((text for text in _counterparts(opens) if text in template), "")
    if closes and _OF_THOUGHTS.search(opens):
        return Reasoning(opens, closes, closes)
    for opens, closes in _USUAL:
        inline = _SAID.model_copy(update={"content": f"{opens}{_REASONING}{closes}{_ANSWER}"})
        cut = apply_template(tokenizer, [_ASKED, inline], add_generation_prompt=False)
        if _REASONING not in cut and _ANSWER in cut:
            return Reasoning(opens, closes, closes)
    named = ((opens, closes) for opens, closes in _USUAL if opens in template and closes in template)
    return next((Reasoning(opens, closes, closes) for opens, closes in named), None)


def _behind_thought_of_call(tokenizer: PreTrainedTokenizerBase) -> str:
    """What stands behind a thought that a call of a tool follows; empty where the template knows no calls."""
    call = ToolCall(id=CALL_ID, function=FunctionCall(name=_ANSWER))
    thought = Message(role="assistant", reasoning_content=_REASONING, tool_calls=[call])
    try:
        written = apply_template(tokenizer, [_ASKED, thought], add_generation_prompt=False)
    except UserError:
        return ""
    _, _, after = written.partition(_REASONING)
    return after.lstrip() if _ANSWER in after else ""


def _last_marker(text: str) -> str:
    found = _MARKER.search(text.rstrip())
    return found[0] if found else ""


def _counterparts(marker: str) -> list[str]:
    """What may close that which ``marker`` opens."""
    if not marker:
        return []
    changed = [marker[0] + "/" + marker[1:], marker.replace("START", "END"), marker.replace("begin", "end")]
    return [text for text in changed if text != marker]


def split_reasoning(tokenizer: PreTrainedTokenizerBase, prompt: str, answer: Message) -> Message:
    """An answer to the text of a ``prompt``, with the reasoning apart that stands before it in its text."""
    form = reasoning_of(tokenizer)
    if form is None or answer.reasoning_content is not None or form.closes not in answer.content:
        return answer
    thought, _, said = answer.content.partition(form.closes)
    thought = thought.strip()
    if not (form.opens and thought.startswith(form.opens)) and not opens_thought(prompt, form):
        return answer  # which speaks of the mark
    thought = thought.removeprefix(form.opens).strip()
    return answer.model_copy(update={"reasoning_content": thought or None, "content": said.strip()})


def opens_thought(prompt: str, form: Reasoning | None) -> bool:
    """Whether a prompt ends with a thought that the answer has to go on with, and to close."""
    return form is not None and bool(form.opens) and prompt.rstrip().endswith(form.opens)


def without_reasoning(form: Reasoning, prompt: str, output: str) -> str:
    """The answer in what was generated after ``prompt``, special tokens included; empty if a thought was
    never closed."""
    for closes in (form.closes, form.closes_before_call):
        _, closed, answer = output.partition(closes)
        if closed:
            return answer
    if opens_thought(prompt, form) or (form.opens and output.lstrip().startswith(form.opens)):
        return ""
    return output.lstrip().removeprefix(form.skipped) if form.skipped else output
