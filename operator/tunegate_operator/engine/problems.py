"""Find the problems of objects in the cache, without checking a spec again at each decision."""

from tunegate_api.validation.problems import Problem, find_problems
from tunegate_operator.engine.cluster import Object
from tunegate_operator.engine.memo import Memo
from tunegate_operator.engine.objects import read_json, uid_of, write_json

_PROBLEMS: Memo[tuple[Problem, ...]] = Memo(4096)
"""Problems of more objects than wait at the same time. Most objects have none."""
_CHECKED_METADATA = ("name", "namespace", "labels", "annotations")


def problems_of(obj: Object) -> list[Problem]:
    """Return the problems of an object like :func:`find_problems`."""
    metadata = {field: obj["metadata"][field] for field in _CHECKED_METADATA if field in obj["metadata"]}
    checked = {field: value for field, value in obj.items() if field != "status"}
    text = write_json(checked | {"metadata": metadata})
    found = _PROBLEMS.get(uid_of(obj), (text.decode(),), lambda: tuple(find_problems(read_json(text))))
    return list(found)
