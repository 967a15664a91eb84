"""Select the files of a model by their names, before anything is copied or downloaded."""

from collections.abc import Sequence
from fnmatch import fnmatchcase

from tunegate_api.meta import summarize
from tunegate_trainer.process.errors import SourceNotFoundError, TrainerError, UserError
from tunegate_trainer.process.files import MANIFEST

_WEIGHTS_INDEX = ".safetensors.index.json"
_ADAPTER_WEIGHTS = "adapter_model.safetensors"
_BESIDE_WEIGHTS = ("*.json", "*.jinja", "*.model", "*.txt")
_UNSAFE_WEIGHTS = ("*.bin", "*.pt", "*.pth", "*.ckpt")
_SHOWN = 8


def may_be_needed(name: str) -> bool:
    """Return whether a file of this name can be part of a model."""
    return bool(_matching([name], ("*.safetensors", "*.gguf", *_BESIDE_WEIGHTS)))


def choose(uri: str, names: Sequence[str]) -> list[str]:
    """Select the needed files in a model's folder: weights, configuration and tokenizer, or one GGUF file.

    Files in sub-folders are ignored. transformers loads weights files whose names start with ``model``. If
    there are such files, other weights files are not selected: they are copies in another library's layout.

    Raises :class:`SourceNotFoundError` if there is no model, and :class:`UserError` for an adapter, several
    GGUF files, or weights that could run code when they are loaded.
    """
    here = sorted(name for name in names if "/" not in name and name != MANIFEST)
    weights = _matching(here, ("*.safetensors",))
    gguf = _matching(here, ("*.gguf",))
    if not weights and len(gguf) == 1:
        return gguf
    if not weights:
        raise _no_weights(uri, here, gguf)
    if "config.json" not in here:
        raise _no_config(uri, here)
    own = [name for name in weights if name.startswith("model")]
    return sorted({*(own or weights), *_matching(here, _BESIDE_WEIGHTS)})


def choose_adapter(uri: str, names: Sequence[str]) -> list[str]:
    """Select the needed files in an adapter's folder: weights, configuration and, if it has some, tokenizer
    files. Raises :class:`UserError` if the weights could run code when they are loaded, and
    :class:`SourceNotFoundError` if there are none."""
    here = sorted(name for name in names if "/" not in name and name != MANIFEST)
    if _ADAPTER_WEIGHTS not in here:
        raise _no_weights(uri, here, ())
    return sorted({_ADAPTER_WEIGHTS, *_matching(here, _BESIDE_WEIGHTS)})


def choose_description(uri: str, names: Sequence[str]) -> list[str]:
    """Select the configuration and tokenizer files of a model, without its weights.

    Raises :class:`UserError` for an adapter, and :class:`SourceNotFoundError` if there is no config.json.
    """
    here = sorted(name for name in names if "/" not in name and name != MANIFEST)
    if "config.json" not in here:
        raise _no_config(uri, here)
    return [name for name in _matching(here, _BESIDE_WEIGHTS) if not name.endswith(_WEIGHTS_INDEX)]


def _matching(names: Sequence[str], patterns: Sequence[str]) -> list[str]:
    return [name for name in names if any(fnmatchcase(name, pattern) for pattern in patterns)]


def _no_config(uri: str, names: Sequence[str]) -> TrainerError:
    if "adapter_config.json" in names:
        return UserError(
            f"model.uri: {uri} is an adapter, not a whole model",
            "merge the adapter into its base first: "
            "PeftModel.from_pretrained(base, folder).merge_and_unload()"
            ".save_pretrained(...)",
        )
    return SourceNotFoundError(f"model.uri: {uri} has no config.json", f"it has: {_listed(names)}")


def _no_weights(uri: str, names: Sequence[str], gguf: Sequence[str]) -> TrainerError:
    if gguf:
        return UserError(
            f"model.uri: {uri} has {len(gguf)} GGUF files, but only one is supported: {_listed(gguf)}",
            "keep only the GGUF file to fine-tune",
        )
    unsafe = _matching(names, _UNSAFE_WEIGHTS)
    if unsafe:
        return UserError(
            f"model.uri: {uri} has no safetensors weights, only files such as {unsafe[0]}, which can run "
            "code when they are loaded",
            "convert them on a machine where that is safe: load the model, then "
            "save_pretrained(..., safe_serialization=True)",
        )
    return SourceNotFoundError(
        f"model.uri: {uri} has neither *.safetensors nor *.gguf files",
        f"it has: {_listed(names)}",
    )


def _listed(names: Sequence[str]) -> str:
    return summarize(names, _SHOWN) or "no files"
