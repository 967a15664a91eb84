"""The installed packages: their versions, and hiding them from libraries that import them if they can.

wandb and bitsandbytes take three of the nine seconds that a role spends on imports.
"""

import platform
import sys
from importlib.metadata import PackageNotFoundError, version
from typing import Any

from tunegate_api import __version__

_LIBRARIES = (
    *("accelerate", "bitsandbytes", "datasets", "liger-kernel", "peft"),
    *("tokenizers", "torch", "transformers", "triton", "trl"),
)

_hidden: set[str] = set()


def hide(*names: str) -> None:
    """Hide packages that are not imported yet: importing them raises :class:`ModuleNotFoundError`."""
    modules: dict[str, Any] = sys.modules
    for name in names:
        if modules.setdefault(name, None) is None:
            _hidden.add(name)


def show(*names: str) -> None:
    """Allow imports of packages that :func:`hide` hid."""
    for name in names:
        if sys.modules.get(name, sys) is None:
            del sys.modules[name]


def show_all() -> None:
    """Allow imports of all packages that :func:`hide` hid."""
    show(*_hidden)


def library_versions() -> dict[str, str]:
    """Return the versions of Python, Tunegate and all libraries that a run's results depend on."""
    return {
        "python": platform.python_version(),
        "tunegate": __version__,
        **{name: found for name in _LIBRARIES if (found := _version(name))},
    }


def _version(name: str) -> str | None:
    try:
        return version(name)
    except PackageNotFoundError:  # some are for Linux only
        return None
