"""Find the configuration of a model whose weights are not needed."""

from functools import partial
from pathlib import Path

from tunegate_api.contract.workspace import Workspace
from tunegate_api.v1alpha1.finetunejob import ModelSource
from tunegate_trainer.fetch import MODEL_SCHEMES, fetch_model, find_model
from tunegate_trainer.fetch.model_files import choose_description
from tunegate_trainer.models.resolve import model_address, resolve_model, source_folder
from tunegate_trainer.models.safetensors import check_weights
from tunegate_trainer.process.context import Context
from tunegate_trainer.process.errors import SourceNotFoundError


def configuration_folder(context: Context, source: ModelSource) -> Path:
    """Return the folder with the model's configuration.

    A local model is used in place. For a remote model, its configuration and tokenizer are downloaded to the
    workspace. A GGUF file is converted to a model in the workspace.
    """
    address = model_address(context, source)
    if address.scheme in MODEL_SCHEMES:
        described = find_model(address, partial(choose_description, address.uri))
        return fetch_model(address, described, context.workspace / "description")
    folder = source_folder(context.root, source)
    if (folder / "config.json").is_file():
        check_weights(folder)
        return folder
    if not any(folder.glob("*.gguf")):
        raise SourceNotFoundError(
            f"model.uri: there is no config.json in {source.uri}",
            "add the model's config.json, which has the model's sizes; weights and tokenizer may be missing",
        )
    model = resolve_model(context, source)
    return context.workspace / Workspace.base_model(model.digest)
