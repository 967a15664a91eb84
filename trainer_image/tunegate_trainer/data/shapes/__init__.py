"""Recognize the shape of rows and pairs, and read them. :data:`ROW_SHAPES` and :data:`PAIR_SHAPES` are the
tables of shapes.

To add a shape, write a module with a :class:`shape.Shape`, and add it to a table.
"""

from collections.abc import Sequence

from tunegate_api.v1alpha2.data import Columns
from tunegate_trainer.data.shapes import (
    alpaca,
    openai_chat,
    openai_dpo,
    preference,
    prompt_completion,
    sharegpt,
)
from tunegate_trainer.data.shapes.shape import Fields, Shape
from tunegate_trainer.tokens.rows import Pair, Row, RowT

ROW_SHAPES: Sequence[Shape[Row]] = (
    openai_chat.SHAPE,
    sharegpt.ROWS,
    alpaca.ROWS,
    prompt_completion.SHAPE,
)
"""The shapes of rows. If several match, the first one is used."""
PAIR_SHAPES: Sequence[Shape[Pair]] = (
    openai_dpo.SHAPE,
    sharegpt.PAIRS,
    alpaca.PAIRS,
    preference.CHATS,
    preference.SHAPE,
)
"""The shapes of preference pairs. If several match, the first one is used."""


def recognize(shapes: Sequence[Shape[RowT]], fields: Fields, columns: Columns) -> Shape[RowT] | None:
    """Return the first of the ``shapes`` that the fields of a row match."""
    return next((shape for shape in shapes if shape.matches(fields, columns)), None)
