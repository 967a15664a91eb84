"""Imported samples pass the same outputs as the filters and metrics of lm-eval itself."""

import json
import random
from pathlib import Path
from typing import Any

import pytest

from support.golden_outcomes import outcome
from support.lm_eval import log_samples
from tunegate_client.imports.lm_eval import import_lm_eval

pytestmark = [pytest.mark.oracle, pytest.mark.timeout(1200)]

TARGETS = [
    "18",
    "1,000",
    "$5.50",
    "Yes",
    "(B)",
    "yes, no",
    "ΑΣ",
    "#### 7",
    "a\nb",
    " x",
    "the cat.",
    "-3",
    " ",
    "ß",
]
BETWEEN = [
    "",
    " ",
    "\n",
    "\n\n",
    ".",
    ", ",
    "$",
    " Q: ",
    "#### ",
    "The answer is ",
    "(A)",
    " 12 ",
    "\u00a0",
    "…",
]
PATTERNS = [
    r"#### (\-?[0-9\.\,]+)",
    r"(-?[$0-9.,]{2,})|(-?[0-9]+)",
    r"(?i)the answer is\s*(.*)",
    r"\(([A-D])\)",
    r"[a-z]*",
    r"((?<=answer is )[\w$,.]+)|(\(.\))",
]
IGNORED = [None, None, [",", r"\$", "(?s).*#### ", r"\.$"], [" "], [r"^\s+", r"\s+$"], ["[A-Z]"]]
UNTIL = [["\n\n"], ["Q:", "</s>"], [], ["Q", "Q: 1", "\n"], ["."]]


def random_task(generator: random.Random, name: str) -> dict[str, Any]:
    metric: dict[str, Any] = {"metric": "exact_match", "aggregation": "mean", "higher_is_better": True}
    metric["ignore_case"] = generator.random() < 0.5
    metric["ignore_punctuation"] = generator.random() < 0.4
    if ignored := generator.choice(IGNORED):
        metric["regexes_to_ignore"] = ignored
    first = {"function": "take_first"}
    regex = {"function": "regex", "regex_pattern": generator.choice(PATTERNS), "group_select": -1}
    if generator.random() < 0.5:
        regex.pop("group_select")
    if generator.random() < 0.3:
        regex["fallback"] = generator.choice(["", "yes", "18"])
    trim = {"function": "remove_whitespace"}
    filters = [[first], [trim, first], [regex, first], [regex, trim, first]]
    return {
        "task": name,
        "output_type": "generate_until",
        "doc_to_text": "{{question}}",
        "doc_to_target": generator.choice(["answer", "{{answer}}", "{{answer}}."]),
        "generation_kwargs": {"until": generator.choice(UNTIL), "do_sample": False},
        "metric_list": [metric],
        "filter_list": [{"name": f"filter-{i}", "filter": each} for i, each in enumerate(filters)],
    }


def random_docs(generator: random.Random) -> list[dict[str, Any]]:
    are_lists = generator.random() < 0.2
    docs = []
    for _ in range(60):
        answers = generator.sample(TARGETS, 2)
        parts = [*generator.choices(BETWEEN, k=4), generator.choice([*answers, *TARGETS])]
        generator.shuffle(parts)
        shown = answers[0] + generator.choice(["", "", ".", "\n"])
        output = generator.choice(["".join(parts), generator.choice([shown, shown.lower(), f" {shown}"])])
        docs.append({"question": "?", "answer": answers if are_lists else answers[0], "output": output})
    return docs


def test_each_filter_passes_the_same_outputs_as_lm_eval(tmp_path: Path) -> None:
    generator = random.Random(5)
    tasks = [(random_task(generator, f"task_{i}"), random_docs(generator)) for i in range(80)]
    compared, passed, wrong = 0, 0, []
    for path in log_samples(tmp_path, tasks).values():
        samples = [json.loads(line) for line in path.read_text().splitlines()]
        for name in {sample["filter"] for sample in samples}:
            cases = {case["id"]: case for case in import_lm_eval(path, name).cases}
            for sample in samples:
                case = cases.get(f"doc-{sample['doc_id']}")
                if sample["filter"] != name or case is None:
                    continue
                here, there = outcome(case, sample["doc"]["output"]), "fp"[int(sample["exact_match"])]
                compared, passed = compared + 1, passed + (there == "p")
                if here != there:
                    wrong.append(f"{case['expect']}: {sample['doc']['output']!r} here {here}, there {there}")
    assert not wrong, "\n".join(wrong)
    assert compared > 10_000
    assert passed > 1000
