"""Paths become addresses of one word, and addresses become the same paths."""

import re
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tunegate_api.file_uri import file_path, file_uri
from tunegate_api.v1alpha2.fields import URI_PATTERN


@pytest.mark.parametrize(
    ("path", "uri"),
    [
        ("/data/tickets.csv", "file:///data/tickets.csv"),
        ("/my data/new tickets.csv", "file:///my%20data/new%20tickets.csv"),
        ("../Bücher/Größe.csv", "file://../Bücher/Größe.csv"),
        ("/100%/50%20off.csv", "file:///100%25/50%2520off.csv"),
        ("/a\tb\u00a0c\u200b/what?#1", "file:///a%09b%C2%A0c%E2%80%8B/what%3F%231"),
        ("/latin-1-\udcfc", "file:///latin-1-%FC"),
    ],
)
def test_file_uri_quotes_what_an_address_cannot_have(path, uri):
    assert file_uri(path) == uri
    assert re.match(URI_PATTERN, uri)
    assert file_path(uri) == Path(path)


def test_file_path_reads_an_address_that_is_not_quoted():
    assert file_path("file:///data/100%/Bücher") == Path("/data/100%/Bücher")


@given(st.text(st.characters(exclude_characters="\0", exclude_categories=["Cs"]), min_size=1))
def test_file_uri_of_any_path_leads_to_the_same_path(path):
    assert file_path(file_uri(path)) == Path(path)
    assert re.match(URI_PATTERN, file_uri(path))
