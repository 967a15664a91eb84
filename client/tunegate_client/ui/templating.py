"""The templates of the pages, and the filters that they use. Text from users and models is escaped."""

import json
import re
from collections.abc import Mapping
from datetime import UTC, datetime
from functools import cache
from typing import Any
from urllib.parse import urlencode

from jinja2 import Environment, PackageLoader, StrictUndefined

from tunegate_api.duration import duration_text
from tunegate_api.meta import printable


@cache
def environment() -> Environment:
    """Return the environment with the compiled templates."""
    environment = Environment(
        loader=PackageLoader("tunegate_client.ui"),
        autoescape=True,
        trim_blocks=True,
        lstrip_blocks=True,
        undefined=StrictUndefined,
    )
    filters: dict[str, Any] = {
        "duration": duration_text,
        "json": lambda value: json.dumps(value, ensure_ascii=False, indent=2),
        "printable": printable,
        "query": _query,
        "thousands": lambda number: f"{number:,}",
        "utc": utc,
        "words": _words,
    }
    environment.filters |= filters
    return environment


def _query(parameters: Mapping[str, object]) -> str:
    """Return a query string without the empty parameters."""
    return urlencode({key: value for key, value in parameters.items() if value})


def utc(value: datetime) -> str:
    """Return a time with its time zone."""
    return f"{value.astimezone(UTC):%Y-%m-%d %H:%M:%S} UTC"


def _words(name: str) -> str:
    """Separate the words of a constant: ``DataPreparation`` becomes ``Data preparation``."""
    words = re.sub(r"(?<=[a-z])(?=[A-Z])", " ", name)
    return words[:1] + words[1:].lower()
