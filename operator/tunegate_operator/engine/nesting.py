"""Limit how deeply JSON is nested, because Python's parsers recurse: with about 1,000 levels they raise
RecursionError, which is no ValueError. The API server stores up to 10,000 levels in a free-form field."""

import re

MAX_LEVELS = 400
"""The most levels of JSON that are read. An object has a few levels around its spec, whose own limit is
:data:`tunegate_api.validation.spec_size.MAX_SPEC_LEVELS`: a spec that loses levels here still exceeds it."""
_TOKENS = re.compile(rb'"(?:[^"\\]++|\\.)*+"|[\[\]{}]', re.DOTALL)
_OPENING = (b"{", b"[")
_LEFT_OUT = b"null"


def shallow(text: bytes) -> bytes:
    """Return JSON with null in place of each value that has more than :data:`MAX_LEVELS` levels around it.

    Does not recurse. Text that is not JSON may lose its end, but stays invalid."""
    if sum(text.count(bracket) for bracket in _OPENING) <= MAX_LEVELS:
        return text
    kept: list[bytes] = []
    level = start = end = 0
    for token in _TOKENS.finditer(text):
        if token[0] in _OPENING:
            level += 1
            if level == MAX_LEVELS + 1:
                end = token.start()
        elif token[0] in (b"}", b"]"):
            if level == MAX_LEVELS + 1:
                kept += text[start:end], _LEFT_OUT
                start = token.end()
            level -= 1
    kept.append(text[start:end] if level > MAX_LEVELS else text[start:])
    return b"".join(kept)
