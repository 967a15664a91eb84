"""Check the metadata of a manifest."""

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass

from tunegate_api.meta import DNS_NAME_PATTERN, MAX_DNS_NAME, NAME_PATTERN
from tunegate_api.validation.explain import PATTERN_DESCRIPTIONS, not_text
from tunegate_api.validation.partial import Problem


@dataclass(frozen=True)
class Naming:
    """The rule for the names of objects of one or several kinds."""

    pattern: str
    longest: int

    def fault(self, name: str) -> str:
        """Return why ``name`` is not valid. Empty if the name is valid."""
        if len(name) <= self.longest and re.fullmatch(self.pattern, name):
            return ""
        return f'is "{name}": must be {PATTERN_DESCRIPTIONS[self.pattern]}, at most {self.longest} characters'


LABEL_NAMES = Naming(NAME_PATTERN, 63)
"""The rule for the names of namespaces, and of FineTuneJobs and EvalGates, because these names are used as
label values."""
DNS_NAMES = Naming(DNS_NAME_PATTERN, MAX_DNS_NAME)
"""The rule for the names of ConfigMaps and of most other Kubernetes objects."""


def metadata_problems(metadata: object, naming: Naming) -> Iterator[Problem]:
    """Yield the problems for which the API server would refuse the name, namespace, labels or annotations.

    ``null`` counts as not given, as in Kubernetes.
    """
    if metadata is not None and not isinstance(metadata, Mapping):
        yield Problem(("metadata",), "must be a mapping with the name of the object")
        return
    fields = metadata or {}
    yield from _name(fields.get("name"), naming)
    yield from _namespace(fields.get("namespace"))
    for name in ("labels", "annotations"):
        yield from _texts(name, fields.get(name))


def _name(name: object, naming: Naming) -> Iterator[Problem]:
    if not isinstance(name, str) or not name:
        fault = "missing: give the object a name" if name in (None, "") else not_text(name)
    else:
        fault = naming.fault(name)
    if fault:
        yield Problem(("metadata", "name"), fault)


def _namespace(namespace: object) -> Iterator[Problem]:
    if namespace is None:
        return
    fault = LABEL_NAMES.fault(namespace) if isinstance(namespace, str) else not_text(namespace)
    if fault:
        yield Problem(("metadata", "namespace"), fault)


def _texts(field: str, value: object) -> Iterator[Problem]:
    if value is None:
        return
    if not isinstance(value, Mapping):
        yield Problem(("metadata", field), "must be a mapping of names to texts: write NAME: TEXT below it")
        return
    for key, text in value.items():
        if not isinstance(text, str):
            yield Problem(("metadata", field, key), not_text(text))
