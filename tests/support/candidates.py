"""Prompts with completions to rank, and a session that ranks them."""

import json
from pathlib import Path
from typing import Any

from tunegate_api.preference import Candidates
from tunegate_client.pairs.files import Known
from tunegate_client.pairs.session import shown


def make_known(prompts: int = 3, completions: int = 3) -> Known:
    """Return prompts p1, p2, ... with completions c1, c2, ..."""
    texts = [{"id": f"c{n}", "text": f"answer {n}"} for n in range(1, completions + 1)]
    fields: list[dict[str, Any]] = [
        {"id": f"p{n}", "prompt": f"order {n}", "completions": texts} for n in range(1, prompts + 1)
    ]
    return {one["id"]: Candidates.model_validate(one) for one in fields}


def write_known(path: Path, known: Known) -> None:
    path.write_text("".join(json.dumps(one.model_dump(mode="json")) + "\n" for one in known.values()))


def number_of(known: Known, rater: str, prompt: str, completion: str) -> str:
    """Return the key of a completion for a person."""
    ids = [one.id for one in shown(known[prompt], rater)]
    return str(ids.index(completion) + 1)
