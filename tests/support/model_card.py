"""Run the code snippet of a model card."""

import re
from pathlib import Path
from typing import Any


def load_as_the_card_says(published: Path, base: Path) -> tuple[Any, Any]:
    """Load model and tokenizer with the snippet in the published folder. ``base`` is an adapter's base
    model."""
    (snippet,) = re.findall(r"```python\n(.*?)```", (published / "README.md").read_text(), re.DOTALL)
    names: dict[str, Any] = {}
    snippet = snippet.replace('folder = "."', f"folder = {str(published)!r}").replace(
        "path/to/base", str(base)
    )
    exec(compile(snippet, "README.md", "exec"), names)  # noqa: S102 - running the snippet is the purpose
    return names["model"], names["tokenizer"]
