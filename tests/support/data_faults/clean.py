"""Data sets of several shapes without a fault. Rows are not similar to each other; see ``similarity``."""

import json
import random
from collections.abc import Callable, Collection, Iterator, Sequence
from dataclasses import dataclass
from itertools import pairwise

from support.data_faults.corpus import PACKAGES, corpus, sentences
from support.data_faults.injected import Row
from support.data_faults.similarity import distinct


@dataclass(frozen=True)
class DataSet:
    """A clean data set."""

    shape: str
    template: str
    """The text around the content of each prompt; ``{}`` is the content."""
    rows: tuple[Row, ...]
    spare: tuple[Row, ...]
    """More rows of the same source, for golden and held-out sets."""
    production: tuple[Row, ...]
    """More rows of the same source, as a sample of production inputs."""
    system: str | None = None
    """The system prompt of each chat, or None if the rows are prompts and completions."""

    def content(self, row: Row) -> str:
        """Return the prompt of a row without the template."""
        before, after = self.template.split("{}")
        return row["prompt"].removeprefix(before).removesuffix(after)

    def prompt(self, content: str) -> str:
        """Return the prompt for a content."""
        return self.template.replace("{}", content)

    def text(self, row: Row) -> str:
        """Return the content of the prompt and the completion."""
        return f"{self.content(row)}\n{row['completion']}"


Content = tuple[str, str]
"""The content of a prompt, and the completion."""


def _sections(_packages: Collection[str], _order: random.Random) -> list[Content]:
    """A heading and its first paragraph, of all packages, because few packages have many headings."""
    first: dict[str, Content] = {}
    for passage in corpus().passages:
        if passage.heading and not passage.licence and len(passage.heading) > 8:
            first.setdefault(passage.heading.lower(), (f"{passage.package}: {passage.heading}", passage.text))
    return list(first.values())


def _functions(packages: Collection[str], _order: random.Random) -> list[Content]:
    """The signature of a function and the summary of its docstring."""
    return [
        (f"{function.package}.{function.name}({', '.join(function.parameters)})", function.summary)
        for function in corpus().functions
        if function.package in packages
    ]


def _labels(packages: Collection[str], order: random.Random) -> list[Content]:
    """A passage and the name of its package, with as many rows for each of five packages."""
    labels = order.sample(sorted(packages), 5)
    passages = [p for p in corpus().passages if p.package in labels and not p.licence and not p.heading]
    fewest = min(sum(passage.package == label for passage in passages) for label in labels)
    of = {label: [p.text for p in passages if p.package == label] for label in labels}
    return [(text, label) for label in labels for text in order.sample(of[label], fewest)]


def _fields(packages: Collection[str], _order: random.Random) -> list[Content]:
    """A description of a function, and its fields as JSON."""
    return [
        (
            f"{f.summary} The function {f.name} of {f.package} takes {', '.join(f.parameters) or 'nothing'}.",
            json.dumps({"package": f.package, "function": f.name, "parameters": list(f.parameters)}),
        )
        for f in corpus().functions
        if f.package in packages
    ]


def _names(packages: Collection[str], _order: random.Random) -> list[Content]:
    """The summary of a function, and its name."""
    first = {f.name: (f.summary, f.name) for f in corpus().functions if f.package in packages}
    return list(first.values())


def _continuations(packages: Collection[str], _order: random.Random) -> list[Content]:
    """The first sentence of a passage, and the rest of it."""
    split = [sentences(p.text) for p in corpus().passages if p.package in packages and not p.licence]
    return [
        (parts[0], " ".join(parts[1:])) for parts in split if len(parts) > 1 and len(parts[0].split()) > 4
    ]


_NAME_TASK = (
    "Below is one sentence from the documentation of a Python package. It describes what a function does for "
    "its caller. Propose a name for the function: lower case, words joined by underscores, no module, and no "
    "parentheses. Reply with the name alone.\n\nDescription: {}\nName:"
)
SHAPES: dict[str, tuple[str, Callable[[Collection[str], random.Random], list[Content]]]] = {
    "sections": ("{}", _sections),
    "functions": ("What does {} do?", _functions),
    "labels": ("Which Python package does this passage describe?\n\n{}", _labels),
    "fields": ("Extract package, function and parameters as JSON.\n\n{}", _fields),
    "names": (_NAME_TASK, _names),
    "continuations": ("Continue this text.\n\n{}", _continuations),
    "chats": ("{}", _continuations),
}
"""The template of each shape, and its contents."""
SYSTEM = "You complete the documentation of Python packages. Write plain English."
"""The system prompt of the shape ``chats``."""


def clean_set(shape: str, *, size: int = 300, seed: int = 0, packages: Collection[str] = PACKAGES) -> DataSet:
    """Return a clean data set of a shape, with ``size`` rows, ``size`` production inputs, and a third as many
    spare rows.

    Raises ValueError if the packages do not have enough text."""
    order = random.Random(f"{shape} {seed}")
    template, contents_of = SHAPES[shape]
    contents = list(dict(contents_of(packages, order)).items())  # one row for each prompt
    order.shuffle(contents)
    most = (size + size // 3 + size) * 2
    contents = contents[:most]
    kept = distinct([f"{content}\n{completion}" for content, completion in contents])
    prompts = [contents[i] for i in kept]
    rows = [{"prompt": template.replace("{}", text), "completion": answer} for text, answer in prompts]
    ends = (0, size, size + size // 3, size + size // 3 + size)
    if len(rows) < ends[-1]:
        raise ValueError(f"the shape {shape} has {len(rows)} distinct rows, but {ends[-1]} are needed")
    parts = [tuple(rows[start:end]) for start, end in pairwise(ends)]
    system = SYSTEM if shape == "chats" else None
    return DataSet(shape, template, parts[0], parts[1], parts[2], system)


def clean_sets(count: int = 21, *, size: int = 300) -> Iterator[DataSet]:
    """Yield clean data sets of all shapes in turn."""
    for number in range(count):
        yield clean_set(list(SHAPES)[number % len(SHAPES)], size=size, seed=number)


def jsonl(rows: Sequence[Row], system: str | None = None) -> str:
    """Return rows as JSON Lines; as chats if there is a system prompt."""
    return "".join(json.dumps(row if system is None else chat(row, system)) + "\n" for row in rows)


def chat(row: Row, system: str) -> dict[str, list[dict[str, str]]]:
    """Return a row as a chat with a system prompt."""
    turns = (("system", system), ("user", row["prompt"]), ("assistant", row["completion"]))
    return {"messages": [{"role": role, "content": content} for role, content in turns]}
