"""What ``tunegate gate run`` asks of the trainer, and what the trainer measures without a job: the outcomes
of a model on the sets of gates. The verdict is computed from these outcomes."""

from typing import Literal

from tunegate_api.contract.request import Request
from tunegate_api.contract.results import Results
from tunegate_api.meta import Listed, Mapped, Sha256, StatusModel
from tunegate_api.v1alpha2.finetunejob import ModelSource


class GateRunRequest(StatusModel):
    """The models of ``tunegate gate run``."""

    model: ModelSource
    """The model to judge: a whole model or an adapter."""
    base: ModelSource | None = None
    """Its base model. None if no gate compares with it, and the model is not an adapter."""
    quantization: Literal["NF4"] | None = None
    """Quantization of the base model of an adapter. None for the quantization in the evidence of a published
    adapter, or for none."""


class MeasuredModel(StatusModel):
    """A model that was evaluated."""

    uri: str
    digest: Sha256
    """For the judged model, the digest of all its files, which for a published version is the digest in the
    status of its job. For the base model, the digest of its folder in ``models/`` of a volume."""
    is_adapter: bool = False


class MeasuredCase(StatusModel):
    """The result of the judged model on one case."""

    id: str
    tags: Listed[str] = []
    prompt: str
    expected: str
    """The expectations of a golden case as JSON, or the kind of a safety case."""
    output: str
    outcome: str
    """One letter, see :mod:`tunegate_api.verdict.outcomes`."""
    base_outcome: str | None = None
    """The same for the base model. None if it was not evaluated."""
    explanation: str = ""
    """Why the case did not pass."""


class GateRun(StatusModel):
    """The outcomes of a model on the sets of gates."""

    request: Request
    """The gates. Everything else in the spec of the job is a placeholder."""
    results: Results
    cases: Mapped[Listed[MeasuredCase]]
    """Maps the name of each set in ``results`` to the results of its cases."""
    model: MeasuredModel
    base: MeasuredModel | None = None
    device: str
    dtype: str
    quantization: str | None = None
    warnings: Listed[str] = []
