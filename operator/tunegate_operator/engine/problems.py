"""Find the problems of objects in the cache, without checking a spec again at each decision."""

from functools import lru_cache

from tunegate_api.validation.problems import Problem, find_problems
from tunegate_operator.engine.cluster import Object
from tunegate_operator.engine.objects import read_json, write_json

_MOST = 256
"""How many specs are remembered with their problems. The API limits a spec to 256 KiB; most have 3 KB."""
_CHECKED_METADATA = ("name", "namespace", "labels", "annotations")


def problems_of(obj: Object) -> list[Problem]:
    """Return the problems of an object like :func:`find_problems`."""
    metadata = {field: obj["metadata"][field] for field in _CHECKED_METADATA if field in obj["metadata"]}
    checked = {field: value for field, value in obj.items() if field != "status"}
    return list(_problems_in(write_json(checked | {"metadata": metadata})))


@lru_cache(_MOST)
def _problems_in(text: bytes) -> tuple[Problem, ...]:
    """Return the problems of an object in JSON."""
    return tuple(find_problems(read_json(text)))
