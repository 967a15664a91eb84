"""The types for what an EvalGate compares a model with."""

from typing import Annotated, Literal

from pydantic import Field

from tunegate_api.meta import ApiModel, Sha256
from tunegate_api.v1alpha2.endpoint import Endpoint
from tunegate_api.v1alpha2.fields import Uri
from tunegate_api.v1alpha2.values import AllowedSchemes

ComparedType = Literal["BaseModel", "LastPublished", "Version", "Endpoint"]

VERSION_FIELD = "spec.compareWith[Version].version"
ENDPOINT_FIELD = "spec.compareWith[Endpoint].endpoint"


class PinnedVersion(ApiModel):
    """A published version that a gate compares with even when later versions are published, so that small
    drops do not add up."""

    uri: Annotated[
        Annotated[Uri, AllowedSchemes(("pvc", "file"))],
        Field(examples=["pvc://models/invoice-extractor/invoice-extractor-0f7c9"]),
    ]
    """Address of the version, as the `status.published` of its job shows it."""
    digest: Annotated[
        Sha256, Field(examples=["9c1f0e2d3c4b5a69788796a5b4c3d2e1f00f1e2d3c4b5a69788796a5b4c3d2e1"])
    ]
    """Digest of the version, as the `status.published` of its job shows it."""


class ComparedSubject(ApiModel):
    """A model that a gate compares with. Its outcomes are a baseline."""

    type: ComparedType
    """What the model is compared with. BaseModel: the model that the job starts from. If an adapter is
    trained on a quantized base model (QLoRA), the quantized base model is used. LastPublished: the newest
    version that was published to the same URI. The evidence that was published with this version is read
    before the verdict, and again before publishing. If the version was not judged by this gate with this
    golden set, the final gate evaluates it on the set. If no version was published, LastPublished is skipped.
    Version: a version that stays the same when later versions are published. Endpoint: the model that is live
    now, on an inference server. Only the final model of a job is compared with Version and Endpoint."""
    version: PinnedVersion | None = None
    """The version for the type Version, and only for it. The final gate evaluates it on the golden set."""
    endpoint: Endpoint | None = None
    """The server for the type Endpoint, and only for it. The final gate sends it each golden case. If the
    server does not answer, the verdict is Error."""

    @property
    def shown(self) -> str:
        """The name of the model in messages. Empty if only the type names it."""
        if self.version:
            return self.version.uri.rstrip("/").rpartition("/")[2]
        return self.endpoint.model if self.endpoint else ""
