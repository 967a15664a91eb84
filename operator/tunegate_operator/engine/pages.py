"""Read a list of an API server in pages that are limited by their bytes."""

from collections.abc import Callable, Iterator

from tunegate_operator.engine.answers import AnswerTooLargeError, parse_answer
from tunegate_operator.engine.cluster import Object

PAGE = 200
"""The most objects that one page of a list has. Only one page is in memory at a time."""
PAGE_BYTES = 4 * 1024 * 1024
"""The most bytes that one page of a list may have. If a page is larger, it is requested again with a quarter
as many objects. After a page that fits, the next page has as many objects of this average size as fit."""
Read = Callable[[dict[str, str], int | None], bytes]
"""Sends a request with these query parameters, and returns the body of the answer. Raises AnswerTooLargeError
if the body has more bytes than the second argument."""


def read_pages(read: Read, request: str) -> Iterator[Object]:
    """Yield the objects of a list. ``request`` names the request in errors. Raises ClusterError."""
    continuation, size = "", PAGE
    while True:
        most = PAGE_BYTES if size > 1 else None  # etcd limits the size of a single object
        try:
            text = read({"limit": str(size), "continue": continuation}, most)
        except AnswerTooLargeError:
            size = max(1, size // 4)
            continue
        answer = parse_answer(text, request)
        items = answer["items"] or []  # null where there are none
        yield from items
        continuation = answer["metadata"].get("continue", "")
        if not continuation:
            return
        size = max(1, min(PAGE, PAGE_BYTES * len(items) // len(text)))
        del text, answer, items  # before the next page is read
