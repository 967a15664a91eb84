"""Decide whether a rule of a gate can fail. Without a minimum, this depends on what its base model passes."""

from collections.abc import Sequence

from tunegate_api.contract.bar import final_bar
from tunegate_api.meta import Sha256
from tunegate_api.v1alpha2.evalgate import EvalGateSpec
from tunegate_api.v1alpha2.evalgate_status import JudgedModel
from tunegate_api.verdict.comparison import can_fail

UNKNOWN = (
    "whether a rule can fail is unknown until a job measures a base model, because minPassRate is not set"
)
_KNOWN = {"BaseModel", "LastPublished"}
"""Models whose pass rate is in records. Others that a gate compares with are assumed to be good enough."""


def needs_base(spec: EvalGateSpec) -> bool:
    """Whether a rule of the gate can fail only if a model that it compares with passes enough cases. A safety
    set can always fail."""
    return spec.safety is None and not can_fail(final_bar(spec.golden), 1, ())


def why_no_rule_can_fail(
    spec: EvalGateSpec, digest: Sha256 | None, records: Sequence[JudgedModel]
) -> str | None:
    """Return why no rule can fail at the base rate that the newest of the ``records`` has for the golden set
    with this ``digest``. Empty if a rule can fail, and None if this is unknown."""
    if not needs_base(spec):
        return ""
    measured = [r for r in records if r.golden_sha256 == digest and r.base_passed is not None]
    types = {*spec.compared_types}
    if types - _KNOWN:
        return ""
    if not measured:
        return None
    base, passed = measured[0], [measured[0].base_passed or 0]
    if "LastPublished" in types:
        passed += [r.passed for r in measured if r.published_uris][:1]
    if can_fail(final_bar(spec.golden), base.total, passed):
        return ""
    return (
        f"the base model of FineTuneJob {base.job} passes {base.base_passed} of {base.total} golden cases, "
        "so no rule can fail: set minPassRate, or compare with a better model"
    )
