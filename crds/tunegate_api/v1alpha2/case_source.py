"""The type of the source of a set of cases."""

from typing import Annotated, Any, Literal

from pydantic import Field

from tunegate_api.meta import ApiModel, ObjectName
from tunegate_api.v1alpha2.data import DataUri
from tunegate_api.v1alpha2.fields import Key

SetName = Literal["golden", "safety"]
"""The name of a kind of sets that models are evaluated on, in results and on the volume."""


class CaseSource(ApiModel):
    """Source of cases, in JSON Lines format."""

    config_map: Annotated[ObjectName | None, Field(examples=["invoice-cases-v1"])] = None
    """Name of a ConfigMap in the same namespace that holds the file."""
    key: Annotated[Key | None, Field(examples=["cases.jsonl"])] = None
    """Key in the ConfigMap. Defaults to its only key."""
    uri: Annotated[DataUri | None, Field(examples=["pvc://datasets/cases.jsonl"])] = None
    """Address of the file: pvc://CLAIM/PATH, file://PATH (only with `tunegate run`),
    hf://datasets/ORG/NAME[@REVISION]/PATH, s3://BUCKET/KEY or https://HOST/PATH. The data Job of each
    FineTuneJob reads it."""
    secret_name: Annotated[ObjectName | None, Field(examples=["bucket-credentials"])] = None
    """Name of the Secret with the credentials for `uri`, with the keys of `data.sources.secretName`. It is
    mounted only into the pod of the data Job."""
    builtin: Literal["refusals-v1"] | None = None
    """Name of a safety set that is included in Tunegate."""
    inline: Annotated[list[dict[str, Any]] | None, Field(min_length=1, max_length=100)] = None
    """The cases themselves, at most 100. The whole spec must not exceed 256 KiB as JSON."""

    @property
    def label(self) -> str:
        """The source in a few words, for reports and pages. A signed URL is without its signature."""
        address = self.uri.partition("?")[0] if self.uri else None
        return self.builtin or self.config_map or address or "cases in the spec"
