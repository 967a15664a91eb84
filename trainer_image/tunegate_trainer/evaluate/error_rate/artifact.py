"""Load the artifact again that the final gate judged."""

from functools import cached_property
from typing import Any

from transformers import PreTrainedTokenizerBase

from tunegate_trainer.artifacts.build import is_adapter, load_artifact, published_stops
from tunegate_trainer.artifacts.gate_result import GateRoleResult
from tunegate_trainer.models.loading import load_base
from tunegate_trainer.process.context import Context
from tunegate_trainer.process.device import choose_device, free_memory
from tunegate_trainer.process.errors import SourceNotFoundError, StorageError
from tunegate_trainer.process.files import is_complete, read_manifest, verify
from tunegate_trainer.tokens.chat import load_tokenizer


class Artifact:
    """The artifact as the final gate judged it. It is loaded when its model is needed."""

    def __init__(self, context: Context, judged: GateRoleResult) -> None:
        self._context = context
        self.judged = judged
        self.folder = context.workspace / context.paths.model
        self.base = context.workspace / context.paths.base_model(context.plan.model.digest)

    @cached_property
    def tokenizer(self) -> PreTrainedTokenizerBase:
        if not is_complete(self.folder):
            raise SourceNotFoundError(
                "the judged model is no longer in the job's folder on the volume", "create the job again"
            )
        base = self.base if is_adapter(self.folder) else None
        return load_tokenizer(self.folder, base, self._context.plan.model.chat_template_args)

    @cached_property
    def stops(self) -> list[int]:
        return published_stops(self.folder)

    @cached_property
    def model(self) -> Any:
        device, judged = choose_device(self._context.request), self.judged
        free_memory()
        if is_adapter(self.folder):
            base_model = load_base(self.base, judged.dtype, device, judged.quantization)
            model = load_artifact(base_model, self.folder, judged.dtype, device)
        else:
            model = load_base(self.folder, judged.dtype, device)
        # After loading, so that the loaded weights are those of the digest.
        problems = verify(self.folder)
        if problems or read_manifest(self.folder).digest != judged.artifact:
            raise StorageError(
                f"the model changed after it was judged: {'; '.join(problems)}", "create the job again"
            )
        return model
