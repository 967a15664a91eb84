"""Write or check a page of the documentation that a script generates."""

import difflib
import sys
from collections.abc import Sequence
from pathlib import Path


def write_or_check(page: Path, new: str, arguments: Sequence[str], advice: str) -> int:
    """Write ``new`` to ``page``. With ``--check`` in ``arguments``, print how the page differs and ``advice``
    instead, and return 1 if it differs."""
    old = page.read_text(encoding="utf-8") if page.exists() else ""
    if "--check" not in arguments:
        page.write_text(new, encoding="utf-8")
    elif new != old:
        lines = difflib.unified_diff(
            old.splitlines(True), new.splitlines(True), f"{page.name} (committed)", page.name
        )
        print("".join(lines), end="")
        print(advice, file=sys.stderr)
        return 1
    return 0
