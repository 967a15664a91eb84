"""Data checks that run before training, one module per check. :data:`CHECKS` is their table.

To add a check, write a module with ``NAME`` and ``run(rows, context)``, see :class:`finding.Check`. Add the
module to a group of :data:`CHECKS`. The group decides what the check gets as ``rows``, see :class:`Checks`.
If users can set the policy or the limit of the check, add a line to :data:`SETTINGS`. If the check reads the
cases of gates, add it to :data:`OF_GOLDEN_CASES` or :data:`OF_GATES`.
"""

from collections.abc import Mapping
from dataclasses import dataclass, fields
from typing import Any

from tunegate_api.v1alpha2.data import Data
from tunegate_api.v1alpha2.data_checks import CheckName, CheckSetting, check_setting
from tunegate_trainer.checks import (
    bad_inputs,
    bad_rows,
    capped_splits,
    conflicting_sides,
    contradictions,
    cut_answers,
    cut_cases,
    distribution_shift,
    empty_splits,
    few_rows,
    golden_prompts,
    held_out_pairs,
    label_imbalance,
    leaked_passages,
    length_bias,
    long_rows,
    lost_reasoning,
    masked_answers,
    mixed_languages,
    mixed_rows,
    mixed_templates,
    near_duplicates,
    near_equal_pairs,
    no_rows,
    personal_data,
    prompt_injection,
    refusals,
    rewritten_answers,
    schemas,
    secrets,
    shared_prompts,
    similar_rejections,
    split_leakage,
    system_turns,
    trained_prompts,
    truncated_answers,
    unreviewed_rows,
    unusable_metrics,
)
from tunegate_trainer.checks.finding import Check
from tunegate_trainer.checks.rows import SplitRows, UsableRows
from tunegate_trainer.checks.schemas import MetricSchemas
from tunegate_trainer.data.mix import TrainedMix
from tunegate_trainer.data.production import Production
from tunegate_trainer.data.split import Split
from tunegate_trainer.data.usable import SourceRows, UsableRow
from tunegate_trainer.tokens.rows import Pair


@dataclass(frozen=True)
class Checks:
    """All checks, grouped by what they read. The groups run in the order of the fields."""

    schemas: tuple[Check[MetricSchemas], ...]
    """Checks of JSON schemas, which run before any row is read."""
    source: tuple[Check[SourceRows[Any]], ...]
    """Checks of one data source of use Train, Preference or Mix. Each runs only if the ones before it refuse
    nothing."""
    production: tuple[Check[Production], ...]
    """Checks of the production inputs. They run only if the job has any."""
    usable: tuple[Check[UsableRows], ...]
    """Checks of all rows and pairs that can be trained on."""
    pairs: tuple[Check[Split[UsableRow[Pair]]], ...]
    """Checks of the train, dev and test pairs. They run only if the job has preference data."""
    mixed: tuple[Check[UsableRows], ...]
    """Checks of the rows of a source of use Mix, before those that repeat held-out rows are left out."""
    trained_mix: tuple[Check[TrainedMix], ...]
    """Checks of the rows of a source of use Mix that are trained on."""
    split: tuple[Check[SplitRows], ...]
    """Checks of the train, dev and test rows together with the train, dev and test pairs."""

    def without(self, *names: str) -> "Checks":
        """Return all checks but those of these names."""
        groups = {group.name: getattr(self, group.name) for group in fields(self)}
        return Checks(
            **{
                group: tuple(check for check in checks if check.NAME not in names)
                for group, checks in groups.items()
            }
        )


CHECKS = Checks(
    schemas=(schemas,),
    source=(bad_rows, long_rows, no_rows),
    production=(bad_inputs,),
    usable=(
        golden_prompts,
        leaked_passages,
        near_duplicates,
        shared_prompts,
        mixed_templates,
        distribution_shift,
        contradictions,
        label_imbalance,
        refusals,
        truncated_answers,
        secrets,
        personal_data,
        prompt_injection,
        mixed_languages,
        near_equal_pairs,
        length_bias,
        similar_rejections,
    ),
    pairs=(held_out_pairs,),
    mixed=(
        golden_prompts,
        leaked_passages,
        near_duplicates,
        refusals,
        truncated_answers,
        secrets,
        personal_data,
        prompt_injection,
    ),
    trained_mix=(mixed_rows,),
    split=(
        trained_prompts,
        split_leakage,
        conflicting_sides,
        masked_answers,
        empty_splits,
        capped_splits,
        few_rows,
        unreviewed_rows,
        system_turns,
        cut_answers,
        cut_cases,
        rewritten_answers,
        lost_reasoning,
        unusable_metrics,
    ),
)


SETTINGS: Mapping[str, CheckName] = {
    "bad_inputs": "BadRows",
    "bad_rows": "BadRows",
    "contradictions": "Contradictions",
    "distribution_shift": "Distribution",
    "golden_prompts": "Leakage",
    "label_imbalance": "LabelImbalance",
    "leaked_passages": "Leakage",
    "mixed_templates": "MixedTemplates",
    "near_duplicates": "NearDuplicates",
    "split_leakage": "Leakage",
    "refusals": "Refusals",
    "truncated_answers": "TruncatedAnswers",
    "secrets": "Secrets",
    "personal_data": "PersonalData",
    "prompt_injection": "PromptInjection",
    "mixed_languages": "MixedLanguages",
    "length_bias": "Pairs",
    "near_equal_pairs": "Pairs",
    "similar_rejections": "Pairs",
}
"""The name in the spec's ``data.checks`` with the policy and the limit of each check, by the check's name.
Checks that are missing here have no such setting."""


OF_GOLDEN_CASES = (golden_prompts.NAME, leaked_passages.NAME)
"""The checks that compare the data with golden cases. They are always enforced for required gates."""
OF_GATES = (*OF_GOLDEN_CASES, cut_cases.NAME, schemas.NAME, system_turns.NAME)
"""The checks that find faults of gates. For gates in a dry run, they only warn."""


def settings(data: Data) -> dict[str, CheckSetting]:
    """Return the settings of checks in the spec's ``data``, by the name of the check. Checks that are missing
    in the result are enforced."""
    found = {name: check_setting(data.checks, setting) for name, setting in SETTINGS.items()}
    size = CheckSetting("Enforce" if data.size_policy == "Refuse" else "Warn")
    return {**found, few_rows.NAME: size, unreviewed_rows.NAME: size}
