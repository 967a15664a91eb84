"""Servers that answer for a model: one to judge, or one that judges."""

from typing import Annotated

from pydantic import Field

from tunegate_api.meta import ApiModel, Name

HTTP_PATTERN = r"^https?://"


class Endpoint(ApiModel):
    """An OpenAI-compatible server."""

    url: Annotated[
        str, Field(pattern=HTTP_PATTERN, max_length=1024, examples=["https://serving.internal/v1"])
    ]
    """The address below which /chat/completions answers."""
    model: Annotated[str, Field(max_length=256, examples=["invoice-extractor"])]
    """The name of the model at the server."""
    secret_name: Annotated[Name | None, Field(examples=["serving-key"])] = None
    """The Secret with the API key."""
