"""The parts of a prompt by which prompt templates are recognized: its system turn, marks, opening and ending.

Each part is a number, so that a million prompts need little memory: equal parts have equal numbers, and 0
stands for a part that a prompt does not have. Texts are compared by their words, without case and digits.
"""

import re
from typing import NamedTuple

from tunegate_api.messages import Message

WORDS = 8
"""The opening and the ending of a prompt are also compared by this number of words."""
_HEAD = 400
"""Openings and endings are searched in this number of characters at each end of a prompt."""
_LEAST_OPENING, _LEAST_ENDING = 3, 4
"""Minimum number of words in an opening or ending line or sentence. Shorter ones, such as "Hello!" and "Thank
you in advance", are natural."""

_SPECIAL = (
    r"<\|[^|<>\s]{1,40}\|>|\[/?INST\]|<</?SYS>>|<(?:start|end)_of_turn>|<(?:bos|eos|s)>|</s>|\[(?:BOS|EOS)\]"
)
_NAME = (
    r"(?:q|a|question|answer|human|user|assistant|system|bot|ai|instructions?|input|output|prompt|response|"
    r"query|completion|context|task|label)"
)
_COLON = r"(?::(?=\s|$)|\uff1a)"
_OPENING_MARK = re.compile(rf"({_SPECIAL})|(#{{1,6}}\s*{_NAME})\s*:?\s*\n|({_NAME}){_COLON}", re.IGNORECASE)
_ENDING_MARK = re.compile(
    rf"({_SPECIAL})\s*(?:assistant|model|user)?$|(?:^|\n)(?:(#{{1,6}}\s*{_NAME})\s*:?|({_NAME}){_COLON})$",
    re.IGNORECASE,
)
_SPECIAL_ANYWHERE = re.compile(
    r"<\|(?:im_|eot_|eom_|start_|end_)\w+\|>|\[/?INST\]|<<SYS>>|<(?:start|end)_of_turn>"
)
_TAG = re.compile(r"<([a-z][\w-]{3,40})>", re.IGNORECASE)
_HTML = frozenset({"html", "head", "body", "span", "table", "code", "strong", "title", "script", "style"})
_LABEL = re.compile(r"([^\W\d_][\w-]{0,30}(?: [\w-]{1,30}){0,2})[:\uff1a](?=\s)")
_LATER_LABEL = re.compile(
    r"[\s,;|.][^\W\d_a-z][\w-]{0,30}(?: [\w-]{1,30}){0,2}[:\uff1a](?=\s|$)|\n[^\W\d_][\w -]{0,40}[:\uff1a]"
)
_LABEL_LINE = re.compile(r"\n(#{1,6} )?[^\W\d_a-z][\w' -]{0,30}[:\uff1a]$")
_SENTENCE = re.compile(r"[.?!:](?=\s)|[\u3002\uff01\uff1a\uff1f]")
_DIGITS = re.compile(r"\d+")
_WORD = re.compile(r"[\u3040-\u30ff\u3400-\u9fff]|[^\W\u3040-\u30ff\u3400-\u9fff]+")


class PromptParts(NamedTuple):
    """The parts of one prompt. All but the system turn are parts of its first user turn."""

    prompt: int
    """The whole prompt."""
    system: int
    """The system turn."""
    system_words: int
    """The first words of the system turn."""
    opening_mark: int
    """The mark at the start: a special token of a chat format, a heading such as ``### Instruction:``, or the
    name of a role or field such as ``Question:``."""
    ending_mark: int
    """The mark at the end."""
    inner_mark: int
    """Nonzero if there is a special token of a chat format anywhere."""
    tag: int
    """The markup tag around the text, unless it is a tag of HTML."""
    label: int
    """Any label at the start, such as ``Item:``."""
    labels: int
    """1 if the text starts with a label and has another one, but is no dialogue in which labels repeat."""
    label_line: int
    """The last line, if it has only a label, such as ``Name:``."""
    opening_line: int
    """The first line, if there is more text."""
    opening_sentence: int
    """The first sentence, if there is more text."""
    opening_words: int
    """The first eight words."""
    ending_line: int
    """The last line, if there is more text."""
    ending_sentence: int
    """The last sentence, if there is more text."""
    ending_words: int
    """The last eight words."""


OPENINGS = ("opening_line", "opening_sentence", "opening_words")
ENDINGS = ("ending_line", "ending_sentence", "ending_words")


def prompt_parts(prompt: list[Message]) -> PromptParts:
    """Return the parts of a prompt."""
    system, text = system_text(prompt), user_text(prompt)
    opening, ending = openings(text), endings(text)
    return PromptParts(
        hash((system, text)),
        0 if system is None else hash(" ".join(words(system))),
        0 if system is None else hash(" ".join(words(system[:_HEAD])[:WORDS])),
        *_marks(text),
        *_labels(text),
        *map(_number, opening),
        *map(_number, ending),
    )


def system_text(prompt: list[Message]) -> str | None:
    """Return the text of the system turn, or None if there is none."""
    return prompt[0].content if prompt[0].role == "system" else None


def user_text(prompt: list[Message]) -> str:
    """Return the text of the first user turn, without white space around it."""
    return next((turn.content for turn in prompt if turn.role == "user"), "").strip()


def words(text: str) -> list[str]:
    """Return the words of a text for comparisons. Each Chinese or Japanese character is a word."""
    return _WORD.findall(_DIGITS.sub("0", text.casefold()))


def openings(text: str) -> tuple[list[str], list[str], list[str]]:
    """Return the words of the first line, of the first sentence, and the first eight words. Parts that the
    text does not have are empty."""
    head = text[:_HEAD]
    line, newline, _ = head.partition("\n")
    end = _SENTENCE.search(head)
    sentence = line if end is None or end.start() > len(line) else head[: end.end()]
    first = words(head)[:WORDS]
    return (
        _long_enough(line, _LEAST_OPENING) if newline else [],
        _long_enough(sentence, _LEAST_OPENING) if len(sentence) < len(head) else [],
        first if len(first) == WORDS else [],
    )


def endings(text: str) -> tuple[list[str], list[str], list[str]]:
    """Return the words of the last line, of the last sentence, and the last eight words. Parts that the text
    does not have are empty."""
    tail = text[-_HEAD:]
    _, newline, line = tail.rpartition("\n")
    ends = [match.end() for match in _SENTENCE.finditer(line, 0, len(line) - 1)]
    sentence = line[ends[-1] :] if ends else line
    last = words(tail)[-WORDS:]
    return (
        _long_enough(line, _LEAST_ENDING) if newline else [],
        _long_enough(sentence, _LEAST_ENDING) if len(sentence) < len(tail) else [],
        last if len(last) == WORDS else [],
    )


def _long_enough(text: str, least: int) -> list[str]:
    found = words(text)
    return found if len(found) >= least else []


def _number(found: list[str]) -> int:
    return hash(" ".join(found)) if found else 0


def _marks(text: str) -> tuple[int, int, int]:
    """Return the opening mark, the ending mark, and whether there is a special token."""
    opening, ending = _OPENING_MARK.match(text), _ENDING_MARK.search(text[-80:])
    has_token = ("<" in text or "[" in text) and _SPECIAL_ANYWHERE.search(text)
    return _mark(opening), _mark(ending), int(bool(has_token))


def _mark(match: re.Match[str] | None) -> int:
    if match is None:
        return 0
    found = next(group for group in match.groups() if group)
    return hash("".join(found.casefold().split()))


def _labels(text: str) -> tuple[int, int, int, int]:
    """Return the tag, the label at the start, whether there is another label, and the line with a label."""
    tag, label, line = _TAG.match(text), _LABEL.match(text), _LABEL_LINE.search(text[-60:])
    name = tag.group(1).casefold() if tag else ""
    wrapped = tag and name not in _HTML and f"</{tag.group(1)}>" in text
    return (
        hash(name) if wrapped else 0,
        hash(label.group(1).casefold()) if label else 0,
        int(label is not None and _has_fields(text, label)),
        hash(line.group().casefold()) if line else 0,
    )


def _has_fields(text: str, label: re.Match[str]) -> bool:
    """Return whether the text has another label after the one at its start. If the first one is repeated, the
    text is a dialogue, and not a form with fields."""
    if f"\n{label.group()}" in text:
        return False
    return _LATER_LABEL.search(text, label.end(), label.end() + _HEAD) is not None
