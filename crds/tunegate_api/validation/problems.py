"""Find all problems of a manifest at once.

Each field must have the right type, and the rules between fields must hold (``rules.py``). No I/O: other
modules have the checks that need other objects, files or a model.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from pydantic import BaseModel, ValidationError

from tunegate_api import API_VERSION
from tunegate_api.meta import ApiModel
from tunegate_api.v1alpha2.evalgate import EvalGate, EvalGateSpec
from tunegate_api.v1alpha2.finetunejob import FineTuneJob, FineTuneJobSpec
from tunegate_api.validation.explain import explain, unknown_field, wrong_choice
from tunegate_api.validation.metadata import LABEL_NAMES, metadata_problems
from tunegate_api.validation.partial import Part, Path, Problem
from tunegate_api.validation.rules import RULES
from tunegate_api.validation.spec_size import TOO_LARGE, is_too_large, too_large
from tunegate_api.validation.walk import check

__all__ = ["KINDS", "Path", "Problem", "find_problems"]

TOP_LEVEL = ("apiVersion", "kind", "metadata", "spec", "status")


@dataclass(frozen=True)
class _Kind:
    model: type[ApiModel]
    spec: type[ApiModel]


_KINDS = {
    "EvalGate": _Kind(EvalGate, EvalGateSpec),
    "FineTuneJob": _Kind(FineTuneJob, FineTuneJobSpec),
}
KINDS = tuple(_KINDS)
"""The kinds that :func:`find_problems` supports."""


def find_problems(raw: Mapping[str, Any]) -> list[Problem]:
    """Return all problems of a FineTuneJob or an EvalGate in the order of its fields. The list is empty if
    the object is valid.

    ``raw`` is the object as parsed from YAML or JSON. Its status, and metadata set by the API server, are not
    checked. If a spec is too large, nothing else is reported about it.
    """
    problems = _object_problems(raw)
    kind = _KINDS.get(str(raw.get("kind")))
    if kind is None:
        return problems
    spec, name = raw.get("spec"), str(raw["kind"])
    if spec == TOO_LARGE or (isinstance(spec, Mapping) and is_too_large(name, spec)):
        return [*problems, Problem(("spec",), too_large(name))]
    if not isinstance(spec, Mapping):
        what = "missing" if spec is None else "not a mapping"
        return [*problems, Problem(("spec",), f"{what}: it must hold the fields of a {name}")]
    type_problems = [
        Problem(("spec", *e["loc"]), explain(e, kind.spec)) for e in _type_errors(kind.spec, spec)
    ]
    part = Part(spec, ("spec",), frozenset(problem.path for problem in type_problems))
    check(kind.spec, part)
    for rule in RULES.get(kind.model, ()):
        rule.check(Part(raw, (), part.invalid, part.problems))
    return problems + _in_order([*type_problems, *part.problems], spec)


def _type_errors(model: type[BaseModel], spec: Mapping[str, Any]) -> list[Any]:
    """Return pydantic's errors for ``spec``. Parsing is as strict as in the API server: a string is not
    accepted for a number, and fields must have their JSON names."""
    try:
        model.model_validate(dict(spec), strict=True, by_alias=True, by_name=False)
    except ValidationError as error:
        return error.errors(include_url=False)
    return []


def _object_problems(raw: Mapping[str, Any]) -> list[Problem]:
    problems = [Problem((name,), unknown_field(name, TOP_LEVEL)) for name in raw if name not in TOP_LEVEL]
    for name, allowed in (("apiVersion", (API_VERSION,)), ("kind", KINDS)):
        value = raw.get(name)
        if value is None:
            problems.append(Problem((name,), f"missing: must be {' or '.join(allowed)}"))
        elif value not in allowed:
            problems.append(Problem((name,), wrong_choice(value, allowed)))
    return [*problems, *metadata_problems(raw.get("metadata"), LABEL_NAMES)]


def _in_order(problems: list[Problem], spec: Mapping[str, Any]) -> list[Problem]:
    """Sort problems in the order of the fields in ``spec``. The problem of a missing field is sorted like the
    mapping that lacks the field."""

    def position(problem: Problem) -> list[int]:
        at: Any = spec
        positions = []
        for name in problem.path[1:]:
            if isinstance(at, Mapping) and name in at:
                positions.append(list(at).index(name))
                at = at[name]
            elif isinstance(at, list) and isinstance(name, int) and name < len(at):
                positions.append(name)
                at = at[name]
            else:
                break
        return positions

    return sorted(problems, key=position)
