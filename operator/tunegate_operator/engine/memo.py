"""Remember the newest result about each object, so that it is computed again only for other inputs."""

from collections.abc import Callable
from threading import Lock
from typing import Generic, TypeVar

from pydantic_core import PydanticSerializationError

from tunegate_api.contract.digests import sha256_text
from tunegate_api.meta import ApiModel, Sha256

Result = TypeVar("Result")


class Memo(Generic[Result]):
    """Remembers results of at most ``most`` objects, those that were asked for last. Thread-safe."""

    def __init__(self, most: int) -> None:
        self._most = most
        self._found: dict[str, tuple[Sha256, Result]] = {}
        self._lock = Lock()

    def get(self, uid: str, inputs: tuple[ApiModel | str, ...], compute: Callable[[], Result]) -> Result:
        """Return the remembered result about the object ``uid`` for equal ``inputs``, otherwise that of
        ``compute``, which must depend on nothing else."""
        try:
            texts = [one if isinstance(one, str) else one.model_dump_json() for one in inputs]
        except PydanticSerializationError:  # JSON in it is nested too deeply
            return compute()
        digest = sha256_text("\n".join(f"{len(text)} {text}" for text in texts))
        with self._lock:
            found = self._found.pop(uid, None)
        result = found[1] if found and found[0] == digest else compute()
        with self._lock:
            self._found[uid] = (digest, result)
            if len(self._found) > self._most:
                del self._found[next(iter(self._found))]
        return result
