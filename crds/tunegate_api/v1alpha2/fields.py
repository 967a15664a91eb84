"""Field types that several parts of the API use."""

from typing import Annotated

from pydantic import Field

from tunegate_api.meta import (
    DNS_NAME_DESCRIPTION,
    DNS_NAME_PATTERN,
    MAX_DNS_NAME,
    NAME_PATTERN,
    RESERVED,
)
from tunegate_api.v1alpha2.values import Form

URI_PATTERN = r"^[a-z][a-z0-9+.-]*://\S+$"
KEY_PATTERN = r"^[-._a-zA-Z0-9]+$"
METRIC_NAME_PATTERN = r"^[a-z]([-_a-z0-9]*[a-z0-9])?$"

Uri = Annotated[
    str,
    Field(pattern=URI_PATTERN, max_length=1024),
    Form(
        f"^pvc://{DNS_NAME_PATTERN[1:-1]}/+[^/]",
        f"must name a claim and a path in it, pvc://CLAIM/PATH; the claim must be {DNS_NAME_DESCRIPTION}",
        start="pvc://",
    ),
    Form(
        rf"^pvc://[^/]{{{MAX_DNS_NAME + 1}}}|/\.\.(/|$)",
        f"the claim must have at most {MAX_DNS_NAME} characters, and the path must stay inside the claim, "
        'without ".."',
        never=True,
        start="pvc://",
    ),
    Form(
        rf"^pvc://[^/]+/+(\./+)*(?i:{RESERVED})(/|$)",
        f"the path must not lead into the folder {RESERVED} of a claim, where Tunegate keeps the files of "
        "jobs: choose another path",
        never=True,
        start="pvc://",
    ),
]
ShortName = Annotated[str, Field(pattern=NAME_PATTERN, min_length=1, max_length=20)]
MetricName = Annotated[str, Field(pattern=METRIC_NAME_PATTERN, max_length=40)]
Key = Annotated[str, Field(pattern=KEY_PATTERN, min_length=1, max_length=253)]
