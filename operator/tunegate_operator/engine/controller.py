"""What a kind gives the engine: a pure decision, and which of its objects a change elsewhere concerns."""

import re
from collections.abc import Iterable
from dataclasses import dataclass, field, replace
from datetime import datetime
from typing import Literal, Protocol, TypeVar

from pydantic import BaseModel, ValidationError

from tunegate_operator.engine.cluster import Key, Object

StatusT = TypeVar("StatusT", bound=BaseModel)


class UnreadableStatusError(Exception):
    """A status that this version cannot read, as a newer one may have written it. It is left as it is."""


def read_status(obj: Object, model: type[StatusT]) -> StatusT:
    """The status of an object. Raises :class:`UnreadableStatusError`."""
    try:
        return model.model_validate(obj.get("status") or {})
    except ValidationError as error:
        first = error.errors()[0]
        where = ".".join(map(str, first["loc"]))
        raise UnreadableStatusError(
            f"its status cannot be read, another version may have written it: {where}: {first['msg']}"
        ) from error


@dataclass(frozen=True)
class Create:
    """Create this child. One that exists and is ours is fine."""

    obj: Object


@dataclass(frozen=True)
class Put:
    """Create this ConfigMap, or replace it where its content differs."""

    obj: Object


@dataclass(frozen=True)
class Delete:
    """Delete this object, and what it owns."""

    key: Key
    uid: str


@dataclass(frozen=True)
class LookUpEvents:
    """List the Events about this object, then decide again: :meth:`View.events_about` has them."""

    namespace: str
    uid: str


Action = Create | Put | Delete | LookUpEvents


@dataclass
class Agenda:
    """What one decision has found to do so far, and when to decide again. Made anew for each decision."""

    now: datetime
    actions: list[Action] = field(default_factory=list)
    requeue_after: float | None = None
    """Seconds; None where only a change leads to another decision."""

    def look_again_at(self, moment: datetime) -> None:
        """Decide again at ``moment`` though nothing changed. The earliest moment counts."""
        seconds = max(0.0, (moment - self.now).total_seconds())
        self.requeue_after = seconds if self.requeue_after is None else min(self.requeue_after, seconds)


@dataclass(frozen=True)
class Event:
    """What people are told once, after the status says it."""

    type: Literal["Normal", "Warning"]
    reason: str
    message: str


@dataclass(frozen=True)
class Decision:
    """What should be true now: children by actions, then the status, then events."""

    status: Object
    """The whole status as it goes on the wire."""
    actions: tuple[Action, ...] = ()
    events: tuple[Event, ...] = ()
    warnings: tuple[Event, ...] = ()
    """What is wrong around the object while its status does not change. Each is recorded once."""
    requeue_after: float | None = None
    """Seconds after which to decide again though nothing changed."""
    is_last: bool = False
    """Nothing repeats these actions after this status, so it is written only once all of them succeeded."""
    message_is_progress: bool = False
    """Whether a change of the status's message alone is progress: a scheduler's words change with every node
    that comes or goes."""
    acknowledges: bool = True
    """Whether the status says what pods reported. If not, they keep their reports and send them again."""


Cause = Literal["Taken", "Forbidden", "Unavailable", "Invalid"]
"""Taken: the name is another object's, which may go away. Forbidden: by a quota or a missing right, which may
change. Unavailable: the cluster cannot do it now. Invalid: the child itself is refused for good."""


@dataclass(frozen=True)
class Refusal:
    """Why the cluster did not take an object when it was last tried."""

    kind: str
    """Of the object."""
    message: str
    cause: Cause
    since: datetime
    """When it was refused for this cause for the first time."""

    def after(self, before: "Refusal | None") -> "Refusal":
        """This refusal, where it follows another. What differs in nothing but numbers, as a port, is no news:
        each change of the words would be written."""
        if before is None or (before.kind, before.cause) != (self.kind, self.cause):
            return self
        words = [re.sub(r"\d+", "", each.message) for each in (before, self)]
        if self.cause == "Unavailable" and words[0] == words[1]:
            return before
        return replace(self, since=before.since)


@dataclass(frozen=True)
class EventsAbout:
    """What a look-up of an object's Events found."""

    asked: datetime
    events: tuple[Object, ...]


class View(Protocol):
    """The cache, as controllers read it. Objects must not be changed."""

    def get(self, key: Key) -> Object | None:
        """The object, or None. A ConfigMap may have to be read from the cluster, which may raise
        ClusterError. Ask :meth:`has` where its content does not matter."""
        ...

    def has(self, key: Key) -> bool:
        """Whether there is such an object."""
        ...

    def children(self, owner: Object, kind: str) -> list[Object]:
        """Objects of ``kind`` whose controlling owner is ``owner``: its uid, kind, name and namespace. Of
        ConfigMaps the metadata only."""
        ...

    def of_kind(self, kind: str, namespace: str, phase: str | None = None) -> list[Object]:
        """Objects of ``kind``, of ConfigMaps the metadata only; with ``phase``, those whose status has it, or
        has none yet: thousands may have ended."""
        ...

    def reports(self, job_uid: str) -> list[Object]:
        """The latest report of each role and stage of a job."""
        ...

    def refusal(self, owner_uid: str) -> Refusal | None:
        """Why the cluster did not create a child of this object when it was last tried, or None.

        In memory only: after a restart it is known again once the next try was refused."""
        ...

    def events_about(self, uid: str) -> EventsAbout | None:
        """The last look-up of the Events about an object, or None. In memory only."""
        ...


class Controller(Protocol):
    """One kind's behaviour. Neither method does I/O, but for what :meth:`View.get` reads."""

    kind: str

    def decide(self, obj: Object, view: View, now: datetime) -> Decision | None:
        """What to do about ``obj``; None when it is none of our business (being deleted)."""
        ...

    def concerns(self, changed: Object, view: View) -> Iterable[Key]:
        """Objects of this kind to look at again because ``changed``, of another kind, did.

        Children need not be named here: their owner is always looked at again. Do not read the content of
        ConfigMaps here: this is called for every change that a watch sees."""
        ...
