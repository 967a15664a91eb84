"""Cache the objects of the cluster, indexed by name, kind, owner, what they reference, and whose decisions
read them.

Watches, lists and the answers to the operator's own requests update the cache.
"""

import threading
from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator
from enum import Enum, auto
from typing import Any, TypeVar

from tunegate_operator.engine.cached_object import (
    CachedObject,
    IndexEntry,
    IndexFunction,
    References,
    read_sorted,
)
from tunegate_operator.engine.cluster import Key, Object, RestoredFromBackupError, WatchEvent
from tunegate_operator.engine.content_cache import CONTENT_BYTES, ContentCache
from tunegate_operator.engine.controller import EventsAbout, Refusal
from tunegate_operator.engine.deletions import FINAL_VERSION, Deletions
from tunegate_operator.engine.objects import read_json, resource_version, uid_of, write_json
from tunegate_operator.engine.ordered_index import OrderedIndex
from tunegate_operator.engine.owners import Owner, controlling_owner
from tunegate_operator.engine.parsed import PARSED_BYTES, ParseCache
from tunegate_operator.engine.prune import FETCHED_KINDS, prune
from tunegate_operator.engine.reports import ReportStore
from tunegate_operator.engine.signatures import Signer

Result = TypeVar("Result")


class Cache:
    """Thread-safe store of objects by uid; implements ``controller.View``.

    Updates come from watches, from lists, and from answers to the operator's own requests, in any order. For
    each uid, the highest resourceVersion wins; if versions are equal, the last update wins. A deletion also
    has a version, because it may be undone: if an object only loses its label, a watch with a label selector
    reports DELETED. A state with the same or a later version then shows that the object still exists.

    The cache keeps only the fields that decisions read (:mod:`tunegate_operator.engine.prune`). They are
    kept as JSON text, which needs a fifth of the memory of dicts: there are thousands of objects, and a
    decision reads about a dozen. Every read returns a new copy. :meth:`get` reads the content of a ConfigMap
    from the cluster with ``read``. This content stays cached until the ConfigMap changes, or until it is
    dropped because other contents need its room (at most ``content_bytes`` in total).
    """

    def __init__(
        self,
        read: Callable[[Key], Object | None] | None = None,
        *,
        content_bytes: int = CONTENT_BYTES,
    ) -> None:
        self.report_store = ReportStore()
        self.on_change: Callable[[str, str, bool], None] = lambda *_: None
        """Called with the kind and the uid of each object that was added, changed or removed, and whether it
        was removed."""
        self._read = read
        self._lock = threading.RLock()
        self._objects: dict[str, CachedObject] = {}
        self._contents = ContentCache(content_bytes)
        self._parsed: ParseCache[Any] = ParseCache(PARSED_BYTES)
        self._uids: dict[Key, str] = {}
        self._index: dict[IndexEntry, set[str]] = defaultdict(set)
        self._references: References | None = None
        self._index_functions: list[IndexFunction] = []
        self._ordered: OrderedIndex[tuple[str, Key]] = OrderedIndex()
        self._deleted = Deletions()
        self._refusals: dict[str, Refusal] = {}
        self._events: dict[str, EventsAbout] = {}
        self._unconfirmed: set[str] = set()  # uids of our own writes that no watch or list has reported yet
        self.signer: Signer | None = None
        """Signs and recognizes the operator's records. None if nobody else can write, as on a laptop."""
        self._changes = 0  # counts the states that were stored, and the deletions

    # Reading: controller.View

    def get(self, key: Key) -> Object | None:
        """Return the object, or None. Raises ClusterError if the content of a ConfigMap cannot be read."""
        with self._lock:
            uid = self._uids.get(key)
            if uid is None:
                return None
            held = self._objects[uid]
            text = self._contents.get(uid) if key.kind in FETCHED_KINDS else held.text
        found: Object | None = self.read(key) if text is None else read_json(text)
        return found

    def parsed(self, key: Key, parse: Callable[[Object], Result]) -> Result | None:
        with self._lock:
            uid = self._uids.get(key)
            held = self._objects[uid] if uid else None
        if held is None:
            return None
        # The text, not the version: after a change of the CRD, a version may have other fields.
        found: Result = self._parsed.get((held.text, parse), len(held.text), lambda: parse(held.read()))
        return found

    def is_signed(self, config_map: Object) -> bool:
        return self.signer is None or self.signer.is_signed(config_map)

    def has(self, key: Key) -> bool:
        with self._lock:
            return key in self._uids

    def children(self, owner: Object, kind: str) -> list[Object]:
        return read_sorted(child for child in self._find(Owner.of(owner)) if child.key.kind == kind)

    def of_kind(self, kind: str, namespace: str) -> list[Object]:
        """Return all objects of a kind in a namespace. Not for decisions: there may be thousands."""
        return read_sorted(self._find((kind, namespace)))

    def referrers(self, key: Key, kind: str) -> list[Key]:
        if self._references is None:
            raise LookupError(f"call index_references to find the {kind}s that reference another object")
        return [held.key for held in sorted(self._find((kind, key)), key=lambda held: held.first_seen)]

    def references(self, obj: Object) -> list[Key]:
        now = self._references(obj) if self._references else ()
        with self._lock:
            held = self._objects.get(uid_of(obj))
        return list(dict.fromkeys((*now, *(held.referenced_before if held else ()))))

    def indexed(self, key: Key, kind: str, after: str = "") -> list[tuple[Key, str]]:
        with self._lock:
            found = self._ordered.after((kind, key), after)
            return [(self._objects[uid].key, position) for position, uid in found]

    def read(self, key: Key) -> Object | None:
        """Read an object from the cluster; None if it does not exist. The content of a ConfigMap is cached.

        The metadata of a deleted ConfigMap stays cached until a watch or a list reports the deletion, because
        the keys that the deletion concerns are enqueued only then."""
        if self._read is None:
            raise LookupError(
                f"the content of {key.kind} {key.namespace}/{key.name} is not cached, and this cache has no "
                "function to read it from the cluster"
            )
        found = self._read(key)
        if found and key.kind in FETCHED_KINDS:
            self.put(found)
        return found

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
        """Return the uid of the cached object that has this kind, namespace and name, or None."""
        with self._lock:
            return self._uids.get(key)

    def by_uid(self, uid: str) -> Object | None:
        """Return the object with this uid, or None. A ConfigMap comes with its metadata only."""
        with self._lock:
            held = self._objects.get(uid)
        return held.read() if held else None

    def owners(self, obj: Object) -> list[Owner]:
        """Return the chain of controlling owners of ``obj``, starting with its direct owner.

        The chain includes deleted owners: if a Job is deleted, its pod still runs for its grace period, and
        the FineTuneJob that owned the Job waits for this pod. The chain ends before a reference whose kind,
        name or namespace differs from the object with the referenced uid.
        """
        found: list[Owner] = []
        owner = controlling_owner(obj)
        with self._lock:
            while owner and owner not in found:
                held = self._objects.get(owner.uid)
                if held and held.key != owner.key:
                    break
                found.append(owner)
                above = held.owner if held else self._deleted.owner(owner.uid)
                owner = above if above and above.key.namespace == owner.key.namespace else None
        return found

    def _find(self, *entries: IndexEntry) -> list[CachedObject]:
        with self._lock:
            return [self._objects[uid] for entry in entries for uid in self._index.get(entry, ())]

    # Writing

    def index_references(self, references: References) -> None:
        """Index objects by the objects that they reference, for :meth:`referrers`. The cache must be
        empty."""
        with self._lock:
            self._check_empty()
            self._references = references

    def add_index(self, index: IndexFunction) -> None:
        """Index objects for :meth:`indexed`. The cache must be empty."""
        with self._lock:
            self._check_empty()
            self._index_functions.append(index)

    def _check_empty(self) -> None:
        if self._objects:
            raise RuntimeError("cached objects would be missing in the index")

    def apply(self, event: WatchEvent) -> bool:
        """Apply a watch event. Returns whether the objects that the event concerns must be reconciled.

        Returns False for an event with an older state, and for a repeated deletion. Returns True for an event
        with the cached state, because it may report the operator's own write: decisions made before the write
        have to be repeated.
        """
        with self._lock:
            if event.type == "DELETED":
                return self._apply_deletion(event.obj)
            freshness = self._apply_object(event.obj)
            if freshness is not _Freshness.OLD:
                self._unconfirmed.discard(uid_of(event.obj))
            return freshness is not _Freshness.OLD

    def put(self, obj: Object) -> bool:
        """Store the whole object that the operator's own write or read returned. Returns False if the cache
        has a newer state of this object."""
        with self._lock:
            freshness = self._apply_object(obj)
            if freshness is _Freshness.NEW:
                self._unconfirmed.add(uid_of(obj))
            if freshness is not _Freshness.OLD and obj["kind"] in FETCHED_KINDS:
                self._contents.put(uid_of(obj), write_json(obj))
            return freshness is not _Freshness.OLD

    def remove(self, uid: str) -> None:
        """Remove an object, because a request found that it no longer exists."""
        with self._lock:
            self._drop(uid, None, FINAL_VERSION)

    def mark(self) -> int:
        """Return the value to pass as ``since`` to :meth:`resync`. Call it before requesting the list."""
        with self._lock:
            return self._changes

    def resync(
        self, kind: str, listed: Iterable[Object], since: int, namespace: str | None = None
    ) -> Iterator[WatchEvent]:
        """Update the cache from a complete list of one kind, in all namespaces or in ``namespace``.

        Yields an event for each change that the watch missed, while ``listed`` is read, and for each of the
        operator's own writes that no watch has reported yet. The list must be
        requested after :meth:`mark` returned ``since``, and must be a consistent read, not one from a stale
        cache. A cached object that is not in the list counts as deleted, unless it was added to the cache
        after ``since``, because it may be newer than the list. If iterating over ``listed`` raises an
        exception, no deletions are reported. If an object is missing in the list because it lost its label,
        the next read of the object from the cluster adds it to the cache again.

        Raises RestoredFromBackupError if the list has an older state than the cache had before ``since``.
        """
        present: set[str] = set()
        for obj in listed:
            present.add(uid_of(obj))
            with self._lock:
                is_known, replaced = uid_of(obj) in self._objects, self._namesake(obj)
                known_since = self._known_since(obj)
                freshness = self._apply_object(obj)
                if freshness is _Freshness.OLD and known_since <= since:
                    key = Key.of(obj)
                    raise RestoredFromBackupError(
                        f"{key.kind} {key.namespace}/{key.name} is listed in an older state than before: "
                        "etcd was restored from a backup"
                    )
                is_unconfirmed = freshness is _Freshness.SAME and uid_of(obj) in self._unconfirmed
                is_change = freshness is _Freshness.NEW or is_unconfirmed
                if is_change:
                    self._unconfirmed.discard(uid_of(obj))
            if is_change and replaced:
                yield WatchEvent("DELETED", replaced.read())
            if is_change:
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
        """Store why the cluster refused a child of this owner, or None once it accepted the owner's
        children."""
        with self._lock:
            if refusal is None:
                self._refusals.pop(owner_uid, None)
            else:
                self._refusals[owner_uid] = refusal

    def set_events(self, uid: str, found: EventsAbout) -> None:
        """Store the Events that a look-up found about the object with this uid, until the object is
        removed."""
        with self._lock:
            if uid in self._objects:
                self._events[uid] = found

    def _apply_deletion(self, last: Object) -> bool:
        """Apply a deletion. Returns whether the deletion is new.

        ``last`` is the object's last state, with the version of the deletion as its resourceVersion."""
        uid, version = uid_of(last), resource_version(last)
        held = self._objects.get(uid)
        if held and held.version > version:  # its label was restored later
            return False
        is_known = uid in self._deleted
        self._drop(uid, controlling_owner(last), version)
        return not is_known

    def _apply_object(self, obj: Object) -> "_Freshness":
        obj, text = prune(obj)
        uid, key, version, owner = uid_of(obj), Key.of(obj), resource_version(obj), controlling_owner(obj)
        if self._deleted.is_later(uid, version):
            return _Freshness.OLD
        held = self._objects.get(uid)
        if held and version < held.version:
            return _Freshness.OLD
        if held and version == held.version and (held.text == text or held.read() == obj):
            return _Freshness.SAME  # otherwise the CRD changed, and serves the same version with other fields
        references = tuple(self._references(obj)) if self._references else ()
        namesake = self._namesake(obj)
        if namesake:
            # Two objects with one name: the older one was deleted, even if no event reported it.
            if version < namesake.version:
                self._changes += 1
                self._deleted.add(uid, owner, FINAL_VERSION, self._changes)
                return _Freshness.OLD
            self._drop(namesake.uid, namesake.owner, FINAL_VERSION)
        self._deleted.remove(uid)
        self._contents.discard(uid)
        if held:
            self._unlink(held)
        self._changes += 1
        before = held or namesake
        new = CachedObject(
            uid,
            key,
            version,
            owner,
            references=references,
            referenced_before=before.references if before else (),
            indexed=tuple(entry for index in self._index_functions for entry in index(obj)),
            first_seen=held.first_seen if held else self._changes,
            changed=self._changes,
            text=text,
        )
        self._objects[uid] = new
        self._uids[key] = uid
        for entry in new.index_entries():
            self._index[entry].add(uid)
        for reader, position in new.indexed:
            self._ordered.add((key.kind, reader), position, uid)
        self.on_change(key.kind, uid, False)
        return _Freshness.NEW

    def _known_since(self, obj: Object) -> int:
        """Return how many changes were counted when the cache last changed what it knows about this object,
        or about another object with its name."""
        held = (self._objects.get(uid_of(obj)), self._namesake(obj))
        return max(self._deleted.changed(uid_of(obj)), *(one.changed for one in held if one), 0)

    def _namesake(self, obj: Object) -> CachedObject | None:
        """Return the cached object that has the same name but another uid, or None."""
        uid = self._uids.get(Key.of(obj), uid_of(obj))
        return self._objects[uid] if uid != uid_of(obj) else None

    def _drop(self, uid: str, owner: Owner | None, version: int) -> None:
        held = self._objects.pop(uid, None)
        if held:
            self._unlink(held)
            self.on_change(held.key.kind, uid, True)
        self._contents.discard(uid)
        self._unconfirmed.discard(uid)
        self._refusals.pop(uid, None)
        self._events.pop(uid, None)
        self._changes += 1
        self._deleted.add(uid, owner or (held.owner if held else None), version, self._changes)

    def _unlink(self, held: CachedObject) -> None:
        """Remove an object from the index, and remove index entries that are then empty."""
        if self._uids.get(held.key) == held.uid:
            del self._uids[held.key]
        for entry in held.index_entries():
            self._index[entry].discard(held.uid)
            if not self._index[entry]:
                del self._index[entry]
        for reader, position in held.indexed:
            self._ordered.discard((held.key.kind, reader), position, held.uid)


class _Freshness(Enum):
    """How an incoming object compares with the cached one."""

    NEW = auto()
    SAME = auto()
    OLD = auto()
