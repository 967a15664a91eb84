"""The type for an inference server, which serves either a model to judge or a language model that judges."""

from typing import Annotated

from pydantic import Field

from tunegate_api.meta import ApiModel, ObjectName

HTTP_PATTERN = r"^https?://"
BASE_URL_PATTERN = "^https?://[^@?#]+$"


class Endpoint(ApiModel):
    """An OpenAI-compatible inference server."""

    url: Annotated[
        str, Field(pattern=BASE_URL_PATTERN, max_length=1024, examples=["https://serving.internal/v1"])
    ]
    """Base URL of the API, to which /chat/completions is appended."""
    model: Annotated[str, Field(max_length=256, examples=["invoice-extractor"])]
    """Name of the model on the server."""
    secret_name: Annotated[ObjectName | None, Field(examples=["serving-key"])] = None
    """Name of the Secret with the API key. Key: OPENAI_API_KEY."""
