"""Sample completions for ``tunegate pairs sample``: ``python -m tunegate_trainer.roles.sample``.

This module reads ``sample.json`` below ``$TUNEGATE_ROOT``, a :class:`SampleRequest`, and writes a
:class:`SampledPrompt` to a line of stdout for each prompt.
"""

import json
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import torch
from transformers import PreTrainedTokenizerBase

from tunegate_api.contract.process import Role
from tunegate_api.contract.workspace import Workspace
from tunegate_api.file_uri import file_uri
from tunegate_api.preference import PromptLine, SampledPrompt, SampleRequest
from tunegate_api.v1alpha2.finetunejob import ModelSource
from tunegate_trainer.artifacts.build import is_adapter
from tunegate_trainer.evaluate.sampling import sample_completions
from tunegate_trainer.fetch import MODEL_SCHEMES
from tunegate_trainer.models.loading import load_adapter, load_base
from tunegate_trainer.models.resolve import model_address, model_length, resolve_model, source_folder
from tunegate_trainer.models.safetensors import check_weights
from tunegate_trainer.process.command import Show, run_command
from tunegate_trainer.process.context import Context
from tunegate_trainer.process.errors import BadDataError, TrainerError, out_of_memory_explained
from tunegate_trainer.tokens.chat import encode, load_tokenizer, render


def main() -> int:
    """Write the completions, and return the exit code."""

    def work(root: Path, show: Show) -> None:
        with out_of_memory_explained(lambda: "use a smaller --batch-size or --max-new-tokens"):
            for one in sample(root):
                show(one.model_dump_json())

    return run_command(work)


def sample(root: Path) -> Iterator[SampledPrompt]:
    """Load the model of the request, and yield the completions of each prompt. Raises TrainerError."""
    request = SampleRequest.model_validate_json((root / "sample.json").read_bytes())
    context = Context(role=Role.DATA, root=root)
    context.paths = Workspace("sample")
    model, tokenizer, longest = _load(context, ModelSource(uri=request.model, revision=request.revision))
    prompts = [_render(tokenizer, prompt, request.max_new_tokens, longest) for prompt in request.prompts]
    yield from sample_completions(model, tokenizer, prompts, request)


def _render(tokenizer: PreTrainedTokenizerBase, prompt: PromptLine, new: int, longest: int) -> str:
    """Return the text of a prompt, after which ``new`` tokens fit into the ``longest`` text of the model."""
    try:
        text = render(tokenizer, prompt.prompt)
    except TrainerError as error:
        raise BadDataError(f"prompt {prompt.id}: {error}", error.hint) from error
    length = len(encode(tokenizer, text))
    if length + new > longest:
        raise BadDataError(
            f"prompt {prompt.id} has {length} tokens, and with {new} new tokens more than the {longest} "
            "tokens of the model",
            "remove the prompt, or use a smaller --max-new-tokens",
        )
    return text


def _load(context: Context, source: ModelSource) -> tuple[Any, PreTrainedTokenizerBase, int]:
    """Return the model, its tokenizer and its maximum length. An adapter is loaded around its base model."""
    has_gpu = torch.cuda.is_available()
    device, dtype = torch.device("cuda" if has_gpu else "cpu"), "bfloat16" if has_gpu else "float32"
    folder = _folder(context, source)
    if not is_adapter(folder):
        return load_base(folder, dtype, device), load_tokenizer(folder), model_length(folder)
    config = json.loads((folder / "adapter_config.json").read_bytes())
    base = _folder(context, _base_of(config))
    model = load_adapter(load_base(base, dtype, device), folder, trainable=False)
    return model, load_tokenizer(folder, base), model_length(base)


def _base_of(config: dict[str, Any]) -> ModelSource:
    """Return the base model that the configuration of an adapter names: a URI, a path, or a name on the
    Hugging Face Hub."""
    name = str(config.get("base_model_name_or_path"))
    if "://" not in name:
        name = file_uri(Path(name).resolve()) if Path(name).is_dir() else f"hf://{name}"
    return ModelSource(uri=name, revision=config.get("revision"))


def _folder(context: Context, source: ModelSource) -> Path:
    """Return the folder of a model with its weights. A local model or adapter is used in place."""
    if model_address(context, source).scheme not in MODEL_SCHEMES:
        folder = source_folder(context.root, source)
        if is_adapter(folder):
            return folder
        if (folder / "config.json").is_file():
            check_weights(folder)
            return folder
    return context.workspace / Workspace.base_model(resolve_model(context, source).digest)


if __name__ == "__main__":
    sys.exit(main())
