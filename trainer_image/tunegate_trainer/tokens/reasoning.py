"""Separate a model's reasoning from its answer, by the marks that its chat template puts around reasoning."""

import re
from dataclasses import dataclass
from functools import lru_cache

from transformers import PreTrainedTokenizerBase

from tunegate_api.judging.golden import FunctionCall, Message, ToolCall
from tunegate_trainer.process.errors import UserError
from tunegate_trainer.tokens.chat import CALL_ID, apply_template, common_prefix

_QUESTION, _REASONING, _ANSWER = "TUNEGATE-QUESTION", "TUNEGATE-REASONING", "TUNEGATE-ANSWER"
_ASKED = Message(role="user", content=_QUESTION)
_SAID = Message(role="assistant", content=_ANSWER)
_MARKER = re.compile(r"(<[^<>\s]+>|\[[^\[\]\s]+\])\Z")
"""A tag at the end of a text, such as ``<think>`` or ``[THINK]``."""
_USUAL = (("<think>", "</think>"), ("<|channel>thought", "<channel|>"), ("[THINK]", "[/THINK]"))
"""Known marks of models whose templates cut reasoning out of earlier answers."""
_REASONING_NAMES = re.compile("think|thought|reason", re.IGNORECASE)
"""Words in the names of reasoning marks."""


@dataclass(frozen=True)
class Reasoning:
    """The marks around a model's reasoning, without white space at their ends."""

    opens: str
    closes: str
    """All text between the reasoning and the answer."""
    closes_before_call: str
    """All text between the reasoning and a tool call, or the part of it that ``closes`` also starts with."""
    skipped: str = ""
    """Text before an answer without reasoning, unless it is empty reasoning, which ends with ``closes``."""


def reasoning_of(tokenizer: PreTrainedTokenizerBase) -> Reasoning | None:
    """Return the marks that the chat template puts around reasoning. None if it has no reasoning."""
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
        before_call = common_prefix(closes, _between_reasoning_and_call(tokenizer)) or closes
        skipped = "" if skipped.endswith(closes) else skipped
        return Reasoning(opens, closes, before_call, skipped) if closes else None
    # The template drops earlier reasoning. It may open reasoning in the generation prompt, or cut it out of
    # the content of earlier answers.
    opens = _last_marker(asked)
    closes = next((text for text in _counterparts(opens) if text in template), "")
    if closes and _REASONING_NAMES.search(opens):
        return Reasoning(opens, closes, closes)
    for opens, closes in _USUAL:
        inline = _SAID.model_copy(update={"content": f"{opens}{_REASONING}{closes}{_ANSWER}"})
        cut = apply_template(tokenizer, [_ASKED, inline], add_generation_prompt=False)
        if _REASONING not in cut and _ANSWER in cut:
            return Reasoning(opens, closes, closes)
    named = ((opens, closes) for opens, closes in _USUAL if opens in template and closes in template)
    return next((Reasoning(opens, closes, closes) for opens, closes in named), None)


def _between_reasoning_and_call(tokenizer: PreTrainedTokenizerBase) -> str:
    """Return the text after reasoning that precedes a tool call. Empty if the template renders no calls."""
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
    """Return the possible closing marks for the opening mark ``marker``."""
    if not marker:
        return []
    changed = [marker[0] + "/" + marker[1:], marker.replace("START", "END"), marker.replace("begin", "end")]
    return [text for text in changed if text != marker]


def split_reasoning(tokenizer: PreTrainedTokenizerBase, prompt: str, answer: Message) -> Message:
    """Move reasoning at the start of an answer's content to its ``reasoning_content``.

    ``prompt`` is the rendered text of the prompt, which may already open the reasoning.
    """
    form = reasoning_of(tokenizer)
    if form is None or answer.reasoning_content is not None or form.closes not in answer.content:
        return answer
    thought, _, said = answer.content.partition(form.closes)
    thought = thought.strip()
    if not (form.opens and thought.startswith(form.opens)) and not opens_thought(prompt, form):
        return answer  # it only mentions the mark
    thought = thought.removeprefix(form.opens).strip()
    return answer.model_copy(update={"reasoning_content": thought or None, "content": said.strip()})


def opens_thought(prompt: str, form: Reasoning | None) -> bool:
    """Return whether a rendered prompt opens reasoning, which the answer has to continue and close."""
    return form is not None and bool(form.opens) and prompt.rstrip().endswith(form.opens)


def without_reasoning(form: Reasoning, prompt: str, output: str) -> str:
    """Remove the reasoning from the output after ``prompt``, which still has its special tokens.

    Returns an empty text if the reasoning was never closed.
    """
    for closes in (form.closes, form.closes_before_call):
        _, closed, answer = output.partition(closes)
        if closed:
            return answer
    if opens_thought(prompt, form) or (form.opens and output.lstrip().startswith(form.opens)):
        return ""
    return output.lstrip().removeprefix(form.skipped) if form.skipped else output
