"""Separate a model's reasoning from its answer, by the delimiters, such as ``<think>``, that its chat
template puts around reasoning. In this module, a delimiter is called a mark."""

import re
from dataclasses import dataclass
from functools import lru_cache

from transformers import PreTrainedTokenizerBase

from tunegate_api.messages import FunctionCall, Message, ToolCall
from tunegate_trainer.process.errors import UserError
from tunegate_trainer.tokens.chat import CALL_ID, apply_template, common_prefix

_QUESTION, _REASONING, _ANSWER = "TUNEGATE-QUESTION", "TUNEGATE-REASONING", "TUNEGATE-ANSWER"
_QUESTION_TURN = Message(role="user", content=_QUESTION)
_ANSWER_TURN = Message(role="assistant", content=_ANSWER)
_MARKER = re.compile(r"(<[^<>\s]+>|\[[^\[\]\s]+\])\Z")
"""A tag at the end of a text, such as ``<think>`` or ``[THINK]``."""
_USUAL = (("<think>", "</think>"), ("<|channel>thought", "<channel|>"), ("[THINK]", "[/THINK]"))
"""Known delimiters of reasoning, for templates that remove the reasoning of earlier answers."""
_REASONING_NAMES = re.compile("think|thought|reason", re.IGNORECASE)
"""Matches words that occur in the delimiters of reasoning."""


@dataclass(frozen=True)
class ReasoningMarks:
    """The delimiters around a model's reasoning, without white space at their ends."""

    opens: str
    closes: str
    """All text between the reasoning and the answer."""
    closes_before_call: str
    """The longest text with which both ``closes`` and the text between the reasoning and a tool call start.
    The same as ``closes`` if there is no such text, or if the template renders no tool calls."""
    skipped: str = ""
    """Text that the template puts before an answer without reasoning. An empty reasoning block, which ends
    with ``closes``, does not count as such text."""


def reasoning_marks(tokenizer: PreTrainedTokenizerBase) -> ReasoningMarks | None:
    """Return the delimiters that the chat template puts around reasoning, or None if it does not support
    reasoning."""
    template = str(tokenizer.chat_template or "")
    return _reasoning_marks(tokenizer, template) if template else None


@lru_cache(maxsize=4)
def _reasoning_marks(tokenizer: PreTrainedTokenizerBase, template: str) -> ReasoningMarks | None:
    prompt_text = apply_template(tokenizer, [_QUESTION_TURN], add_generation_prompt=True)
    start = prompt_text.rfind(_QUESTION)
    reasoned = _ANSWER_TURN.model_copy(update={"reasoning_content": _REASONING})
    try:
        rendered = apply_template(tokenizer, [_QUESTION_TURN, reasoned], add_generation_prompt=False)
    except UserError:
        return None
    plain = apply_template(tokenizer, [_QUESTION_TURN, _ANSWER_TURN], add_generation_prompt=False)
    skipped = plain[len(prompt_text) : plain.rfind(_ANSWER)].strip() if plain.startswith(prompt_text) else ""
    before, found, after = rendered[start:].partition(_REASONING)
    if found and _ANSWER in after:
        prompt = prompt_text[start:]
        opens = before[len(prompt) :] if before.startswith(prompt) else ""
        opens = opens.strip() or _last_marker(before)
        closes = after[: after.index(_ANSWER)].strip()
        before_call = common_prefix(closes, _between_reasoning_and_call(tokenizer)) or closes
        skipped = "" if skipped.endswith(closes) else skipped
        return ReasoningMarks(opens, closes, before_call, skipped) if closes else None
    # The template drops earlier reasoning. It may open reasoning in the generation prompt, or cut it out of
    # the content of earlier answers.
    opens = _last_marker(prompt_text)
    closes = next((text for text in _counterparts(opens) if text in template), "")
    if closes and _REASONING_NAMES.search(opens):
        return ReasoningMarks(opens, closes, closes)
    for opens, closes in _USUAL:
        inline = _ANSWER_TURN.model_copy(update={"content": f"{opens}{_REASONING}{closes}{_ANSWER}"})
        cut = apply_template(tokenizer, [_QUESTION_TURN, inline], add_generation_prompt=False)
        if _REASONING not in cut and _ANSWER in cut:
            return ReasoningMarks(opens, closes, closes)
    named = ((opens, closes) for opens, closes in _USUAL if opens in template and closes in template)
    return next((ReasoningMarks(opens, closes, closes) for opens, closes in named), None)


def _between_reasoning_and_call(tokenizer: PreTrainedTokenizerBase) -> str:
    """Return the rendered text that follows the reasoning in an answer with a tool call. Returns an empty
    text if the template does not render tool calls."""
    call = ToolCall(id=CALL_ID, function=FunctionCall(name=_ANSWER))
    reasoned = Message(role="assistant", reasoning_content=_REASONING, tool_calls=[call])
    try:
        rendered = apply_template(tokenizer, [_QUESTION_TURN, reasoned], add_generation_prompt=False)
    except UserError:
        return ""
    _, _, after = rendered.partition(_REASONING)
    return after.lstrip() if _ANSWER in after else ""


def _last_marker(text: str) -> str:
    found = _MARKER.search(text.rstrip())
    return found[0] if found else ""


def _counterparts(marker: str) -> list[str]:
    """Return the possible closing delimiters for the opening delimiter ``marker``."""
    if not marker:
        return []
    changed = [marker[0] + "/" + marker[1:], marker.replace("START", "END"), marker.replace("begin", "end")]
    return [text for text in changed if text != marker]


def split_reasoning(tokenizer: PreTrainedTokenizerBase, prompt: str, answer: Message) -> Message:
    """Move reasoning at the start of an answer's content to its ``reasoning_content``.

    ``prompt`` is the rendered text of the prompt, which may already open the reasoning.
    """
    marks = reasoning_marks(tokenizer)
    if marks is None or answer.reasoning_content is not None or marks.closes not in answer.content:
        return answer
    reasoning, _, content = answer.content.partition(marks.closes)
    reasoning = reasoning.strip()
    if not (marks.opens and reasoning.startswith(marks.opens)) and not opens_reasoning(prompt, marks):
        return answer  # it only mentions the mark
    reasoning = reasoning.removeprefix(marks.opens).strip()
    return answer.model_copy(update={"reasoning_content": reasoning or None, "content": content.strip()})


def opens_reasoning(prompt: str, marks: ReasoningMarks | None) -> bool:
    """Return whether a rendered prompt ends with the opening delimiter, so that the answer starts with
    reasoning."""
    return marks is not None and bool(marks.opens) and prompt.rstrip().endswith(marks.opens)


def may_reason(marks: ReasoningMarks, prompt: str | None, output: str) -> bool:
    """Return whether ``output``, or a longer output that begins with it, starts with reasoning.

    It does if the prompt or the output opens reasoning. A closing delimiter alone ends no reasoning. If the
    template puts a header before each answer, an output without this header may have several headers, so it
    may reason. So may each output after an unknown prompt, or if reasoning has no opening delimiter.
    """
    if prompt is None or not marks.opens or opens_reasoning(prompt, marks):
        return True
    begun = output.lstrip().rstrip("\ufffd")
    if marks.skipped:
        return not begun.startswith(marks.skipped)
    return begun.startswith(marks.opens) or marks.opens.startswith(begun)


def without_reasoning(marks: ReasoningMarks, prompt: str | None, output: str) -> str:
    """Remove the reasoning from ``output``, a decoded text with special tokens that a model generated after
    ``prompt``. ``prompt`` is None if it is unknown.

    Returns an empty text if the output starts with reasoning that is never closed.
    """
    if may_reason(marks, prompt, output):
        for closes in (marks.closes, marks.closes_before_call):
            _, closed, answer = output.partition(closes)
            if closed:
                return answer
        is_open = prompt is not None and opens_reasoning(prompt, marks)
        if is_open or (marks.opens and output.lstrip().startswith(marks.opens)):
            return ""
    return output.lstrip().removeprefix(marks.skipped) if marks.skipped else output
