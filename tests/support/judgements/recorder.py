"""Record what the product judges while tests run: the input of each judgement, and what was returned.

The functions in :data:`~support.judgements.seams.SEAMS` are wrapped when their modules are imported. If one
of them calls another one, only the outer call is recorded. Each process appends JSON lines to a file of its
own in a folder. A process that may not write there, such as one of another user, records nothing. Examples of
Hypothesis are not recorded, because they differ between runs.
"""

import json
import os
import sys
import threading
import traceback
from collections.abc import Callable, Iterator, Sequence
from contextlib import suppress
from functools import wraps
from hashlib import sha256
from importlib.abc import MetaPathFinder
from importlib.machinery import ModuleSpec, PathFinder
from inspect import signature
from pathlib import Path
from types import ModuleType
from typing import Any

from support.judgements.seams import SEAMS, Seam


class _State(threading.local):
    is_inside = False
    """Whether the thread is in a wrapped function."""


_state = _State()
_seen: set[str] = set()
"""Digests of what this process recorded."""


def install(folder: Path) -> None:
    """Record the judgements of this process and of its forks in ``folder``."""
    folder.mkdir(parents=True, exist_ok=True)
    sys.meta_path.insert(0, _Finder(folder))


class _Finder(MetaPathFinder):
    """Finds the modules of the seams, and wraps their functions once they are imported."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder

    def find_spec(
        self, fullname: str, path: Sequence[str] | None, target: ModuleType | None = None
    ) -> ModuleSpec | None:
        if fullname not in SEAMS:
            return None
        spec = PathFinder.find_spec(fullname, path, target)
        assert spec is not None
        loader: Any = spec.loader
        execute = loader.exec_module

        def execute_and_wrap(module: ModuleType) -> None:
            execute(module)
            for name, seam in SEAMS[fullname].items():
                setattr(module, name, _recorded(getattr(module, name), seam, self._folder))

        loader.exec_module = execute_and_wrap
        return spec


def _recorded(function: Callable[..., Any], seam: Seam, folder: Path) -> Callable[..., Any]:
    parameters = signature(function)

    @wraps(function)
    def recorded(*arguments: Any, **named: Any) -> Any:
        if _state.is_inside or _is_random():
            return function(*arguments, **named)
        bound = parameters.bind(*arguments, **named)
        bound.apply_defaults()
        given = {
            key: list(each) if isinstance(each, Iterator) else each for key, each in bound.arguments.items()
        }
        _state.is_inside = True
        try:
            returned = function(**given)
            _record(folder, function.__name__, seam, given, returned)
        finally:
            _state.is_inside = False
        return returned

    return recorded


def _is_random() -> bool:
    hypothesis = sys.modules.get("hypothesis")
    return bool(hypothesis and hypothesis.currently_in_test_context())


def _record(folder: Path, function: str, seam: Seam, given: dict[str, Any], returned: Any) -> None:
    try:
        found = seam(given, returned)
        if found is None:
            return
        seen = json.dumps(found, sort_keys=True)
    except Exception:  # noqa: BLE001 - the test must go on; who makes the corpus sees the error
        seen = json.dumps({"error": f"{function}: {traceback.format_exc()}"})
    digest = sha256(seen.encode()).hexdigest()
    if digest in _seen:
        return
    _seen.add(digest)
    line = json.dumps({"test": os.environ.get("PYTEST_CURRENT_TEST", ""), "seen": seen})
    with suppress(OSError):  # another user, or a process that may not write
        target = os.open(folder / f"{os.getpid()}.jsonl", os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)
        try:
            os.write(target, f"{line}\n".encode())
        finally:
            os.close(target)
