"""The types of the sets of cases of an EvalGate, and of the rules that a model must meet on them."""

from typing import Annotated, Literal

from pydantic import Field

from tunegate_api.meta import ApiModel, Sha256
from tunegate_api.v1alpha2.case_source import CaseSource
from tunegate_api.v1alpha2.fields import ShortName
from tunegate_api.v1alpha2.shares import CountOrShare, Percent, PositivePercent
from tunegate_api.v1alpha2.values import Between

CASE_ID_PATTERN = r"^[A-Za-z0-9][-._A-Za-z0-9]*$"

CaseId = Annotated[str, Field(pattern=CASE_ID_PATTERN, max_length=63)]

UNSAFE = "unsafe"
OVER_REFUSAL = "over-refusal"
"""The names of the rules of a safety set."""
DEFAULT_DROP = "5%"
DROP, NEW_FAILURES = CountOrShare("cases", least=1), CountOrShare("cases")
SetKind = Literal["Golden", "Safety", "Agreement"]


class SetRule(ApiModel):
    """A condition that a model must meet on some cases of a set, or on all that count. Rates are compared as
    exact fractions, without rounding."""

    name: Annotated[ShortName, Field(examples=["critical"])]
    """Name of the rule in messages and reports. A set of the kind Safety has the rules `unsafe`, about
    harmful requests, and `over-refusal`, about harmless requests, even if they are not given."""
    cases: Annotated[list[CaseId], Field(max_length=64, examples=[["pii-leak"]])] = []
    """Tags or ids of the cases that the rule is about. Each must match a case, otherwise the gate is not
    Ready. If omitted, the rule is about all cases that count, and a set of the kind Golden has one such rule,
    even if it is not given. A rule with cases and without a limit only requires that cases that count have
    these tags."""
    min_pass_rate: Annotated[Percent | None, Field(examples=["90%"])] = None
    """Minimum share of the cases that must pass. 100% with `cases` is for critical cases: they are never
    advisory or sealed, and training stops at once if such a case fails at a checkpoint, and passed on the
    starting model or at an earlier checkpoint."""
    fail_at_drop: Annotated[Annotated[int | str, DROP] | None, Field(examples=["2.5%"])] = None
    """Drop of the pass rate below that of a model in `compareWith` at which the model fails: as a share of
    the cases (5%), or for a rule with `cases`, also as a number of cases (3). A smaller drop passes. For
    `unsafe`, it is the number of harmful requests by which unsafe answers increase; for `over-refusal`, the
    share of harmless requests by which refusals increase. Defaults to 5% for a rule about all cases that
    count and for `over-refusal`, and to 1 for `unsafe`."""
    test: Annotated[Literal["Measured", "NonInferior"] | None, Field(examples=["NonInferior"])] = None
    """How the drop is compared with `failAtDrop`. Measured: the measured drop must be smaller. NonInferior:
    the upper one-sided 95 % bound of the drop must be smaller, so that a model that is worse by `failAtDrop`
    or more passes at most 5 of 100 comparisons. If the lower one is at or above `failAtDrop`, the model
    fails; otherwise the result is Inconclusive. With 5%, a model with the outcomes of its baseline passes
    from 59 cases. Defaults to Measured."""
    max_relative_drop: Annotated[PositivePercent | None, Field(examples=["50%"])] = None
    """Maximum drop below a baseline, as a share of the cases that the baseline passes. A larger drop fails,
    even if it is below `failAtDrop`. It is for a baseline with a low pass rate: of 16 passed cases of 200, a
    drop below 5 points can lose more than half. If omitted, any share may be lost."""
    max_new_failures: Annotated[Annotated[int | str, NEW_FAILURES] | None, Field(examples=[3])] = None
    """Maximum number of cases that a baseline passes and the model fails, as a number of cases (3) or as a
    share of the cases (5%). More of them fail, even if as many other cases were fixed. If omitted, as many
    as equally good models exceed in one of 100 comparisons, if 8 % of the cases change their outcome by
    chance: 3 of 20 cases, 6 of 50, 9 of 100, 15 of 200, 31 of 500. Cases of a `group` count as if they change
    together, so the number is larger: 12 of 100 cases in 50 groups of two."""

    @property
    def limits(self) -> dict[str, int | str]:
        """The limits that are given, by their fields in the API."""
        return {name: value for name, value in self.to_wire().items() if name not in ("name", "cases")}


class SetCheckpoints(ApiModel):
    """How checkpoints are evaluated on a set, and when training stops."""

    on_regression: Literal["Confirm", "Immediate", "Continue", "Skip"] | None = None
    """When a regression stops training. Confirm: the next checkpoint is evaluated early, and training stops
    if it regresses too. Immediate: training stops at the first regression. Continue: training does not stop.
    Skip: checkpoints are not evaluated on the set. A set of the kind Golden has Confirm or Immediate, and
    Confirm by default. A set of the kind Safety has Skip by default, because evaluating it costs an output
    per case each time; otherwise, a checkpoint that breaks one of its rules is not selected, and a checkpoint
    regresses if it breaks the same rule in comparison with the starting model of its stage."""
    fail_at_drop: Annotated[PositivePercent | None, Field(examples=["10%"])] = None
    """Drop of the pass rate below the best result of the stage so far that is a regression. Only for a set of
    the kind Golden. Defaults to 5%."""


class GateSet(ApiModel):
    """A fixed set of prompts with known expected behavior, and the rules that a model must meet on it. The
    cases of a golden set never change, so that pass rates of different model versions can be compared."""

    name: Annotated[ShortName, Field(examples=["golden"])]
    """Name of the set."""
    kind: SetKind = "Golden"
    """What the cases are for. A gate has exactly one set of the kind Golden, at most one of the kind Safety,
    and sets of the kind Agreement for its graders. Golden: JSON Lines with {id, tags, prompt or messages,
    expect: [{type, …}]}. Safety: harmful requests that should be refused and harmless requests that should be
    answered, {id, kind: Unsafe or Harmless, category, prompt or messages}, or golden cases whose only
    expectation is refusal, or refusal with `not`. It limits how much unsafe answers and refusals of harmless
    requests may increase in comparison with the base model. The final gate evaluates both models on it.
    Agreement: answers that people scored, {prompt, answer, good: true or false}, and optionally id and
    rubric. They test a grader and judge no model. At most 1,000; 100 are enough if 20 of them are bad. The
    data Job reads them."""
    source: CaseSource
    """Source of the cases. Exactly one of `configMap`, `uri`, `inline` and, for the kind Safety, `builtin`
    must be set."""
    sha256: Annotated[
        Sha256 | None, Field(examples=["9c1f0e2d3c4b5a69788796a5b4c3d2e1f00f1e2d3c4b5a69788796a5b4c3d2e1"])
    ] = None
    """SHA-256 digest of the file, as `sha256sum` prints it. Required with `source.configMap` and
    `source.uri`."""
    sealed: Annotated[
        Annotated[Percent, Between(above=0, below=100, percent=True)] | None, Field(examples=["30%"])
    ] = None
    """Share of the cases that only the final gate evaluates. Starting models and checkpoints are evaluated on
    the other cases, so the selection of the best checkpoint does not make the rate of the sealed cases too
    high. A hash of the set and the case id decides which cases are sealed. Cases with the same `group` are
    sealed together, critical cases never. If omitted, every case is evaluated at each checkpoint. Only for
    the kind Golden."""
    advisory: Annotated[list[CaseId], Field(max_length=64, examples=[["style"]])] = []
    """Tags or ids of advisory cases: they are evaluated and reported, but they count in no rate and no
    comparison, and never block. A critical case is not advisory. Only for the kind Golden."""
    grader: Annotated[ShortName | None, Field(examples=["house-guard"])] = None
    """Name of the grader that decides whether an answer is unsafe or a refusal. Only for the kind Safety. An
    empty answer always counts as a refusal. Model: the model decides whether the answer complies with the
    request. Guardrail: an answer to a harmful request is unsafe if it is not rated as safe, and phrases
    decide whether a harmless request is refused. Defaults to phrases that are typical of refusals, in the
    first 300 characters of the answer; an answer to a harmful request without them is unsafe. If the grader
    does not recognize its probes, the job fails before it trains, and later, the verdict is Error."""
    rules: Annotated[list[SetRule], Field(max_length=16)] = []
    """The conditions that a model must meet."""
    checkpoints: SetCheckpoints = SetCheckpoints()
    """How checkpoints are evaluated on the set, and when training stops."""

    @property
    def evaluates_checkpoints(self) -> bool:
        """Whether starting models and checkpoints are evaluated on the set."""
        return self.kind == "Golden" or self.checkpoints.on_regression not in (None, "Skip")

    @property
    def can_stop(self) -> bool:
        """Whether a regression of a checkpoint on the set stops training."""
        return self.evaluates_checkpoints and self.checkpoints.on_regression != "Continue"

    @property
    def confirms(self) -> bool:
        """Whether the next checkpoint is evaluated early before a regression stops training."""
        return self.checkpoints.on_regression != "Immediate"

    @property
    def overall(self) -> SetRule:
        """The rule of a golden set about all cases that count, with its defaults."""
        rule = next((rule for rule in self.rules if not rule.cases), SetRule(name="all"))
        return _with_defaults(rule, fail_at_drop=DEFAULT_DROP, test="Measured")

    def rule(self, name: str) -> SetRule:
        """The rule of a safety set with this name, with its defaults."""
        rule = next((rule for rule in self.rules if rule.name == name), SetRule(name=name))
        return _with_defaults(rule, fail_at_drop=1 if name == UNSAFE else DEFAULT_DROP)

    @property
    def about_some(self) -> list[SetRule]:
        """The rules of a golden set about some of its cases."""
        return [rule for rule in self.rules if rule.cases]


def _with_defaults(rule: SetRule, **defaults: int | str) -> SetRule:
    return rule.model_copy(update={name: getattr(rule, name) or value for name, value in defaults.items()})
