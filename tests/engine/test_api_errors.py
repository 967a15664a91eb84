"""The class of an error answer shows whether a retry may succeed."""

import json

import pytest

from tunegate_operator.engine.api_errors import ExpiredError, error_of_answer
from tunegate_operator.engine.cluster import (
    ClusterError,
    NotFoundError,
    RequestRefusedError,
    UnauthorizedError,
    UnavailableError,
    UnknownKindError,
)


@pytest.mark.parametrize(
    ("code", "error"),
    [
        (401, UnauthorizedError),
        (404, NotFoundError),
        (405, RequestRefusedError),
        (408, ClusterError),
        (410, ExpiredError),
        (429, ClusterError),
        (503, UnavailableError),
    ],
)
def test_answer_of_the_api_server_gives_its_error(code: int, error: type[ClusterError]) -> None:
    found = error_of_answer(code, json.dumps({"message": "no"}).encode(), "GET /x")
    assert (type(found), str(found)) == (error, "no")


@pytest.mark.parametrize(
    ("code", "error"),
    [(401, UnauthorizedError), (404, UnknownKindError), (429, ClusterError), (502, ClusterError)],
)
def test_answer_that_is_not_json_gives_its_error(code: int, error: type[ClusterError]) -> None:
    found = error_of_answer(code, b"<html>", "GET /x")
    assert (type(found), str(found)) == (error, f"GET /x: the answer ({code}) is not JSON")
