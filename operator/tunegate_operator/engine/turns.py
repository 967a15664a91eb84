"""Keys that are ready for a worker, in the order in which workers take them: namespaces take turns."""

from collections import Counter, OrderedDict, defaultdict, deque

from tunegate_operator.engine.cluster import Key


class NamespaceTurns:
    """Ready keys. The namespaces that have any take turns, and the keys of a namespace keep their order.

    So a key waits for at most one key of each other namespace and the earlier keys of its own, however many
    keys the others have. Workers process at most ``at_once`` keys of one namespace at the same time, without
    limit if it is None. All operations take constant time. Not thread-safe.
    """

    def __init__(self, at_once: int | None = None) -> None:
        self._at_once = float("inf") if at_once is None else at_once
        self._ready: defaultdict[str, deque[Key]] = defaultdict(deque)
        self._taken: Counter[str] = Counter()
        self._order: OrderedDict[str, None] = OrderedDict()
        """The namespaces that have a ready key and may have another worker, the next one first."""

    def __bool__(self) -> bool:
        """Return whether :meth:`take` may be called."""
        return bool(self._order)

    def put(self, key: Key) -> None:
        """Add a key that is ready."""
        self._ready[key.namespace].append(key)
        self._queue_up(key.namespace)

    def take(self) -> Key:
        """Return the next key for a worker, and remove it. The worker must :meth:`release` the key. Raises
        KeyError if there is none."""
        namespace, _ = self._order.popitem(last=False)
        key = self._ready[namespace].popleft()
        self._taken[namespace] += 1
        if not self._ready[namespace]:
            del self._ready[namespace]
        self._queue_up(namespace)
        return key

    def release(self, key: Key) -> None:
        """Note that the worker that took this key is done with it."""
        self._taken[key.namespace] -= 1
        if not self._taken[key.namespace]:
            del self._taken[key.namespace]
        self._queue_up(key.namespace)

    def _queue_up(self, namespace: str) -> None:
        """Give the namespace a turn after all others, unless it has one, needs none, or has all its
        workers."""
        if namespace in self._ready and self._taken[namespace] < self._at_once:
            self._order.setdefault(namespace)
