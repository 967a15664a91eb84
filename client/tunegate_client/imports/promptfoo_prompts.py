"""The prompts of a promptfoo configuration, and the chat that each becomes with the variables of a test."""

import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from tunegate_client.imports.imported import NotCarriedError
from tunegate_client.imports.javascript import load_yaml, read_text, trimmed
from tunegate_client.imports.nunjucks import rendered

_EXTENSIONS = {".j2", ".json", ".md", ".txt", ".yaml", ".yml"}
_CODE = re.compile(r"\.(?:[cm]?[jt]s|py|sh|bash|rb|pl|exe|bat|cmd|ps1)(?::[A-Za-z0-9_]+)?\Z")
_FILE_NAME = re.compile(r"\S+\.(?:csv|j2|jsonl?|md|txt|ya?ml)|[^\s{}]*\*[^\s{}]*")
"""Matches what promptfoo takes for a file or for several files."""
_SERVICES = ("exec:", "helicone://", "langfuse://", "portkey://")
_SEPARATOR = "---"


@dataclass(frozen=True)
class Prompt:
    """A prompt template, or why it is not carried over."""

    template: str = ""
    fault: NotCarriedError | None = None


def read_prompts(prompts: Any, folder: Path) -> list[Prompt]:
    """Return the prompts of a configuration, whose files are in ``folder``."""
    if prompts is None:
        return [Prompt("{{prompt}}")]
    if isinstance(prompts, Mapping):  # text or file: label
        prompts = list(prompts)
    found = []
    for prompt in prompts if isinstance(prompts, list) else [prompts]:
        try:
            found += _prompts(prompt, folder)
        except NotCarriedError as error:
            found.append(Prompt(fault=error))
    return found


def _prompts(prompt: Any, folder: Path) -> list[Prompt]:
    raw = prompt.get("raw") or prompt.get("id") if isinstance(prompt, Mapping) else prompt
    if not isinstance(raw, str):
        raise NotCarriedError("prompt", "must be a text or a file")
    if raw.startswith(_SERVICES):
        raise NotCarriedError("prompt", f"is loaded from another place: {raw[:60]}")
    is_file = raw.startswith("file://")
    name = raw.removeprefix("file://")
    path = folder / name if "\n" not in raw and len(raw) < 1000 else None
    if path and _CODE.search(name):
        raise NotCarriedError("prompt", f"runs code: {raw[:60]}")
    if path is None or not (is_file or _FILE_NAME.fullmatch(name) or path.exists()):
        return [Prompt(raw)]
    if path.suffix not in _EXTENSIONS or any(character in name for character in "*?[]{}"):
        raise NotCarriedError("prompt", f"{raw} is no single file of text, JSON or YAML")
    try:
        return [Prompt(each) for each in _templates(path)]
    except (OSError, UnicodeDecodeError, yaml.YAMLError) as error:
        raise NotCarriedError("prompt", f"{raw} cannot be read: {' '.join(str(error).split())}") from error


def _templates(path: Path) -> Sequence[str]:
    text = read_text(path)
    if path.suffix in {".yaml", ".yml", ".json"}:
        value = load_yaml(text)
        if "file://" in text:
            raise NotCarriedError("prompt", f"{path.name} refers to other files")
        return [json.dumps(value, ensure_ascii=False)]
    if path.suffix != ".txt":
        return [text]
    parts: list[list[str]] = [[]]
    for line in text.replace("\r\n", "\n").split("\n"):
        if trimmed(line) == _SEPARATOR:
            parts.append([])
        else:
            parts[-1].append(line)
    return [found for part in parts if (found := trimmed("\n".join(part)))]


def chat(template: str, variables: Mapping[str, Any]) -> dict[str, Any]:
    """Return the field ``prompt`` or ``messages`` of a golden case. Raises :class:`NotCarriedError`."""
    parsed = _json(template)
    if parsed is not None:
        return {"messages": _messages(_rendered_in(parsed, variables))}
    text = rendered(template, variables)
    parsed = _json(text)
    if isinstance(parsed, list | dict) or text.startswith("- role:"):
        return {"messages": _messages(parsed)}
    return {"prompt": text}


def _json(text: str) -> Any:
    try:
        return json.loads(text, parse_constant=int)  # raises for NaN, as JavaScript does
    except (ValueError, RecursionError):
        return None


def _rendered_in(value: Any, variables: Mapping[str, Any]) -> Any:
    if isinstance(value, str):
        return rendered(value, variables)
    if isinstance(value, list):
        return [_rendered_in(each, variables) for each in value]
    if isinstance(value, dict):
        return {name: _rendered_in(each, variables) for name, each in value.items()}
    return value


def _messages(value: Any) -> list[dict[str, str]]:
    roles = {"system", "user", "assistant"}
    if (
        not isinstance(value, list)
        or not value
        or not all(
            isinstance(each, dict)
            and each.keys() == {"role", "content"}
            and each["role"] in roles
            and isinstance(each["content"], str)
            for each in value
        )
    ):
        raise NotCarriedError("prompt", "is JSON or YAML, but not a chat of texts with roles")
    return value
