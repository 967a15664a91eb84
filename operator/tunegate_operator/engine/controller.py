"""The interface of a controller: its decision about one object, and the objects that a change concerns."""

from collections.abc import Callable, Iterable
from dataclasses import dataclass, field, replace
from datetime import datetime
from typing import Literal, Protocol, TypeVar

from pydantic import BaseModel, ValidationError

from tunegate_api.meta import first_problem
from tunegate_operator.engine.cluster import Key, Object

StatusT = TypeVar("StatusT", bound=BaseModel)
Result = TypeVar("Result")


class UnreadableStatusError(Exception):
    """This version of the operator cannot read an object's status, for example because a newer version wrote
    it. The status is left unchanged."""


def parse_status(obj: Object, model: type[StatusT]) -> StatusT:
    """Return the status of an object. Raises :class:`UnreadableStatusError`."""
    try:
        return model.model_validate(obj.get("status") or {})
    except ValidationError as error:
        raise UnreadableStatusError(
            f"its status cannot be read; another version of the operator may have written it: "
            f"{first_problem(error)}"
        ) from error


@dataclass(frozen=True)
class Create:
    """Create this child, unless a child of this name exists with the same controlling owner. If this is a
    ConfigMap with other content, the decision is repeated."""

    obj: Object


@dataclass(frozen=True)
class Put:
    """Create this ConfigMap, or replace it if its content differs."""

    obj: Object


@dataclass(frozen=True)
class Delete:
    """Delete the object with this key if it has this uid, and the objects that it owns."""

    key: Key
    uid: str


@dataclass(frozen=True)
class LookUpEvents:
    """List the Events about this object, then decide again. :meth:`View.events_about` then returns them."""

    namespace: str
    uid: str


@dataclass(frozen=True)
class AddFinalizer:
    """Add a finalizer to the object that the decision is about, unless it has the finalizer."""

    name: str


Action = Create | Put | Delete | LookUpEvents | AddFinalizer


@dataclass
class Agenda:
    """Collects the actions of one decision, and the time of the next decision. Each decision creates a new
    Agenda."""

    now: datetime
    actions: list[Action] = field(default_factory=list)
    requeue_after: float | None = None
    """Seconds until the next decision. If None, only a change leads to another decision."""

    def look_again_at(self, moment: datetime) -> None:
        """Decide again at ``moment`` even if nothing changed. With several calls, the earliest moment
        counts."""
        seconds = max(0.0, (moment - self.now).total_seconds())
        self.requeue_after = seconds if self.requeue_after is None else min(self.requeue_after, seconds)


@dataclass(frozen=True)
class Event:
    """A Kubernetes Event, recorded after the status was written. Repeats are counted, and written less and
    less often, see :mod:`tunegate_operator.engine.event_limit`."""

    type: Literal["Normal", "Warning"]
    reason: str
    message: str


@dataclass(frozen=True)
class Decision:
    """The result of a decision. The engine carries out the actions on children, then writes the status, then
    records the events."""

    status: Object
    """The whole status, as it is sent to the API server."""
    actions: tuple[Action, ...] = ()
    events: tuple[Event, ...] = ()
    warnings: tuple[Event, ...] = ()
    """Events that are recorded even if the status does not change, so they may repeat."""
    requeue_after: float | None = None
    """Seconds after which to decide again even if nothing changed."""
    needed_actions: int = 0
    """How many of the first actions must have succeeded before the status is written, because it says what
    they did, or because no later decision repeats them."""
    message_is_progress: bool = False
    """Whether a changed message counts as progress: a status in which only progress changed is written at
    most once per interval. For example, a scheduler's message changes whenever a node joins or leaves."""
    releases: str | None = None
    """The finalizer to remove from the object, after everything else: the object may then disappear."""
    acknowledges: bool = True
    """Whether the status includes what pods reported. If False, pods keep their reports and send them
    again."""


Cause = Literal["Taken", "Forbidden", "Unavailable", "Invalid"]
"""Why the cluster refused an object, and whether a retry may succeed.

Taken: another object has this name, but may be deleted later. Forbidden: a quota is exceeded or a permission
is missing, which may change. Unavailable: the cluster cannot carry out the request at present. Invalid: the
object itself is invalid, so the cluster always refuses it."""


@dataclass(frozen=True)
class Refusal:
    """Why the cluster refused an object when the operator last tried to create or replace it."""

    kind: str
    """The kind of the refused object."""
    message: str
    cause: Cause
    since: datetime
    """When the first of consecutive refusals with this kind and cause happened."""
    is_repeated: bool = False
    """Whether it is not the first of consecutive refusals with this kind and cause."""

    def after(self, before: "Refusal | None") -> "Refusal":
        """Return this refusal, but as a repetition if ``before`` has the same kind and cause."""
        if before is None or (before.kind, before.cause) != (self.kind, self.cause):
            return self
        return replace(self, since=before.since, is_repeated=True)


@dataclass(frozen=True)
class EventsAbout:
    """The Events about an object that a look-up found, and the time of the look-up."""

    asked: datetime
    events: tuple[Object, ...]


class View(Protocol):
    """The part of the cache that controllers may read. Do not change the returned objects."""

    def get(self, key: Key) -> Object | None:
        """Return the object, or None.

        Raises ClusterError if a ConfigMap's content is not cached and cannot be read from the cluster. Use
        :meth:`has` if only the existence of a ConfigMap matters."""
        ...

    def parsed(self, key: Key, parse: Callable[[Object], Result]) -> Result | None:
        """Return ``parse`` of the object, or None if the object does not exist.

        The result is remembered until the object changes, so all decisions that read the object share it: do
        not change it. Not for ConfigMaps, whose content is not watched."""
        ...

    def has(self, key: Key) -> bool:
        """Return whether the object exists."""
        ...

    def children(self, owner: Object, kind: str) -> list[Object]:
        """Return the objects of ``kind`` whose controlling owner has the uid, kind, name and namespace of
        ``owner``. ConfigMaps come with their metadata only."""
        ...

    def referrers(self, key: Key, kind: str) -> list[Key]:
        """Return the keys of the objects of ``kind`` that reference the object ``key``, see
        :meth:`Controller.references`. The object need not exist."""
        ...

    def references(self, obj: Object) -> list[Key]:
        """Return the keys of the objects that ``obj`` references, and of those that it referenced before its
        last change."""
        ...

    def indexed(self, key: Key, kind: str, after: str = "") -> list[tuple[Key, str]]:
        """Return the keys of the objects of ``kind`` that the decision about the object ``key`` reads, with
        their positions, in order: see :meth:`Controller.index`. With ``after``, return only those with a
        higher position. The object need not exist."""
        ...

    def read(self, key: Key) -> Object | None:
        """Read an object from the cluster instead of the cache; None if it does not exist.

        Every call is a request: use it for Namespaces, which are not watched and do not exist on a laptop,
        and where an object that the cache lacks must not count as deleted. Raises ClusterError."""
        ...

    def is_signed(self, config_map: Object) -> bool:
        """Return whether the operator wrote a ConfigMap with this name and content. Always true where nobody
        else can write, as on a laptop."""
        ...

    def reports(self, job_uid: str) -> list[Object]:
        """Return the latest report of each role and stage of a job."""
        ...

    def refusal(self, owner_uid: str) -> Refusal | None:
        """Return why the cluster last refused a child of this object, or None if it accepted all children.

        The refusal is kept in memory only: after a restart this returns None until the next refusal."""
        ...

    def events_about(self, uid: str) -> EventsAbout | None:
        """Return the last look-up of the Events about an object, or None if there was none since the
        operator started."""
        ...


class Controller(Protocol):
    """Decides about the objects of one kind. Its methods do no I/O, except that :meth:`View.get` may read a
    ConfigMap, and :meth:`View.read` reads an object."""

    kind: str

    def decide(self, obj: Object, view: View, now: datetime) -> Decision | None:
        """Return what to do about ``obj``, or None if the controller leaves it alone, for example because it
        is being deleted."""
        ...

    def references(self, obj: Object) -> Iterable[Key]:
        """Return the keys of the objects that ``obj``, an object of any kind, names, as far as decisions of
        this controller depend on it. The cache indexes ``obj`` by these keys for :meth:`View.referrers`. The
        spec may be invalid, and ConfigMaps come with their metadata only."""
        ...

    def index(self, obj: Object) -> Iterable[tuple[Key, str]]:
        """Return the keys of objects of this controller's kind whose decisions read ``obj``, an object of any
        kind, each with the position of ``obj`` among the objects that this decision reads. The cache indexes
        ``obj`` by these keys for :meth:`View.indexed`, so no decision looks through a namespace. The spec and
        the status may be invalid."""
        ...

    def concerns(self, changed: Object, view: View) -> Iterable[Key]:
        """Return the keys of objects of this controller's kind that must be reconciled because ``changed``,
        an object of any kind, has changed.

        Owners of ``changed`` need not be returned, because they are always reconciled. Do not read the
        content of ConfigMaps or all objects of a namespace here, because this is called for every change
        that a watch reports."""
        ...
