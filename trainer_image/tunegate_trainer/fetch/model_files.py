"""Select the files of a model by their names, before anything is copied or downloaded."""

from collections.abc import Sequence
from fnmatch import fnmatchcase

from tunegate_trainer.process.errors import SourceNotFoundError, TrainerError, UserError
from tunegate_trainer.process.files import MANIFEST

_WEIGHTS_INDEX = ".safetensors.index.json"
_BESIDE_WEIGHTS = ("*.json", "*.jinja", "*.model", "*.txt")
_UNSAFE_WEIGHTS = ("*.bin", "*.pt", "*.pth", "*.ckpt")
_SHOWN = 8


def may_be_needed(name: str) -> bool:
    """Return whether a file of this name can be part of a model."""
    return bool(_matching([name], ("*.safetensors", "*.gguf", *_BESIDE_WEIGHTS)))


def choose(uri: str, names: Sequence[str]) -> list[str]:
    """Select the needed files in a model's folder: weights, configuration and tokenizer, or one GGUF file.

    Files in sub-folders are ignored. If the weights are also there in the layout of another library, only the
    files that transformers loads are selected, whose names start with ``model``.

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


def choose_description(uri: str, names: Sequence[str]) -> list[str]:
    """Select the configuration and tokenizer files of a model, without its weights.

    Raises :class:`SourceNotFoundError` if there is no config.json.
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
            f"model.uri: {uri} holds an adapter, not a whole model",
            "merge it into its base first: PeftModel.from_pretrained(base, folder).merge_and_unload()"
            ".save_pretrained(...)",
        )
    return SourceNotFoundError(f"model.uri: {uri} has no config.json", f"it has: {_listed(names)}")


def _no_weights(uri: str, names: Sequence[str], gguf: Sequence[str]) -> TrainerError:
    if gguf:
        return UserError(
            f"model.uri: {uri} holds {len(gguf)} GGUF files: {', '.join(gguf[:_SHOWN])}",
            "keep only the one to train on",
        )
    unsafe = _matching(names, _UNSAFE_WEIGHTS)
    if unsafe:
        return UserError(
            f"model.uri: {uri} has weights only as {unsafe[0]}, which can run code when it is loaded",
            "convert it where that is safe: load it, then save_pretrained(..., safe_serialization=True)",
        )
    return SourceNotFoundError(
        f"model.uri: {uri} has neither *.safetensors nor *.gguf files", f"it has: {_listed(names)}"
    )


def _listed(names: Sequence[str]) -> str:
    return ", ".join(names[:_SHOWN]) or "nothing"
