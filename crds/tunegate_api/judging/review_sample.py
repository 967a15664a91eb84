"""The rows that people review, as the data role writes them to the volume, and their digest."""

from collections.abc import Iterable
from typing import Any

from tunegate_api.contract.digests import canonical_json, sha256_text
from tunegate_api.messages import Message, ToolCall
from tunegate_api.meta import Sha256, StatusModel

ID_LENGTH = 12
"""Number of characters of the id of a row in the sample: the first of its digest."""


class ReviewRow(StatusModel):
    """A training row in the review sample: a line of data/review/sample.jsonl."""

    id: str = ""
    """Id of the row in the sample, see :func:`with_id`."""
    row: str
    """Id of the row in the data, or its line number."""
    prompt: list[Message]
    completion: str
    reasoning: str | None = None
    """The reasoning before the answer."""
    tool_calls: list[ToolCall] | None = None
    """The tool calls of the answer."""
    tools: list[dict[str, Any]] | None = None
    """Functions that the model may call."""

    @property
    def digest(self) -> Sha256:
        """The digest of the row's content. It does not depend on the position of the row in the data."""
        return sha256_text(canonical_json(self.model_copy(update={"row": "", "id": ""})))


def with_id(row: ReviewRow) -> ReviewRow:
    """Return the row with its id in the sample, which depends only on the row's content."""
    return row.model_copy(update={"id": row.digest[:ID_LENGTH]})


def sample_digest(rows: Iterable[ReviewRow]) -> Sha256:
    """Return the digest of a sample: the SHA-256 of the digests of its rows, sorted, one a line. Scores are
    tied to it."""
    return sha256_text("".join(f"{digest}\n" for digest in sorted(row.digest for row in rows)))
