"""Read a list of an API server in pages that are limited by their bytes."""

from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor

from tunegate_operator.engine.answers import AnswerTooLargeError, parse_answer
from tunegate_operator.engine.cluster import Object

PAGE = 200
"""The most objects that one page of a list has."""
PAGE_BYTES = 4 * 1024 * 1024
"""The most bytes that one page of a list may have. If a page is larger, it is requested again with a quarter
as many objects. After a page that fits, the next page has as many objects of this average size as fit."""
Read = Callable[[dict[str, str], int | None], bytes]
"""Sends a request with these query parameters, and returns the body of the answer. Raises AnswerTooLargeError
if the body has more bytes than the second argument."""


def read_pages(read: Read, request: str) -> Iterator[Object]:
    """Yield the objects of a list. ``request`` names the request in errors. Raises ClusterError.

    A thread reads the next page while the caller uses the objects of a page, because the API server needs
    longer to encode a page than the caller to use it. At most two pages are in memory at a time.
    """
    text = _read_page(read, "", PAGE)
    with ThreadPoolExecutor(1, "next-page") as reader:
        while True:
            answer = parse_answer(text, request)
            items = answer["items"] or []  # null where there are none
            continuation = answer["metadata"].get("continue", "")
            size = max(1, min(PAGE, PAGE_BYTES * len(items) // len(text)))
            following = reader.submit(_read_page, read, continuation, size) if continuation else None
            del text, answer  # before the next page is in memory
            yield from items
            if following is None:
                return
            del items
            text = following.result()


def _read_page(read: Read, continuation: str, size: int) -> bytes:
    """Return a page of at most ``size`` objects, with fewer objects if these have too many bytes."""
    while True:
        most = PAGE_BYTES if size > 1 else None  # etcd limits the size of a single object
        try:
            return read({"limit": str(size), "continue": continuation}, most)
        except AnswerTooLargeError:
            size = max(1, size // 4)
