"""What a reader of a model card does with its snippet."""

import re
from pathlib import Path
from typing import Any


def load_as_the_card_says(published: Path, base: Path) -> tuple[Any, Any]:
    """Model and tokenizer, by the snippet in the published folder; an adapter's base is in ``base``."""
    (snippet,) = re.findall(r"```python\n(.*?)```", (published / "README.md").read_text(), re.DOTALL)
    names: dict[str, Any] = {}
    snippet = snippet.replace('folder = "."', f"folder = {str(published)!r}").replace(
        "path/to/base", str(base)
    )
    exec(compile(snippet, "README.md", "exec"), names)  # noqa: S102 - that is what it is for
    return names["model"], names["tokenizer"]
