"""Build and read the ConfigMaps that record the input and the results of a controller's Jobs."""

from typing import TypeVar

from pydantic import ValidationError

from tunegate_api.contract.digests import canonical_json
from tunegate_api.meta import StatusModel, first_problem
from tunegate_operator.children.job import JobOwner
from tunegate_operator.engine.cluster import Key, Object
from tunegate_operator.engine.controller import View
from tunegate_operator.engine.owners import Owner, controlling_owner

ModelT = TypeVar("ModelT", bound=StatusModel)


class UnreadableRecordError(Exception):
    """The content of a ConfigMap that records input or results is not valid for this version of the
    operator."""

    def __init__(self, config_map: str, problem: str) -> None:
        super().__init__(f"ConfigMap {config_map} cannot be read: {problem}")


def record_config_map(
    owner: JobOwner, name: str, key: str, content: StatusModel, *, immutable: bool
) -> Object:
    """Build the ConfigMap that records ``content`` under ``key``."""
    return {
        "apiVersion": "v1",
        "kind": "ConfigMap",
        "metadata": owner.metadata(name),
        "data": {key: canonical_json(content)},
    } | ({"immutable": True} if immutable else {})


def owned_config_map(view: View, owner: Owner, name: str, *, is_cached: bool = True) -> Object | None:
    """Return a ConfigMap; None if it does not exist or ``owner`` does not control it. Without ``is_cached``,
    it is read from the cluster.

    Raises :class:`UnreadableRecordError` if the operator did not write its content.
    """
    key = Key("ConfigMap", owner.key.namespace, name)
    obj = view.get(key) if is_cached else view.read(key)
    if obj is None or controlling_owner(obj) != owner:
        return None
    if not view.is_signed(obj):
        raise UnreadableRecordError(name, "it does not have the operator's signature")
    return obj


def read_record(view: View, owner: JobOwner, name: str, key: str, model: type[ModelT]) -> ModelT | None:
    """Return what a ConfigMap of ``owner`` records under ``key``; None if the ConfigMap does not exist or
    belongs to another owner.

    Raises :class:`UnreadableRecordError` if the content was edited or written by another version.
    """
    text = record_text(view, owner, name, key)
    return None if text is None else parse_record(name, key, text, model)


def record_text(view: View, owner: JobOwner, name: str, key: str, *, is_cached: bool = True) -> str | None:
    """Return the text under ``key`` in a ConfigMap of ``owner``; None if the ConfigMap does not exist or
    belongs to another owner. Without ``is_cached``, it is read from the cluster.

    Raises :class:`UnreadableRecordError` if the ConfigMap has no such key, or if the operator did not write
    its content.
    """
    obj = owned_config_map(view, owner.as_owner, name, is_cached=is_cached)
    if obj is None:
        return None
    text: str | None = (obj.get("data") or {}).get(key)
    if text is None:
        raise UnreadableRecordError(name, f"it has no key {key}")
    return text


def parse_record(name: str, key: str, text: str, model: type[ModelT]) -> ModelT:
    """Parse the text under ``key`` in the ConfigMap ``name``. Raises :class:`UnreadableRecordError`."""
    try:
        return model.model_validate_json(text)
    except ValidationError as error:
        raise UnreadableRecordError(name, first_problem(error, key)) from error
