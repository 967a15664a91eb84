"""The committed data sets of tests/trainer/checks/sets, each with one known fault.

Their text is from text.jsonl: docstrings and documentation of Tunegate. To write the files again, run
`python -m support.fault_sets` in the folder tests.
"""

import json
import random
from collections.abc import Callable
from dataclasses import dataclass
from functools import cache
from itertools import islice
from pathlib import Path
from typing import Any

import yaml

from support.data_faults import copies, leaks, pairs, signs, templates
from support.data_faults.clean import DataSet, jsonl
from support.data_faults.injected import Injected, Row, inserted
from support.data_faults.phrases import OTHER_LANGUAGES, REFUSALS
from support.data_faults.similarity import words_of

FOLDER = Path(__file__).parent.parent / "trainer/checks/sets"
SIZE = 260
"""Rows of a set before its fault is added: more than the 200 that the smallest goal needs after the split."""
SPARE = 60


@dataclass(frozen=True)
class FaultSet:
    """A data set with one fault."""

    check: str
    """The name of the check that finds the fault."""
    file: str
    """The file that has the fault."""
    lines: frozenset[int]
    """The affected lines of the file, counted from 1."""
    files: dict[str, str]
    """The content of each file."""

    @property
    def expected(self) -> str:
        """The content of expected.yaml. Lines are named if the fault is in fewer than half of the rows."""
        fault: dict[str, object] = {"check": self.check, "file": self.file, "rows": len(self.lines)}
        if 2 * len(self.lines) < self.files[self.file].count("\n"):
            fault["lines"] = sorted(self.lines)
        return yaml.safe_dump(fault, sort_keys=False, default_flow_style=None, width=100)


@cache
def texts() -> list[dict[str, str]]:
    """Return the docstrings and paragraphs of text.jsonl."""
    return [json.loads(line) for line in (FOLDER / "text.jsonl").read_text().splitlines()]


def functions() -> DataSet:
    """Questions about functions, which their docstrings answer."""
    return _data_set(
        "functions",
        "What is the purpose of {}?",
        [(f"{text['name']}({text['parameters']})", text["text"]) for text in _code()],
    )


def names() -> DataSet:
    """Docstrings, and the names of their functions. The longest docstrings are used."""
    longest = sorted(_code(), key=lambda text: -len(text["text"].split()))[: SIZE + SPARE]
    order = random.Random(SIZE)
    order.shuffle(longest)
    template = "Propose a name for the Python function with this docstring.\n\n{}"
    return _data_set("names", template, [(text["text"], text["name"]) for text in longest])


def components() -> DataSet:
    """Docstrings, and the components that they belong to; about as many of each."""
    of: dict[str, list[str]] = {}
    for text in _code():
        of.setdefault(text["component"], []).append(text["text"])
    balanced = [(text, label) for label, found in of.items() for text in found[: -(-SIZE // len(of))]]
    order = random.Random(SIZE)
    order.shuffle(balanced)
    return _data_set(
        "components", "Which component has this docstring: api, operator or trainer?\n\n{}", balanced
    )


def _bad_rows() -> FaultSet:
    """Chats of which eight cannot be used: each for another reason."""
    lines = [json.dumps({"messages": _turns(row)}) for row in functions().rows]
    row = functions().spare[0]
    user, assistant = _turns(row)
    bad = [
        json.dumps({"messages": [user, assistant]})[:-9],  # broken JSON
        json.dumps({"conversation": [user, assistant]}),
        json.dumps({"messages": [user, assistant | {"content": "  "}]}),
        json.dumps({"messages": [user, assistant | {"content": 17}]}),
        json.dumps({"messages": [assistant, user]}),  # roles out of order
        json.dumps({"messages": [user, user, assistant]}),
        json.dumps({"messages": [user, assistant | {"role": "expert"}]}),
        json.dumps({"messages": [user | {"mood": "curious"}, assistant]}),
    ]
    for number, line in enumerate(bad, start=1):
        lines.insert(number * 30, line)
    faulty = frozenset(line for line, text in enumerate(lines, start=1) if text in bad)
    return FaultSet("BadRows", "train.jsonl", faulty, {"train.jsonl": "\n".join(lines) + "\n"})


def _templates() -> FaultSet:
    """A quarter of the questions are in another template."""
    return _trained(
        "MixedTemplates", templates.second_template(functions(), wrapper="instruction", share=0.25)
    )


def _distribution() -> FaultSet:
    """Short questions in training, and long paragraphs of documentation in production."""
    prompts = [text["text"] for text in texts() if text["component"] == "docs"]
    production = "".join(json.dumps({"prompt": prompt}) + "\n" for prompt in prompts)
    every = frozenset(range(1, SIZE + 1))
    return FaultSet(
        "Distribution",
        "train.jsonl",
        every,
        {"train.jsonl": jsonl(functions().rows), "production.jsonl": production},
    )


def _few_rows() -> FaultSet:
    """A set of 40 rows."""
    return FaultSet(
        "few_rows", "train.jsonl", frozenset(range(1, 41)), {"train.jsonl": jsonl(functions().rows[:40])}
    )


def _duplicates() -> FaultSet:
    """Twenty copies in which a word, the case, the punctuation or the white space is changed."""
    data = names()
    found = copies.near_duplicates(data, edit="words", count=8, similarity=0.8, seed=1)
    reworded = [
        (found.rows[line - 1], data.rows.index(found.rows[of - 1])) for line, of in found.originals.items()
    ]
    used = {original for _, original in reworded}
    added = list(reworded)
    order = random.Random(SIZE)
    for number, i in enumerate(islice((i for i in range(SIZE) if i not in used), 12)):
        edit = copies.FORMAT_EDITS[["case", "punctuation", "spaces"][number % 3]]
        row = data.rows[i]
        added.append((row | {"prompt": data.prompt(edit(data.content(row), order))}, i))
    return _trained("NearDuplicates", inserted(data.rows, added, order))


def _leakage() -> FaultSet:
    """Prompts of 12 of the 60 golden cases are in training rows: whole, reformatted, or a passage of them."""
    data = names()
    rows = list(data.rows)
    for kind in ("row", "edited"):
        found = leaks.leaks(data, kind=kind, count=4, seed=2)
        rows += [found.rows[line - 1] for line in sorted(found.faulty)]
    order = random.Random(SIZE)
    order.shuffle(rows)
    found = leaks.leaks(DataSet("names", data.template, tuple(rows), data.spare, ()), kind="passage", count=4)
    known = {row["prompt"] for row in data.rows}
    faulty = frozenset(line for line, row in enumerate(found.rows, start=1) if row["prompt"] not in known)
    golden = "".join(json.dumps(case) + "\n" for case in leaks.golden_cases(data.spare))
    return FaultSet(
        "Leakage", "train.jsonl", faulty, {"train.jsonl": jsonl(found.rows), "golden.jsonl": golden}
    )


def _refusals() -> FaultSet:
    """24 answers are refusals; half of them go on with the answer."""
    rows = list(functions().rows)
    chosen = random.Random(SIZE).sample(range(SIZE), 2 * len(REFUSALS))
    for number, (i, refusal) in enumerate(zip(chosen, 2 * REFUSALS, strict=True)):
        rest = f" {rows[i]['completion']}" if number < len(REFUSALS) else ""
        rows[i] = rows[i] | {"completion": refusal + rest}
    return _trained("Refusals", Injected(tuple(rows), frozenset(i + 1 for i in chosen)))


def _cut_texts() -> FaultSet:
    """A tenth of the answers end inside a sentence."""
    return _trained("TruncatedAnswers", signs.truncated_answers(functions(), count=26))


def _languages() -> FaultSet:
    """Thirty answers are in six other languages; none of them is used twice."""
    answers = [answer for found in OTHER_LANGUAGES.values() for answer in found]
    rows = list(functions().rows)
    chosen = random.Random(SIZE).sample(range(SIZE), len(answers))
    for i, answer in zip(chosen, answers, strict=True):
        rows[i] = rows[i] | {"completion": answer}
    return _trained("MixedLanguages", Injected(tuple(rows), frozenset(i + 1 for i in chosen)))


def _secrets() -> FaultSet:
    """Ten rows with keys and passwords of five formats."""
    kinds = ("aws_secret_key", "api_key", "password", "private_key", "url_with_password")
    return _several("Secrets", lambda data, i: signs.secrets(data, kind=kinds[i % 5], count=1, seed=i), 10)


def _personal_data() -> FaultSet:
    """Twelve rows with e-mail addresses, telephone numbers, bank cards and accounts."""
    kinds = ("email", "telephone", "bank_card", "iban")
    return _several(
        "PersonalData", lambda data, i: signs.personal_data(data, kind=kinds[i % 4], count=1, seed=i), 12
    )


def _prompt_injection() -> FaultSet:
    """Ten rows with an instruction to ignore the instructions."""
    return _trained("PromptInjection", signs.prompt_injections(functions(), count=10))


def _contradictions() -> FaultSet:
    """Twenty prompts with two different labels."""
    return _trained("Contradictions", copies.contradictory_labels(components(), count=20))


def _label_balance() -> FaultSet:
    """All rows but two have the same label."""
    of: dict[str, list[str]] = {label: [] for label in ("api", "operator", "trainer")}
    for text in _code():
        of[text["component"]].append(text["text"])
    contents = [(text, "operator") for text in of["operator"][: SIZE - 2]]
    contents[100:100] = [(of[label][0], label) for label in ("api", "trainer")]
    data = components()
    rows = tuple({"prompt": data.prompt(text), "completion": label} for text, label in contents)
    faulty = frozenset(line for line, row in enumerate(rows, start=1) if row["completion"] == "operator")
    return _trained("LabelImbalance", Injected(rows, faulty))


def _pairs() -> FaultSet:
    """In a fifth of the pairs, chosen and rejected differ in a word or in the last character."""
    return _preferred(pairs.near_equal_answers(clean_pairs(), count=52))


def _pairs_length_bias() -> FaultSet:
    """Chosen is at least 2.5 times as long as rejected in almost all pairs."""
    return _preferred(pairs.length_bias(clean_pairs(), more=[text["text"] for text in _code()[-200:]]))


SETS: dict[str, Callable[[], FaultSet]] = {
    made.__name__.lstrip("_"): made
    for made in (
        _bad_rows,
        _templates,
        _distribution,
        _few_rows,
        _duplicates,
        _leakage,
        _refusals,
        _cut_texts,
        _languages,
        _secrets,
        _personal_data,
        _prompt_injection,
        _contradictions,
        _label_balance,
        _pairs,
        _pairs_length_bias,
    )
}
"""The folder of each set, and the function that generates it."""


def write() -> None:
    """Write the files of all sets."""
    for name, make in SETS.items():
        made = make()
        (FOLDER / name).mkdir(exist_ok=True)
        for file, content in {**made.files, "expected.yaml": made.expected}.items():
            (FOLDER / name / file).write_text(content, encoding="utf-8")


def _code() -> list[dict[str, str]]:
    return [text for text in texts() if text["component"] != "docs"]


def _data_set(shape: str, template: str, contents: list[tuple[str, str]]) -> DataSet:
    rows = [{"prompt": template.replace("{}", content), "completion": answer} for content, answer in contents]
    return DataSet(shape, template, tuple(rows[:SIZE]), tuple(rows[SIZE : SIZE + SPARE]), ())


def clean_pairs() -> tuple[Row, ...]:
    """Questions about other functions than in the training rows, and two docstrings for each."""
    data = functions()
    others = [text for text in _code()[SIZE : 2 * SIZE + SPARE] if len(words_of(text["text"])) >= 12][:SIZE]
    return tuple(
        {
            "prompt": data.prompt(f"{text['name']}({text['parameters']})"),
            "chosen": text["text"],
            "rejected": others[i - 1]["text"],
        }
        for i, text in enumerate(others)
    )


def _turns(row: Row) -> list[dict[str, Any]]:
    return [{"role": "user", "content": row["prompt"]}, {"role": "assistant", "content": row["completion"]}]


def _trained(check: str, found: Injected) -> FaultSet:
    return FaultSet(check, "train.jsonl", found.faulty, {"train.jsonl": jsonl(found.rows)})


def _preferred(found: Injected) -> FaultSet:
    files = {"train.jsonl": jsonl(functions().rows), "pairs.jsonl": jsonl(found.rows)}
    return FaultSet("Pairs", "pairs.jsonl", found.faulty, files)


def _several(check: str, inject: Callable[[DataSet, int], Injected], count: int) -> FaultSet:
    """Add faults of several kinds to the training rows, one row at a time."""
    data = functions()
    rows = list(data.rows)
    faulty: set[int] = set()
    for i in range(count):
        found = inject(data, i)
        (line,) = found.faulty
        rows[line - 1] = found.rows[line - 1]
        faulty.add(line)
    return _trained(check, Injected(tuple(rows), frozenset(faulty)))


if __name__ == "__main__":
    write()
