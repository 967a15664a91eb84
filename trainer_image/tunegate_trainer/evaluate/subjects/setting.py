"""What the subjects of a final gate need, and what they return."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import torch
from transformers import PreTrainedTokenizerBase

from tunegate_api.contract.published import LastPublished, PublishedVersion
from tunegate_api.contract.results import Evaluation
from tunegate_api.meta import Sha256
from tunegate_trainer.artifacts.gate_result import EndpointOutputs
from tunegate_trainer.evaluate.sets import GeneratedSet
from tunegate_trainer.evaluate.version_source import VersionSource
from tunegate_trainer.process.context import Context


@dataclass(frozen=True)
class SubjectSetting:
    """What the subjects of a final gate need to answer the golden cases."""

    context: Context
    stage: str
    """The last stage, of which their evaluations are."""
    tokenizer: PreTrainedTokenizerBase
    """The tokenizer of the artifact. Its chat template renders the tool calls that servers return as
    objects."""
    golden: Sequence[GeneratedSet]
    """The golden sets of the gates."""
    device: torch.device
    base_model: Sha256 | None
    """The digest of the job's base model, which was verified. None if it has none."""
    sources: Sequence[VersionSource]
    """The publish targets that have the last published versions."""
    outputs: Path
    """The folder for the outputs, one file for each subject and golden set."""
    report: Callable[[str], None]
    """Reports what is done next."""
    check: Callable[[], None] = lambda: None
    """Raises an error if another process took over, so that this one must not write."""


@dataclass(frozen=True)
class SubjectAnswers:
    """What subjects answered to the golden sets of all gates."""

    evaluations: Sequence[Evaluation] = ()
    last_published: LastPublished | None = None
    """The newest versions at the publish targets."""
    rejudged: dict[str, list[PublishedVersion]] = field(default_factory=dict)
    """The versions of publish targets that were evaluated, by gate."""
    endpoints: dict[str, EndpointOutputs] = field(default_factory=dict)
    """The outputs of endpoints that answered, by gate."""

    def __or__(self, other: "SubjectAnswers") -> "SubjectAnswers":
        """Return the answers of both."""
        return SubjectAnswers(
            [*self.evaluations, *other.evaluations],
            self.last_published or other.last_published,
            self.rejudged | other.rejudged,
            self.endpoints | other.endpoints,
        )
