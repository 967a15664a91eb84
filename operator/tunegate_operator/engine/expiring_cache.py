"""A cache with a limited number of entries, each of which expires after some time."""

from collections import OrderedDict
from typing import Generic, TypeVar

from tunegate_operator.engine.clock import Clock

_Value = TypeVar("_Value")


class ExpiringCache(Generic[_Value]):
    """Keeps at most ``limit`` values, each for ``seconds``. Above the limit, the value stored earliest is
    dropped. Not thread-safe."""

    def __init__(self, limit: int, seconds: float, clock: Clock) -> None:
        self._limit = limit
        self._seconds = seconds
        self._clock = clock
        self._values: OrderedDict[str, tuple[float, _Value]] = OrderedDict()

    def get(self, key: str) -> _Value | None:
        until, value = self._values.get(key, (0.0, None))
        return value if self._clock.monotonic() < until else None

    def put(self, key: str, value: _Value) -> None:
        self._values[key] = (self._clock.monotonic() + self._seconds, value)
        self._values.move_to_end(key)
        while len(self._values) > self._limit:
            self._values.popitem(last=False)
