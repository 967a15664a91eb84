"""Find personal data in texts: e-mail addresses, telephone numbers, payment cards and bank accounts."""

import re
from collections.abc import Iterator

_EMAIL = re.compile(
    r"(?<![\w.%+@-])([A-Za-z0-9][\w.%+-]{0,63})@((?:[A-Za-z0-9-]{1,63}\.){1,8}"
    r"(?i:[a-z]{2}|com|org|net|edu|gov|mil|int|info|biz|name|pro|app|dev|cloud|email|online|shop|tech|xyz))"
    r"(?![\w@-]|\.\w|\()"
)
"""An address in a domain with a usual top level: other texts with an @ are decorators, matrix products, or
versions of packages."""
_PLACEHOLDERS = re.compile(
    r"(?:user|name|you|your[._]?(?:name|email)|some(?:one|body)|me|email|e-mail|mail|username|foo|bar|git|(?:no|do-?not)-?reply)",
    re.IGNORECASE,
)
"""Names before the @ that belong to nobody."""
_URL_BEFORE = re.compile(r"://\S*$")
"""A URL that has not ended yet."""

_CALLING_CODE = r"(?:1|7|2[07]|3[0-469]|4[013-9]|5[1-8]|6[0-6]|8[1246]|9[0-58]|[2-9]\d\d)"
"""The calling codes of countries; see ITU-T E.164."""
_INTERNATIONAL = re.compile(
    rf"(?<![\w+.=*/^-])(?:\+|(?<!\d )00 ?(?=\d\d[ -])){_CALLING_CODE}"
    r"(?:[ .-]?(?:\(0?\)|\(\d{1,4}\))|[ ./-]?\d){6,13}(?![\w.]?\d|\w)"
)
_NORTH_AMERICAN = re.compile(
    r"(?<![\w./+-])(?<![02-9] (?=\d{3} ))"
    r"(?:\(([2-9]\d\d)\) ?|([2-9]\d\d)([ .-]))[2-9]\d\d([ .-])\d{4}(?![\w-]|\.\d)"
)
"""After another number, three groups of digits are rather numbers, too."""
_NATIONAL = re.compile(
    r"\b(?:tel(?:efon|éfono|ephone)?|phone|fon|call|fax|mobile?|cell|handy|whatsapp|sms)\b[^\d+\n]{0,20}"
    r"(\(?0\d{1,5}\)?(?:[ ./-]?\d){5,10})(?![\w.]?\d|\w)",
    re.IGNORECASE,
)
"""A number that starts with 0 is a telephone number only after a word that says so."""

_CARD = re.compile(
    r"(?<![\w.,+/:=-])(?:4\d{3}|5[1-5]\d\d|2[2-7]\d\d|3[47]\d\d|3[068]\d\d|35\d\d|6(?:011|4[4-9]\d|5\d\d))"
    r"(?:([ -]?)\d{4}\1\d{4}\1\d{4}|([ -]?)\d{6}\2\d{4,5})(?![\w-]|[.,]\d)"
)
_IBAN = re.compile(r"(?<!\w)[A-Z]{2}\d{2}(?: ?[A-Z0-9]{4}){2,7}(?: ?[A-Z0-9]{1,3})?(?!\w)")
_IBAN_START = 4
"""The length of the country code and the check digits."""
_NUMBER = re.compile(r"\d[\d ()./-]{5,}\d")
"""What all numbers have in common. Looking for this first is faster."""


def personal_values(text: str) -> Iterator[tuple[str, str]]:
    """Yield the type and the value of all personal data in a text. Values may overlap, and may be
    repeated."""
    if "@" in text:
        for value in _emails(text):
            yield "e-mail address", value
    if _NUMBER.search(text):
        for type, find in (
            ("payment card number", _cards),
            ("IBAN", _ibans),
            ("telephone number", _telephones),
        ):
            for value in find(text):
                yield type, value


def _emails(text: str) -> Iterator[str]:
    for match in _EMAIL.finditer(text):
        before = text[max(0, match.start() - 200) : match.start()]
        in_url = _URL_BEFORE.search(before)  # of a user with a password
        if not in_url and not _PLACEHOLDERS.fullmatch(match[1]):
            yield match[0]


def _telephones(text: str) -> Iterator[str]:
    for match in _INTERNATIONAL.finditer(text):
        if 8 <= len(re.sub(r"\D", "", match[0])) <= 15:
            yield match[0]
    for match in _NORTH_AMERICAN.finditer(text):
        if not match[3] or match[3] == match[4]:
            yield match[0]
    yield from (match[1] for match in _NATIONAL.finditer(text))


def _cards(text: str) -> Iterator[str]:
    for match in _CARD.finditer(text):
        digits = re.sub(r"\D", "", match[0])
        if is_luhn(digits) and len(set(digits)) > 1:
            yield match[0]


def _ibans(text: str) -> Iterator[str]:
    start = 0
    while match := _IBAN.search(text, start):
        value = match[0]
        while value and not is_iban(value.replace(" ", "")):
            value = value.rpartition(" ")[0]  # the next word may be in capitals, such as BIC
        if value:
            yield value
        start = match.start() + max(len(value), _IBAN_START)


def is_luhn(digits: str) -> bool:
    """Whether the last digit is the check digit of the others (ISO/IEC 7812-1)."""
    doubled = (2 * int(digit) for digit in digits[-2::-2])
    return (sum(map(int, digits[-1::-2])) + sum(n - 9 if n > 9 else n for n in doubled)) % 10 == 0


def is_iban(value: str) -> bool:
    """Whether the check digits of an IBAN without spaces are valid (ISO 13616)."""
    moved = value[4:] + value[:4]
    return 15 <= len(value) <= 34 and int("".join(str(int(character, 36)) for character in moved)) % 97 == 1
