"""Check for text in rows that gives instructions to a model in place of its user."""

import re
from typing import Any

from tunegate_trainer.checks.finding import CheckContext, Finding
from tunegate_trainer.checks.row_texts import whole_text
from tunegate_trainer.checks.rows import UsableRows
from tunegate_trainer.checks.share_finding import share_finding
from tunegate_trainer.data.excerpts import start_of
from tunegate_trainer.data.usable import UsableRow

NAME = "prompt_injection"

_FORGET = (
    r"\b(?:ignor(?:e|ing)|disregard(?:ing)?|forget|overrid(?:e|ing)|overrule|bypass(?:ing)?|disobey|"
    r"(?:do not|don't|never|stop) (?:follow|obey|comply with|listen to)(?:ing)?)\s+"
)
_FORGET_WORDS = ("ignor", "disregard", "forget", "overr", "bypass", "obey", "follow", "comply", "listen")
_EARLIER = r"(?:previous|prior|above|earlier|preceding|former|foregoing|initial|original|past|your)"
_ORDERS = r"(?:instructions?|directions|directives?|prompts?|guidelines|system (?:prompt|message)s?)"
_OWN_RULES = r"(?:rules|constraints|restrictions|training|programming|policies)"
_FEW_WORDS = r"(?:\w+\s+){0,3}?"
_A_MODEL = r"(?:ai|llms?|assistant|language model|chatbot|(?:ai|llm)[ -](?:assistant|agent|model|system))"
_ROLES = r"(?:system|user|assistant|developer)"
_NO_LIMITS = (
    r"(?:(?:developer|debug|admin|god|dan|jailbreak|unrestricted|maintenance) mode|"
    r"(?:without|no|free (?:of|from)|bound by)\s+(?:any\s+|all\s+)?"
    r"(?:rules|restrictions|limits|limitations|guidelines|filters|constraints|policies))"
)
_PATTERNS = tuple(
    (words, re.compile(pattern, re.MULTILINE))
    for words, pattern in (
        (_FORGET_WORDS, rf"{_FORGET}{_FEW_WORDS}{_EARLIER}\s+{_FEW_WORDS}{_ORDERS}\b"),
        (
            _FORGET_WORDS,
            rf"{_FORGET}{_FEW_WORDS}{_ORDERS}\s+{_FEW_WORDS}"
            r"(?:above|before|so far|earlier|given|from (?:the )?(?:system|developer|user))\b",
        ),
        (_FORGET_WORDS, rf"{_FORGET}{_FEW_WORDS}your\s+{_FEW_WORDS}{_OWN_RULES}\b"),
        (
            _FORGET_WORDS,
            rf"{_FORGET}(?:about\s+)?(?:everything|anything|all|what(?:ever)?)\s+(?:that\s+)?"
            r"(?:you\s+(?:were|have (?:been|learned)|had been|are|know|learned)|above\b|before\b|"
            r"i (?:said|told)|was said|the (?:system|user|developer))",
        ),
        (
            _FORGET_WORDS,
            rf"{_FORGET}{_FEW_WORDS}(?:the\s+)?(?:system|developer)\s+(?:message|prompt|instruction)s?\b",
        ),
        (
            ("you are now", "you are no longer"),
            rf"\byou are (?:now|no longer)\b[^.!?\n]{{0,60}}\b{_NO_LIMITS}",
        ),
        (
            ("do anything now", "mode"),
            r"\b(?:do anything now|(?:dan|jailbreak) mode|developer mode enabled)\b",
        ),
        (
            ("prompt", "instruction", "message", "rules", "guidelines"),
            r"\b(?:reveal|print|show|repeat|output|display|disclose|leak|expose|tell me|give me)\s+"
            r"(?:me\s+)?(?:all\s+)?(?:of\s+)?(?:your\s+(?:\w+\s+)?"
            r"(?:hidden|secret|system|initial|internal|confidential)\s+"
            r"(?:prompt|instructions?|message|rules|guidelines)|"
            r"the\s+(?:\w+\s+)?(?:system prompt|(?:hidden|secret|confidential) (?:prompt|instructions?)))\b",
        ),
        (
            (" to ", " for "),
            rf"\b(?:note|message|attention|memo|instructions?)\s+(?:to|for)\s+(?:the\s+|any\s+|all\s+)?{_A_MODEL}s?"
            r"\s*[:,-]",
        ),
        (
            ("system", "developer"),
            r"^\W*(?:system|developer)(?: message| prompt| override)?\s*:\s*\W*(?:you (?:are|must|will)|"
            r"ignore|disregard|forget|new instructions|override|from now on|do not|always|never|act as)\b",
        ),
        # The markers of chat templates
        (
            ("<|",),
            r"<\|(?:im_start|start_header_id|start_of_role)\|>\s*(?:system|assistant|user|developer)\b",
        ),
        (("<|",), r"<\|(?:system|user|assistant|developer)\|>"),
        (("[inst]", "<<sys>>", "<start_of_turn>"), r"\[inst\]|<<sys>>|<start_of_turn>\s*(?:user|model)\b"),
        # German, French, Spanish and Portuguese, Italian, Russian, Chinese, Japanese
        (("anweisung",), rf"\b(?:ignorier|vergiss|missacht)\w*\s+{_FEW_WORDS}anweisungen\b"),
        (
            ("consignes", "instructions"),
            rf"\b(?:ignore|oublie)[rz]?\s+{_FEW_WORDS}(?:consignes|instructions)"
            r"\s+(?:précédentes|ci-dessus)",
        ),
        (
            ("instrucciones", "instruções"),
            rf"\b(?:ignor|olvid|esqueç)\w+\s+{_FEW_WORDS}(?:instrucciones|instruções)\s+(?:anterior|previas|acima)",
        ),
        (("istruzioni",), rf"\b(?:ignora|dimentica)(?:re)?\s+{_FEW_WORDS}istruzioni\s+precedenti"),
        (("инструкци", "указани"), rf"\b(?:игнорируй|забудь)(?:те)?\s+{_FEW_WORDS}(?:инструкци|указани)"),
        (("指令", "指示", "提示"), r"(?:忽略|无视|忘记)[^。]{0,8}(?:指令|指示|提示词)"),
        (("指示", "命令"), r"(?:以前|これまで|上記|以上)の(?:すべての)?(?:指示|命令)を(?:無視|忘れ)"),
    )
)
"""Patterns in lower case, each with words, one of which occurs in all its matches: looking for words is
faster."""
_COMMENT = re.compile(r"<!--(.{0,2000}?)-->", re.DOTALL)
_FOR_A_MODEL = re.compile(r"\b(?:assistant|ai|language model|llms?|chatbot)\b", re.IGNORECASE)
_ORDER = re.compile(
    r"\b(?:you (?:must|should|are)|ignore|do not|always|never|say|reply|respond|answer|recommend|include)\b",
    re.IGNORECASE,
)

_HIDDEN = "\u200b\u200c\u200d\u2060\u2061\u2062\u2063\u2064\ufeff"
"""Characters without width. Some languages and emoji use single ones of them."""
_INVISIBLE = re.compile(
    rf"(?<![\U0001f3f4\U000e0020-\U000e007e])[\U000e0020-\U000e007e]{{4,}}|[{_HIDDEN}]{{8,}}|\u202e"
)
"""Text in tag characters (except in flags), text in characters without width, and reversed text."""
_WITHOUT_WIDTH = str.maketrans("", "", _HIDDEN)


def run(rows: UsableRows, _context: CheckContext) -> list[Finding]:
    """Find rows with a text that asks a model to ignore its instructions, that imitates a system turn or the
    markers of a chat template, or that hides text from readers.

    System turns are not read: instructions belong there.
    """
    return share_finding(
        NAME,
        rows,
        _injection,
        "a text that gives instructions to a model in place of its user",
        "remove these texts, because the model learns to follow or repeat them; if it is meant to learn to "
        "answer them, raise max of PromptInjection in data.checks, or set the policy to Off",
    )


def _injection(measured: UsableRow[Any]) -> str | None:
    return find_injection(whole_text(measured.labelled.row, system=False))


def find_injection(text: str) -> str | None:
    """Return a description of the first instruction to a model in a text, or None."""
    if not text.isascii():
        if _INVISIBLE.search(text):
            return "invisible or reversed characters"
        text = text.translate(_WITHOUT_WIDTH).replace("\u2019", "'")
    if "<!--" in text:
        for match in _COMMENT.finditer(text):
            if _FOR_A_MODEL.search(match[1]) and _ORDER.search(match[1]):
                return start_of(match[0])
    lower = text.replace("\u0130", "i").lower()  # the only letter whose lower case has another length
    for words, pattern in _PATTERNS:
        if any(word in lower for word in words) and (found := pattern.search(lower)):
            return start_of(text[found.start() : found.end()])
    return None
