"""English text from the documentation of installed Python packages.

The text is the same wherever the same versions are installed: files are read in an order that depends only on
their names. Text that would itself be a fault, such as the e-mail address of an author, is left out.
"""

import ast
import hashlib
import os
import re
import sysconfig
import warnings
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache
from pathlib import Path

SITE = Path(sysconfig.get_paths()["purelib"])
# fmt: off
PACKAGES = (
    "PIL", "aiohttp", "click", "datasets", "fontTools", "fsspec", "huggingface_hub", "hypothesis",
    "jinja2", "kopf", "matplotlib", "mlflow", "mypy", "networkx", "numpy", "pandas", "pydantic",
    "rich", "scipy", "selenium", "sklearn", "sqlalchemy", "sympy", "torch", "transformers", "trl",
    "wandb", "werkzeug",
)
# fmt: on
"""Packages with long docstrings in English. All of them are pinned in requirements/dev.txt."""
MOST_BYTES = 1_000_000
"""Source code that is read of a package."""
MIN_WORDS, MAX_WORDS = 8, 120
"""Length of a passage in words."""

_NOT_CLEAN = re.compile(
    r"""[^\s@]+@[^\s@]+\.\w             # an e-mail address
    | \+?\d[\d\s().-]{7,}\d             # a telephone number, a bank card, or an account
    | [A-Za-z0-9+/_-]{32,}              # a key or a token
    | BEGIN\ [A-Z\ ]*KEY
    | (?:password|passwd|secret|token|api_?key)\w*\s*[=:]
    | \b(?:ignore|disregard|forget|override|bypass)\b.*\b(?:instruction|prompt|previous|above|rule)
    | \b(?:system\ prompt|jailbreak|you\ are\ now)\b
    | \b(?:as\ an?\ (?:AI|artificial|language\ model))\b
    | \bI(?:'m|\ am)?\ (?:sorry|apologize|can(?:'|no)t|unable|not\ able|do\ not|don't|will\ not|won't)
    | \b(?:instruction|response|question|answer|assistant|user|system|human|input|output)s?\s*:
    | ^(?:args|returns?|raises|yields|examples?|notes?|parameters|attributes|see\ also)\b\W* (?::|--)
    | \[/?INST\] | <\|? | \|> | \#\#\# | \{\{ | >>> | ``` | -{4} | ^\.\.\s | \.\.\.$""",
    re.VERBOSE | re.IGNORECASE,
)


Documented = ast.Module | ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef


@dataclass(frozen=True)
class Passage:
    """A paragraph of documentation, with the heading above it (empty for a paragraph of a docstring)."""

    package: str
    heading: str
    text: str
    licence: bool = False
    """True for a paragraph of a licence."""


@dataclass(frozen=True)
class Function:
    """A documented function or class."""

    package: str
    name: str
    parameters: tuple[str, ...]
    summary: str
    """The first sentence of the docstring."""
    details: str
    """The first paragraph after the summary, or an empty string."""


@dataclass(frozen=True)
class Corpus:
    """The text of the installed packages, without exact repetitions."""

    passages: tuple[Passage, ...]
    functions: tuple[Function, ...]


@cache
def corpus() -> Corpus:
    """Return the corpus. It is read once per process."""
    passages: dict[str, Passage] = {}
    functions: dict[str, Function] = {}
    for passage in _documents():
        passages.setdefault(normal(passage.text), passage)
    for package in PACKAGES:
        for node, text in _docstrings(package):
            paragraphs = list(_paragraphs(text))
            if paragraphs:
                function = _function(package, node, paragraphs)
                if function is not None:
                    functions.setdefault(normal(function.summary), function)
            for paragraph in paragraphs:
                if is_passage(paragraph):
                    passages.setdefault(normal(paragraph), Passage(package, "", paragraph))
    return Corpus(tuple(passages.values()), tuple(functions.values()))


def normal(text: str) -> str:
    """Return the words of a text in lower case, without punctuation."""
    return " ".join(re.findall(r"\w+", text.lower()))


def is_passage(text: str) -> bool:
    """Whether a text is English prose that starts and ends like a sentence, and is clean."""
    words = text.split()
    return (
        MIN_WORDS <= len(words) <= MAX_WORDS
        and text[0].isupper()
        and text.endswith((".", ".)"))
        and text.isascii()
        and len(re.sub("[^A-Za-z]", "", text)) > 0.7 * len(text)
        and max(map(len, words)) < 60
        and _NOT_CLEAN.search(text) is None
    )


def sentences(text: str) -> list[str]:
    """Split a text at the ends of its sentences."""
    return re.split(r"(?<=[.!?])\s+(?=[A-Z])", text)


def ordered(items: list[Path]) -> list[Path]:
    """Return paths in an order that depends only on their names, and that mixes the folders."""
    return sorted(items, key=lambda path: hashlib.sha256(str(path.relative_to(SITE)).encode()).hexdigest())


def _docstrings(package: str) -> Iterator[tuple[Documented, str]]:
    """Yield the documented nodes of a package, and their docstrings."""
    read = 0
    for path in ordered(list((SITE / package).rglob("*.py"))):
        source = path.read_bytes()
        if len(source) > 200_000:  # generated code
            continue
        read += len(source)
        if read > MOST_BYTES:
            return
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # about the syntax of the package's own code
            try:
                tree = ast.parse(source)
            except (SyntaxError, ValueError):  # templates of code, and tests of parsers
                continue
        for node in _documented(tree):
            text = ast.get_docstring(node)
            if text:
                yield node, text


def _documented(node: Documented) -> Iterator[Documented]:
    """Yield a module, class or function, and the classes and functions in it."""
    yield node
    for statement in node.body:
        if isinstance(statement, (ast.ClassDef, ast.FunctionDef, ast.AsyncFunctionDef)):
            yield from _documented(statement)


def _function(package: str, node: Documented, paragraphs: list[str]) -> Function | None:
    summary = sentences(paragraphs[0])[0]
    if not isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef)) or node.name.startswith("_"):
        return None
    if not is_passage(summary):
        return None
    arguments = (*node.args.posonlyargs, *node.args.args, *node.args.kwonlyargs)
    names = tuple(argument.arg for argument in arguments if argument.arg not in ("self", "cls"))
    details = next((text for text in paragraphs[1:] if is_passage(text)), "")
    return Function(package, node.name, names, summary, details)


def _documents() -> Iterator[Passage]:
    """Yield the paragraphs of text files and of the descriptions of packages."""
    names = (Path(folder, name) for folder, _, files in os.walk(SITE) for name in files)
    paths = [path for path in names if path.suffix in (".rst", ".md", ".txt") or path.name == "METADATA"]
    for path in ordered(paths):
        parts = path.relative_to(SITE).parts
        if parts[0].startswith(("tunegate", "__editable__")) or path.stat().st_size > 300_000:
            continue
        package = parts[0].removesuffix(".dist-info").rpartition("-")[0] or parts[0]
        licence = any("licen" in part.lower() for part in parts)
        text = path.read_text(encoding="utf-8", errors="ignore")
        for heading, section in _sections(text):
            for paragraph in _paragraphs(section):
                if is_passage(paragraph):
                    yield Passage(package, "" if licence else heading, paragraph, licence)


def _sections(text: str) -> Iterator[tuple[str, str]]:
    """Split Markdown or reStructuredText at its headings. Yields each heading with the text below it."""
    text = re.sub(r"^(\S.*)\n([=\-~^*\"'`])\2{3,}\s*$", r"## \1", text, flags=re.MULTILINE)
    heading = ""
    below: list[str] = []
    for line in text.splitlines():
        if re.match(r"#{1,5} ", line):
            yield heading, "\n".join(below)
            heading, below = line.lstrip("# ").strip(), []
        else:
            below.append(line)
    yield heading, "\n".join(below)


def _paragraphs(text: str) -> Iterator[str]:
    """Yield the paragraphs of a text that are not indented, each as one line."""
    for block in re.split(r"\n\s*\n", text):
        if block and not block.startswith((" ", "\t", "*", "-", "|", "+", "`", "!", "[")):
            yield " ".join(block.split())
