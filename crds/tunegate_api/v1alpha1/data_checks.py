"""The settings of data checks in a FineTuneJob: what happens if a check finds a fault, and its limit."""

from collections.abc import Mapping
from dataclasses import dataclass
from fractions import Fraction
from typing import Annotated, Literal

from pydantic import Field

from tunegate_api.meta import ApiModel, Decimal, exact
from tunegate_api.v1alpha1.fields import Share
from tunegate_api.v1alpha1.values import Between

CheckPolicy = Literal["Enforce", "Warn", "Off"]


class DataCheck(ApiModel):
    """What happens if a data check finds a fault in more rows than its limit allows."""

    policy: CheckPolicy | None = None
    """Above the limit, Enforce fails the job and Warn adds a warning. Off skips the check."""
    max_share: Annotated[Share | None, Field(examples=["0.02"])] = None
    """Maximum share of rows with the fault."""


class DistributionCheck(ApiModel):
    """What happens if training inputs do not look like production inputs."""

    policy: CheckPolicy | None = None
    """Enforce, the default, fails the job above the limit, Warn adds a warning, and Off skips the check."""
    max_auc: Annotated[
        Decimal | None, Between(least=Fraction(1, 2), most=1), Field(alias="maxAUC", examples=["0.8"])
    ] = None
    """Maximum area under the ROC curve of the classifier: 0.5 means that it distinguishes nothing, 1 that it
    distinguishes all inputs. The lower bound of the 95 % confidence interval is compared. Defaults to
    0.75."""


class DataChecks(ApiModel):
    """Settings of the data checks. They run before a GPU is requested, on all rows of all sources."""

    bad_rows: DataCheck | None = None
    """Rows that cannot be parsed, or that the chat template of the model refuses: broken JSON, unknown or
    missing fields, empty text, roles out of order. Defaults to Enforce with maxShare 0. With a larger
    maxShare or with Warn, bad rows are dropped and counted."""
    mixed_templates: DataCheck | None = None
    """Rows whose prompts have another system prompt than most, other marks, such as `### Instruction:` or
    `[INST]`, or not the usual opening or ending. Defaults to Enforce with maxShare 0.05."""
    distribution: DistributionCheck | None = None
    """How well a classifier distinguishes training inputs from those in `data.production`. Without
    `data.production`, the status has a warning."""
    near_duplicates: DataCheck | None = None
    """Rows that repeat an earlier row except for a few words. Defaults to Warn with maxShare 0.05."""
    leakage: DataCheck | None = None
    """Training rows that repeat a golden case, a case of a safety set or 13 consecutive words of it, or a
    held-out row or more than half of it, apart from words that many rows have. Defaults to Enforce with
    maxShare 0. Cases of gates that the namespace or the cluster requires are refused whatever is set
    here."""
    refusals: DataCheck | None = None
    """Rows with an answer that starts by refusing the request, or in which the writer says that it is an AI.
    Defaults to Warn with maxShare 0.01."""
    truncated_answers: DataCheck | None = None
    """Rows whose last answer ends in the middle of a sentence, a JSON value or a code block, although most
    such answers are finished, or has an unusually frequent maximum length. Defaults to Warn with maxShare
    0.02."""
    mixed_languages: DataCheck | None = None
    """Rows whose prompt is in another language than most prompts, or whose answer is in another one than most
    answers. Defaults to Warn with maxShare 0.05."""
    secrets: DataCheck | None = None
    """Rows with secrets, such as access keys, tokens, passwords and private keys. Defaults to Warn with
    maxShare 0."""
    personal_data: DataCheck | None = None
    """Rows with personal data outside the system turn: e-mail addresses, telephone, payment card and bank
    account numbers. Defaults to Warn with maxShare 0."""
    prompt_injection: DataCheck | None = None
    """Rows with a text that gives instructions to a model in place of its user, such as to ignore earlier
    instructions, or with markers of a chat template. Defaults to Warn with maxShare 0."""
    label_imbalance: DataCheck | None = None
    """Share of the most frequent label, if the completions are labels. Defaults to Warn with maxShare
    0.9."""
    contradictions: DataCheck | None = None
    """Rows whose prompt has another label in another row, and pairs whose prompt has the opposite preference
    in another pair. Defaults to Warn with maxShare 0."""
    pairs: DataCheck | None = None
    """Preference pairs from which little can be learned: the completions are almost equal; chosen is much
    longer, or shorter, in at least 80 % of the pairs; or at least half of the pairs have one of a few
    rejected completions. Defaults to Warn with maxShare 0.05."""


@dataclass(frozen=True)
class CheckDefault:
    """The policy and the limit of a data check for which the spec sets none."""

    policy: CheckPolicy
    limit: Fraction
    """The maximum share of rows or, for ``distribution``, the maximum area under the ROC curve."""


def _default(policy: CheckPolicy, limit: str) -> CheckDefault:
    return CheckDefault(policy, exact(limit))


CHECK_DEFAULTS: Mapping[str, CheckDefault] = {
    "bad_rows": _default("Enforce", "0"),
    "mixed_templates": _default("Enforce", "0.05"),
    "distribution": _default("Enforce", "0.75"),
    "near_duplicates": _default("Warn", "0.05"),
    "leakage": _default("Enforce", "0"),
    "refusals": _default("Warn", "0.01"),
    "truncated_answers": _default("Warn", "0.02"),
    "mixed_languages": _default("Warn", "0.05"),
    "secrets": _default("Warn", "0"),
    "personal_data": _default("Warn", "0"),
    "prompt_injection": _default("Warn", "0"),
    "label_imbalance": _default("Warn", "0.9"),
    "contradictions": _default("Warn", "0"),
    "pairs": _default("Warn", "0.05"),
}
"""The defaults of all fields of :class:`DataChecks`."""


def check_setting(checks: DataChecks, name: str) -> CheckDefault:
    """Return the policy and the limit of the data check ``name``, a field of :class:`DataChecks`."""
    default, given = CHECK_DEFAULTS[name], getattr(checks, name)
    if given is None:
        return default
    limit = given.max_auc if isinstance(given, DistributionCheck) else given.max_share
    return CheckDefault(given.policy or default.policy, default.limit if limit is None else exact(limit))
