"""Hide installed packages from libraries that import them if they can, and show them to code that needs them.

wandb and bitsandbytes take three of the nine seconds that a role spends on imports.
"""

import sys
from typing import Any

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
