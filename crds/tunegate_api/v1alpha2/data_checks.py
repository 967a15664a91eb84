"""The settings of data checks in a FineTuneJob: what happens if a check finds a fault, and its limit."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from fractions import Fraction
from typing import Annotated, Literal

from pydantic import Field

from tunegate_api.meta import ApiModel
from tunegate_api.v1alpha2.shares import Percent, share

CheckPolicy = Literal["Enforce", "Warn", "Off"]
CheckName = Literal[
    "BadRows",
    "MixedTemplates",
    "Distribution",
    "NearDuplicates",
    "Leakage",
    "Refusals",
    "TruncatedAnswers",
    "MixedLanguages",
    "Secrets",
    "PersonalData",
    "PromptInjection",
    "LabelImbalance",
    "Contradictions",
    "Pairs",
]


class DataCheck(ApiModel):
    """The policy and the limit of a data check, if they differ from the defaults."""

    name: CheckName
    """The check, here with the defaults of policy and max. BadRows (Enforce, 0%): rows that cannot be parsed,
    or that the chat template of the model refuses: broken JSON, unknown or missing fields, empty text, roles
    out of order; with a larger max or with Warn, bad rows are dropped and counted. MixedTemplates (Enforce,
    5%): rows whose prompts have another system prompt than most, other marks, such as `### Instruction:` or
    `[INST]`, or not the usual opening or ending. Distribution (Enforce, 75%): how well a classifier
    distinguishes training inputs from production inputs; without a source of use Production, the status has a
    warning. NearDuplicates (Warn, 5%): rows that repeat an earlier row except for a few words. Leakage
    (Enforce, 0%): training rows that repeat a golden case, a case of a safety set or 13 consecutive words of
    it, or a held-out row or more than half of it, apart from words that many rows have; cases of gates that
    the namespace or the cluster requires are refused whatever is set here. Refusals (Warn, 1%): rows with
    an answer that starts by refusing the request, or in which the writer says that it is an AI.
    TruncatedAnswers (Warn, 2%): rows whose last answer ends in the middle of a sentence, a JSON value or a
    code block, although most such answers are finished, or has an unusually frequent maximum length.
    MixedLanguages (Warn, 5%): rows whose prompt is in another language than most prompts, or whose answer
    is in another one than most answers. Secrets (Warn, 0%): rows with secrets, such as access keys, tokens,
    passwords and private keys. PersonalData (Warn, 0%): rows with personal data outside the system turn:
    e-mail addresses, telephone, payment card and bank account numbers. PromptInjection (Warn, 0%): rows with
    a text that gives instructions to a model in place of its user, such as to ignore earlier instructions, or
    with markers of a chat template. LabelImbalance (Warn, 90%): share of the most frequent label, if the
    completions are labels. Contradictions (Warn, 0%): rows whose prompt has another label in another row, and
    pairs whose prompt has the opposite preference in another pair. Pairs (Warn, 5%): preference pairs from
    which little can be learned: the completions are almost equal; chosen is much longer, or shorter, in at
    least 80 % of the pairs; or at least half of the pairs have one of a few rejected completions."""
    policy: CheckPolicy | None = None
    """Above the limit, Enforce fails the job and Warn adds a warning. Off skips the check."""
    max: Annotated[Percent | None, Field(examples=["2%"])] = None
    """Maximum share of rows with the fault. For Distribution, the maximum area under the ROC curve of the
    classifier, 50% to 100%: 50% means that it distinguishes nothing, 100% that it distinguishes all inputs.
    The lower bound of the nominal 95 % interval is compared. The interval is somewhat too narrow."""


@dataclass(frozen=True)
class CheckSetting:
    """The policy and the limit of a data check."""

    policy: CheckPolicy = "Enforce"
    limit: Fraction = Fraction(0)
    """The maximum share of rows or, for Distribution, the maximum area under the ROC curve."""


def _default(policy: CheckPolicy, limit: str) -> CheckSetting:
    return CheckSetting(policy, share(limit))


CHECK_DEFAULTS: Mapping[CheckName, CheckSetting] = {
    "BadRows": _default("Enforce", "0%"),
    "MixedTemplates": _default("Enforce", "5%"),
    "Distribution": _default("Enforce", "75%"),
    "NearDuplicates": _default("Warn", "5%"),
    "Leakage": _default("Enforce", "0%"),
    "Refusals": _default("Warn", "1%"),
    "TruncatedAnswers": _default("Warn", "2%"),
    "MixedLanguages": _default("Warn", "5%"),
    "Secrets": _default("Warn", "0%"),
    "PersonalData": _default("Warn", "0%"),
    "PromptInjection": _default("Warn", "0%"),
    "LabelImbalance": _default("Warn", "90%"),
    "Contradictions": _default("Warn", "0%"),
    "Pairs": _default("Warn", "5%"),
}
"""The defaults of all checks that a :class:`DataCheck` can name."""


def check_setting(checks: Sequence[DataCheck], name: CheckName) -> CheckSetting:
    """Return the policy and the limit of the data check ``name``, with its defaults."""
    default = CHECK_DEFAULTS[name]
    given = next((one for one in checks if one.name == name), None)
    if given is None:
        return default
    limit = default.limit if given.max is None else share(given.max)
    return CheckSetting(given.policy or default.policy, limit)
