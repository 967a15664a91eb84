"""What ``tunegate plan``, ``tunegate check`` and ``tunegate init`` need to know, as the trainer computes it
without a GPU."""

from typing import Any, Literal

from tunegate_api.contract.plan import DataPlan, StagePlan
from tunegate_api.contract.shapes import Memory, ModelShape
from tunegate_api.meta import StatusModel
from tunegate_api.v1alpha2.data import Columns
from tunegate_api.v1alpha2.data_status import DataCheckResult
from tunegate_api.v1alpha2.finetunejob_status import Failure


class ModelForecast(StatusModel):
    """What a :class:`Forecast` contains about the model."""

    uri: str
    parameters: int
    shape: ModelShape | None = None


class Forecast(StatusModel):
    """The part of a plan that is known without a GPU. ``tunegate plan`` prints it."""

    model: ModelForecast
    data: DataPlan | None = None
    """None if rows, golden sets or the tokenizer are not available. In this case, each stage has 0 steps and
    0 tokens, and its largest pass is one example of the maximum length."""
    stages: list[StagePlan] = []
    judging: Memory | None = None
    """Estimated memory of the final gate, see :class:`tunegate_api.contract.plan.Plan`."""
    notes: list[str] = []
    """Which parts of the plan are not known, and why."""
    failure: Failure | None = None
    """Why the job would fail before training. None if no reason is known."""


class CheckFinding(StatusModel):
    """A finding of a data check, as in data/report.json."""

    check: str
    result: str
    """``Refused``, ``Warned``, or ``Passed`` if the finding is within the limit of the check."""
    message: str
    count: int
    share: str | None = None
    """The measured value that was compared with the limit. None if the check has no limit."""
    examples: list[str] = []
    remedy: str = ""


AnswerKind = Literal["Labels", "JSON", "ToolCalls", "ShortText", "Text"]
"""What the completions are. Labels: a few values that are repeated. JSON: objects or arrays. ToolCalls: calls
of tools. ShortText: answers of one short line. Text: longer texts."""


class LabelCount(StatusModel):
    """A label, and the number of rows that have it as completion."""

    label: str
    rows: int


class DescribedData(StatusModel):
    """A description of the usable rows of a data set, from which ``tunegate init`` writes manifests."""

    rows: int
    """The number of usable rows, without duplicates."""
    answers: AnswerKind
    labels: list[LabelCount] = []
    """The labels if the answers are labels, the most frequent one first."""
    json_schema: dict[str, Any] | None = None
    """The schema that all answers follow that are JSON. None if the answers are not JSON."""
    not_json: int = 0
    """The number of answers that are not JSON, although almost all are."""
    longest_answer: int
    """Length of the longest completion, in bytes of UTF-8."""
    longest_prompt: int
    """Length of the longest prompt in characters. Of a chat, only the last turn counts."""
    prompt_start: str = ""
    """The words with which all prompts begin. Empty if there are none."""
    prompt_end: str = ""
    """The words with which all prompts end. Empty if there are none."""
    system_prompt: str | None = None
    """The system prompt of most rows. None if there is none."""


class CheckedData(StatusModel):
    """The result of ``tunegate check``."""

    rows: int | None = None
    """The number of rows in the file. None if the rows could not be read."""
    shape: str | None = None
    """The recognized shape of the rows, such as Alpaca."""
    results: list[DataCheckResult] = []
    """The results of all checks that ran."""
    findings: list[CheckFinding] = []
    failure: Failure | None = None
    """Why a job with this data would fail before training. None if it would not."""
    fields: list[str] | None = None
    """The names of the fields in the first row. None if no row can be read, or for ``tunegate check``."""
    guessed_columns: Columns | None = None
    """The columns that the job did not set, and that were guessed from the names of fields. None if nothing
    was guessed."""
    described: DescribedData | None = None
    """The usable rows. None if there are none, or for ``tunegate check``, which does not need it."""
