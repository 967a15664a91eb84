"""What we know of the cluster: an index over its objects that a watch and our own writes keep current."""

import sys
import threading
from collections import OrderedDict, defaultdict
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from enum import Enum, auto
from typing import TypeVar

from tunegate_operator.engine.cluster import Key, Object, WatchEvent
from tunegate_operator.engine.contents import CONTENT_BYTES, Contents
from tunegate_operator.engine.controller import EventsAbout, Refusal
from tunegate_operator.engine.kept import FETCHED_KINDS, kept
from tunegate_operator.engine.objects import read_json, resource_version, uid_of, write_json
from tunegate_operator.engine.owners import Owner, controlling_owner
from tunegate_operator.engine.reports import ReportStore

_Entry = TypeVar("_Entry")

REMEMBERED_DELETIONS = 10_000
"""Uids of deleted objects that late news must not bring back."""
_FOR_GOOD = sys.maxsize
"""The version of a deletion after which no state of the object can follow."""


class Cache:
    """Thread-safe store of objects by uid; implements ``controller.View``.

    News comes from three sides in any order: a watch, lists, and answers to our own requests. Of one uid the
    highest resourceVersion wins, and of one version the last that came in. A deletion has a version, too,
    because a watch with a label selector also reports one for an object that lost its label: a state of that
    version or a later one shows that it still exists.

    Of each object only what decisions read is held (:mod:`tunegate_operator.engine.kept`), as JSON text,
    which takes a fifth of the memory: a cluster has thousands, and a decision reads a dozen. What is read is
    the reader's own. :meth:`get` reads the content of a ConfigMap with ``read``, and keeps it for as long as
    it is current and fits into ``content_bytes``.
    """

    def __init__(
        self,
        read: Callable[[Key], Object | None] | None = None,
        *,
        content_bytes: int = CONTENT_BYTES,
    ) -> None:
        self.report_store = ReportStore()
        self._read = read
        self._lock = threading.RLock()
        self._objects: dict[str, _Held] = {}
        self._contents = Contents(content_bytes)
        self._uids: dict[Key, str] = {}
        self._by_kind: dict[tuple[str, str], set[str]] = defaultdict(set)
        self._by_owner: dict[Owner, set[str]] = defaultdict(set)
        self._deleted: OrderedDict[str, _Deletion] = OrderedDict()
        self._refusals: dict[str, Refusal] = {}
        self._events: dict[str, EventsAbout] = {}
        self._unseen: set[str] = set()  # our own writes that no watch has shown yet
        self._time = 0  # rises with every object that comes in

    # Reading: controller.View

    def get(self, key: Key) -> Object | None:
        """The object, a ConfigMap with its content. Raises ClusterError if that cannot be read."""
        with self._lock:
            uid = self._uids.get(key)
            if uid is None:
                return None
            held = self._objects[uid]
            text = self._contents.get(uid) if key.kind in FETCHED_KINDS else held.text
        return self._fetch(key) if text is None else _object(text)

    def has(self, key: Key) -> bool:
        with self._lock:
            return key in self._uids

    def children(self, owner: Object, kind: str) -> list[Object]:
        with self._lock:
            children = [self._objects[uid] for uid in self._by_owner.get(Owner.of(owner), ())]
        return _sorted(child.read() for child in children if child.key.kind == kind)

    def of_kind(self, kind: str, namespace: str, phase: str | None = None) -> list[Object]:
        with self._lock:
            found = [self._objects[uid] for uid in self._by_kind.get((kind, namespace), ())]
        return _sorted(held.read() for held in found if phase is None or held.phase in (None, phase))

    def reports(self, job_uid: str) -> list[Object]:
        return self.report_store.latest(job_uid)

    def refusal(self, owner_uid: str) -> Refusal | None:
        with self._lock:
            return self._refusals.get(owner_uid)

    def events_about(self, uid: str) -> EventsAbout | None:
        with self._lock:
            return self._events.get(uid)

    # Reading: the engine

    def uid_at(self, key: Key) -> str | None:
        """The uid of the object that has this name."""
        with self._lock:
            return self._uids.get(key)

    def by_uid(self, uid: str) -> Object | None:
        """The object with this uid, if it is still there; of a ConfigMap the metadata only."""
        with self._lock:
            held = self._objects.get(uid)
        return held.read() if held else None

    def owners(self, obj: Object) -> list[Owner]:
        """The controlling owner, its controlling owner, and so on, as far as we know them.

        A deleted object still links what it owns to its owner: a pod outlives its Job for as long as it
        takes to stop, and the one who waits for that is the Job's owner. A reference to an object that has
        another kind, name or namespace is false, and leads nowhere.
        """
        found: list[Owner] = []
        owner = controlling_owner(obj)
        with self._lock:
            while owner and owner not in found:
                held = self._objects.get(owner.uid)
                if held and held.key != owner.key:
                    break
                found.append(owner)
                above = held.owner if held else self._deleted.get(owner.uid, _NEVER).owner
                owner = above if above and above.key.namespace == owner.key.namespace else None
        return found

    # Writing

    def apply(self, event: WatchEvent) -> bool:
        """Take in what a watch saw; False if it was old news.

        The echo of our own write, which is held already, is no old news: whoever decided on the state
        before it should look again. What is listed and was seen before is old news.
        """
        with self._lock:
            if event.type == "DELETED":
                return self._take_in_deletion(event.obj)
            news = self._take_in(event.obj)
            if news is _News.OLD:
                return False
            is_known = news is _News.SAME and uid_of(event.obj) not in self._unseen
            self._unseen.discard(uid_of(event.obj))
            return not (is_known and event.type == "LISTED")

    def put(self, obj: Object) -> bool:
        """Take in the answer to a write or a read of our own, which is the whole object; False if something
        newer is held."""
        with self._lock:
            news = self._take_in(obj)
            if news is _News.NEW:
                self._unseen.add(uid_of(obj))
            if news is not _News.OLD and obj["kind"] in FETCHED_KINDS:
                self._contents.put(uid_of(obj), write_json(obj))
            return news is not _News.OLD

    def remove(self, uid: str) -> None:
        """A request found that the object with this uid is gone."""
        with self._lock:
            self._drop(uid, None, _FOR_GOOD)

    def mark(self) -> int:
        """A moment to give to :meth:`resync`: take it before asking for the list."""
        with self._lock:
            return self._time

    def resync(
        self, kind: str, listed: Iterable[Object], since: int, namespace: str | None = None
    ) -> Iterator[WatchEvent]:
        """Compare with a complete list, of all namespaces or one, that was asked for after :meth:`mark` gave
        ``since``.

        Yields what was missed, as the list is read. What is held but not listed is gone, unless it came in
        after ``since``: that may be younger than the list. The list must be a consistent read, not one of a
        stale cache; one that ends with an exception reports no deletions. An object that is not listed may
        have lost its label only: reading it brings it back.
        """
        present: set[str] = set()
        for obj in listed:
            present.add(uid_of(obj))
            with self._lock:
                is_known, replaced = uid_of(obj) in self._objects, self._namesake(obj)
                is_new = self._take_in(obj) is _News.NEW
            if is_new and replaced:
                yield WatchEvent("DELETED", replaced.read())
            if is_new:
                yield WatchEvent("MODIFIED" if is_known else "ADDED", obj)
        with self._lock:
            gone = [
                held
                for uid, held in self._objects.items()
                if held.key.kind == kind
                and namespace in (None, held.key.namespace)
                and uid not in present
                and held.first_seen <= since
            ]
            for held in gone:
                self._drop(held.uid, held.owner, held.version)
        for held in gone:
            yield WatchEvent("DELETED", held.read())

    def set_refusal(self, owner_uid: str, refusal: Refusal | None) -> None:
        """Remember why a child of this owner was refused; None once its children were accepted."""
        with self._lock:
            if refusal is None:
                self._refusals.pop(owner_uid, None)
            else:
                self._refusals[owner_uid] = refusal

    def set_events(self, uid: str, found: EventsAbout) -> None:
        """Remember what a look-up found, for as long as the object is there."""
        with self._lock:
            if uid in self._objects:
                self._events[uid] = found

    def _fetch(self, key: Key) -> Object | None:
        """Read an object whose content is not held. If it is gone, its metadata stay held until a watch or a
        list reports the deletion: that wakes whoever it concerns."""
        if self._read is None:
            raise LookupError(f"the content of {key} is not held, and this cache cannot read it")
        found = self._read(key)
        if found:
            self.put(found)
        return found

    def _take_in_deletion(self, last: Object) -> bool:
        """Return whether it is news. ``last`` is the last state, with the version of the deletion."""
        uid, version = uid_of(last), resource_version(last)
        held = self._objects.get(uid)
        if held and held.version > version:  # its label was restored since
            return False
        is_known = uid in self._deleted
        self._drop(uid, controlling_owner(last), version)
        return not is_known

    def _take_in(self, obj: Object) -> "_News":
        obj = kept(obj)
        uid, key, version, owner = uid_of(obj), Key.of(obj), resource_version(obj), controlling_owner(obj)
        if uid in self._deleted and version < self._deleted[uid].version:
            return _News.OLD
        held = self._objects.get(uid)
        if held and version < held.version:
            return _News.OLD
        if held and version == held.version and held.read() == obj:
            return _News.SAME  # else the definition changed: the same object is served with other fields
        namesake = self._namesake(obj)
        if namesake:
            # One name, two objects: the older one was deleted, whether or not we were told.
            if version < namesake.version:
                self._bury(uid, owner, _FOR_GOOD)
                return _News.OLD
            self._drop(namesake.uid, namesake.owner, _FOR_GOOD)
        self._deleted.pop(uid, None)
        self._contents.discard(uid)
        if held:
            self._unlink(held)
        else:
            self._time += 1
        first_seen = held.first_seen if held else self._time
        phase = (obj.get("status") or {}).get("phase")
        self._objects[uid] = _Held(uid, key, version, owner, phase, first_seen, write_json(obj))
        self._uids[key] = uid
        self._by_kind[key.kind, key.namespace].add(uid)
        if owner:
            self._by_owner[owner].add(uid)
        return _News.NEW

    def _namesake(self, obj: Object) -> "_Held | None":
        """Another object, with another uid, that has its name."""
        uid = self._uids.get(Key.of(obj), uid_of(obj))
        return self._objects[uid] if uid != uid_of(obj) else None

    def _drop(self, uid: str, owner: Owner | None, version: int) -> None:
        held = self._objects.pop(uid, None)
        if held:
            self._unlink(held)
        self._contents.discard(uid)
        self._unseen.discard(uid)
        self._refusals.pop(uid, None)
        self._events.pop(uid, None)
        self._bury(uid, owner or (held.owner if held else None), version)

    def _unlink(self, held: "_Held") -> None:
        """Take an object out of the indexes; empty entries go, or they would pile up for ever."""
        if self._uids.get(held.key) == held.uid:
            del self._uids[held.key]
        _discard(self._by_kind, (held.key.kind, held.key.namespace), held.uid)
        if held.owner:
            _discard(self._by_owner, held.owner, held.uid)

    def _bury(self, uid: str, owner: Owner | None, version: int) -> None:
        before = self._deleted.get(uid, _NEVER)
        self._deleted[uid] = _Deletion(owner or before.owner, max(version, before.version))
        if len(self._deleted) > REMEMBERED_DELETIONS:
            self._deleted.popitem(last=False)


@dataclass(frozen=True, slots=True)
class _Held:
    """An object, and what the indexes need of it."""

    uid: str
    key: Key
    version: int
    owner: Owner | None
    phase: str | None
    first_seen: int
    text: bytes

    def read(self) -> Object:
        return _object(self.text)


@dataclass(frozen=True, slots=True)
class _Deletion:
    """What is remembered of a deleted object."""

    owner: Owner | None
    version: int
    """States of the object that are older are late news."""


_NEVER = _Deletion(None, 0)


class _News(Enum):
    """What an object that comes in is, compared with the one held."""

    NEW = auto()
    SAME = auto()
    OLD = auto()


def _object(text: bytes) -> Object:
    obj: Object = read_json(text)
    return obj


def _discard(index: dict[_Entry, set[str]], entry: _Entry, uid: str) -> None:
    uids = index.get(entry, set())
    uids.discard(uid)
    if not uids:
        index.pop(entry, None)


def _sorted(objects: Iterable[Object]) -> list[Object]:
    """Oldest first; names decide between those of the same second."""
    return sorted(objects, key=lambda o: (o["metadata"].get("creationTimestamp", ""), o["metadata"]["name"]))
