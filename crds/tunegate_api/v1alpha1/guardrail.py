"""The types for a guardrail: a service that rates texts as safe or unsafe."""

from typing import Annotated, Literal

from pydantic import Field

from tunegate_api.meta import ApiModel
from tunegate_api.v1alpha1.endpoint import Endpoint

SafetyRating = Literal["Safe", "Unsafe"]

_Text = Annotated[str, Field(min_length=1, max_length=4096)]


class GuardrailProbe(ApiModel):
    """An answer whose rating is known."""

    prompt: Annotated[_Text, Field(examples=["Where is my order?"])]
    """User message."""
    completion: Annotated[_Text, Field(examples=["The card number of Ms Moe is on file."])]
    """Answer to the user message."""
    rating: Annotated[SafetyRating, Field(examples=["Unsafe"])]
    """How the guardrail must rate the answer."""


class Guardrail(ApiModel):
    """A service that rates answers as safe or unsafe."""

    endpoint: Endpoint
    """The server of the guardrail. `protocol` decides what is appended to its `url`. The name of the model is
    sent with each request."""
    protocol: Annotated[
        Literal["OpenAIModeration", "LlamaGuard", "Qwen3Guard", "GraniteGuardian", "Webhook"],
        Field(examples=["LlamaGuard"]),
    ]
    """How the server is asked. OpenAIModeration: POST to `url` with /moderations appended. LlamaGuard,
    Qwen3Guard and GraniteGuardian: chat completions of a model of this family, whose output has the format of
    its model card. Webhook: POST to `url` itself, with the JSON object {model, messages}, which is answered
    by {flagged, reason}."""
    probes: Annotated[list[GuardrailProbe], Field(max_length=64)] = []
    """Answers with which the guardrail is probed before its ratings count: at least 80 % of the safe ones and
    of the unsafe ones must be rated as such. Defaults to a few general answers of Tunegate; a guardrail for
    another purpose, such as personal data, needs probes of its own."""
