"""The reference of scorers that compare texts."""

from dataclasses import dataclass

from tunegate_api.v1alpha1.finetunejob import TextForm


@dataclass(frozen=True)
class ExpectedText:
    """The text that an output is compared with, and what the comparison ignores."""

    text: str
    normalize: tuple[TextForm, ...] = ()
