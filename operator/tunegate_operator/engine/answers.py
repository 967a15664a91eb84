"""Read and parse the answers of an API server."""

import urllib3

from tunegate_operator.engine.cluster import ClusterError, Object
from tunegate_operator.engine.objects import read_json


class AnswerTooLargeError(ClusterError):
    """The answer has more bytes than the caller allows."""


def parse_answer(text: bytes, request: str) -> Object:
    """Return the JSON of the answer to a request. Raises ClusterError."""
    try:
        answer: Object = read_json(text)
    except ValueError as error:
        raise ClusterError(f"{request}: the answer is not JSON") from error
    return answer


def read_at_most(limit: int, response: urllib3.BaseHTTPResponse) -> bytes:
    """Return the body of a response. If it has more than ``limit`` bytes, stop reading and raise
    AnswerTooLargeError."""
    text = response.read(limit + 1)
    if len(text) > limit:
        response.close()
        raise AnswerTooLargeError(f"the API server's answer has more than {limit} bytes")
    return text
