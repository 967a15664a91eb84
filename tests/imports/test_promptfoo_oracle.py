"""Imported cases pass the same outputs as promptfoo itself, which is installed from npm."""

import json
import random
from itertools import product
from pathlib import Path
from typing import Any

import pytest
import yaml

from support.golden_outcomes import outcome
from support.promptfoo import run_promptfoo
from tunegate_client.imports.promptfoo import import_promptfoo

pytestmark = [pytest.mark.oracle, pytest.mark.timeout(1200)]

OUTPUTS = [
    "",
    " ",
    "\n",
    "\ufeff",
    "\x1c",
    "\x85",
    "Paris",
    " Paris",
    "Paris\n",
    "paris",
    "PARIS",
    "The capital is Paris.",
    "Pa\u017fris \u017ftraße STRASSE",
    "straße",
    "STRASSE",
    "İstanbul",
    "istanbul",
    "i̇stanbul",
    "ΟΔΟΣ",
    "οδος",
    "οδοσ",
    "ΟΔΟΣ.",
    "K",  # the Kelvin sign
    "k",
    "ﬁne",
    "fine",
    "42",
    " 42",
    "42\n",
    "4.2",
    "4,2",
    "-0",
    "0",
    "-0.0",
    "1e-0",
    "٤٢",
    "answer: 42, question: 7",
    "a,b",
    "a, b",
    "b",
    'a"b',
    "a\\b",
    "one two three",
    "one\ttwo\u3000three",
    "one\ufefftwo\u00a0three",
    "one\x1ctwo\x85three",
    "  one  two  three  ",
    "one two",
    "one two three four",
    "😀",
    "😀😀",
    "a😀b",
    "a\u2028b",
    "a\rb",
    "a\nb",
    "line\n",
    "été",
    "e\u0301te\u0301",
    "true",
    "null",
    "undefined",
    "[object Object]",
    "{}",
    "[]",
    '""',
    '{"a": 0}',
    '{"a": -0}',
    '{"a": 0.0}',
    '{"a": -0.0}',
    '{"a": 1}',
    '{"a": 1.0}',
    '{"a": 1e0}',
    '{"a": 1e-0}',
    '{"a": true}',
    '{"a": "x", "b": 2}',
    '{"b": 2, "a": "x"}',
    '{"a": "x", "b": 2, "c": null}',
    ' {"a": "x", "b": 2}\n',
    '\ufeff{"a": "x", "b": 2}',
    '```json\n{"a": "x", "b": 2}\n```',
    "{'a': 1}",
    '{"a": 1, "a": 2}',
    '{"a": NaN}',
    '{"a": 1e999}',
    '{"a": 01}',
    '{"a": "\t"}',
    '["x", 1]',
    '["x", 1.0]',
    '["x", true]',
    '["x", "x"]',
    "[1, 1.0]",
    "[1, true]",
    '{"a": "😀😀"}',
    '{"a": "\\ud83d\\ude00"}',
    '{"a": 3}',
    '{"a": 3.5}',
    '{"a": "3"}',
    '{"a": []}',
    '{"a": [1, 2, 3]}',
    '{"a": {"b": null}}',
    "1",
    "1.0",
    "-1",
    "\\d",
    "x{,3}",
    "xxx",
    "aab",
    "a-b",
    "a]b",
    "a_b",
    "naïve",
    "foo.bar",
    "fooxbar",
    "foo\nbar",
    "foo\u2029bar",
    "2024-01-05",
    "10",
    "9007199254740993",
]

TEXTS = [
    "Paris",
    " Paris",
    "42",
    "a,b",
    "straße",
    "STRASSE",
    "İ",
    "ΟΔΟΣ",
    "k",
    "fi",
    "é",
    "😀",
    "\n",
    "i",
    "ss",
]

REGEXES = [
    r"^Paris$",
    r"^\s*Paris\s*$",
    r"\bParis\b",
    r"\d+",
    r"^\d+$",
    r"^\D+$",
    r"^\w+$",
    r"\W",
    r"^\S+$",
    r"\s",
    r"^.$",
    r"^..$",
    r"^.{1,4}$",
    r"a.b",
    r"a[^]b",
    r"a[^x]b",
    r"a[\s\S]b",
    r"[]",
    r"^[\w-]+$",
    r"^[^\d]+$",
    r"[\u00e0-\u00ff]",
    r"\u00e9",
    r"\xe9",
    r"[😀]",
    r"😀+$",
    r"^(?:😀)+$",
    r"^[\D]$",
    r"\B",
    r"^\b",
    r"x{,3}",
    r"x{2}",
    r"x{2,}",
    r"^a{1,2}?b",
    r"(?<year>\d{4})-\d\d",
    r"(?=.*one)(?=.*two)",
    r"^(?!.*two).*$",
    r"(?<=a)b",
    r"(?<!a)b",
    r"a\-b|a\]b",
    r"a]b",
    r"a[_\-\]]b",
    r"foo\.bar",
    r"foo.bar",
    r"foo[.]bar",
    r"foo\/bar|foo\nbar",
    r"\\d",
    r"\t|\v|\f|\0|\cI",
    r"^$",
    r"\$|\^",
    r"(a|b)+",
    r"[a-c&&b]",
    r"[[a]",
    r"[\b]",
    r"}|{",
    r"[^\s]+ [^\s]+",
    r"[.-9]",
    r"\_",
    r"\é",
    r"(?:a|)b",
    r"\S{5}",
]

SCHEMAS = [
    {},
    {"type": "object"},
    {"type": ["object", "array"]},
    {"required": ["a"]},
    {"type": "object", "properties": {"a": {"type": "string"}}, "required": ["a"]},
    {"type": "object", "properties": {"a": {}}, "additionalProperties": False},
    {"properties": {"a": {"type": "integer"}}},
    {"properties": {"a": {"type": "number", "minimum": 1, "exclusiveMaximum": 3}}, "required": ["a"]},
    {"properties": {"a": {"minLength": 2, "maxLength": 2}}},
    {"properties": {"a": {"const": 0}}, "required": ["a"]},
    {"properties": {"a": {"enum": [1, "x", None]}}, "required": ["a"]},
    {"type": "array", "items": {"type": "string"}},
    {"type": "array", "uniqueItems": True},
    {"type": "array", "minItems": 1, "maxItems": 2},
    {"anyOf": [{"type": "string"}, {"type": "integer"}]},
    {"oneOf": [{"type": "number"}, {"type": "integer"}]},
    {"allOf": [{"type": "number"}, {"not": {"type": "integer"}}]},
    {"minProperties": 2, "maxProperties": 2},
    {"propertyNames": {"maxLength": 1}},
    {"additionalProperties": {"type": "integer"}},
    {"$schema": "http://json-schema.org/draft-07/schema#", "title": "t", "type": "boolean"},
    {"properties": {"a": {"properties": {"b": {"type": "null"}}, "required": ["b"]}}, "required": ["a"]},
    {"properties": {"a": False}},
]

VALUES = [
    "Paris",
    "",
    42,
    4.2,
    1.0,
    True,
    1e21,
    0,
    "0",
    {"a": 0},
    {"a": 1},
    {},
    [],
    ["x", 1],
    [1, 1],
    {"a": {"b": None}},
]
LISTS = [
    ["Paris", "42"],
    ["a", 1],
    ["Paris"],
    ["x", True],
    [None, "k"],
    ["straße", "İ"],
    ["fi"],
    ["", "Paris"],
]
COMMAS = ["Paris,42", 'Paris, "a,b"', '"a""b", k', '"a\\\\b" ,"x"', ",, Paris ,,", "k,", '"un', "İ,ΟΔΟΣ"]
COUNTS = [3, "3", 0, 1, {"min": 2}, {"max": 2}, {"min": 1, "max": 3}, {"min": 0, "max": 0}, {"max": 0}]


def assertions() -> list[dict[str, Any]]:
    """Return every kind of assertion, with and without ``not-``."""
    plain = [
        *(
            {"type": kind, "value": text}
            for kind in ("contains", "icontains", "starts-with")
            for text in TEXTS
        ),
        *({"type": "equals", "value": value} for value in [*TEXTS, *VALUES]),
        *({"type": "regex", "value": value} for value in REGEXES),
        *({"type": "is-json", "value": value} for value in SCHEMAS),
        {"type": "is-json"},
        {"type": "is-json", "value": "{type: object, required: [a]}"},
        *({"type": "word-count", "value": value} for value in COUNTS),
        {"type": "contains", "value": 42},
        {"type": "contains", "value": 4.2},
        *(
            {"type": f"{kind}-{of}", "value": value}
            for kind, of, value in product(("contains", "icontains"), ("any", "all"), [*LISTS, *COMMAS])
        ),
    ]
    return [{**each, "type": prefix + each["type"]} for each in plain for prefix in ("", "not-")]


def differences(folder: Path, config: dict[str, Any] | str, outputs: list[str]) -> tuple[list[str], int, int]:
    """Return the outputs that a case passes in only one of the programs, the number of cases that were
    carried over, and the number of compared outcomes."""
    text = config if isinstance(config, str) else yaml.safe_dump(config, allow_unicode=True)
    (folder / "config.yaml").write_text(text)
    found = import_promptfoo(folder / "config.yaml")
    theirs = run_promptfoo(folder, text, outputs)
    wrong, compared = [], 0
    for case in found.cases:
        messages = json.dumps(case.get("messages"), separators=(",", ":"), ensure_ascii=False)
        prompt = case.get("prompt") or messages
        for index, output in enumerate(outputs):
            compared += 1
            ours = outcome(case, output)
            if ours != theirs[prompt, index]:
                wrong.append(
                    f"{case['id']} {case['expect']}: {output!r} here {ours}, there {theirs[prompt, index]}"
                )
    return wrong, len(found.cases), compared


def test_each_assertion_passes_the_same_outputs_as_promptfoo(tmp_path: Path) -> None:
    tests = [{"vars": {"n": str(n)}, "assert": [each]} for n, each in enumerate(assertions())]
    wrong, cases, _ = differences(tmp_path, {"prompts": ["case {{n}}"], "tests": tests}, OUTPUTS)
    assert not wrong, "\n".join(wrong)
    assert cases > 300


SHORT = ["", "a", "b", "ab", "abc", "c", "bc", "xyz", "a b", "{}"]


def random_test(generator: random.Random, number: int) -> dict[str, Any]:
    """Return a test with assertions, sets, weights and thresholds."""

    def leaf() -> dict[str, Any]:
        kind, value = generator.choice(
            [
                ("contains", "a"),
                ("contains", "b"),
                ("not-contains", "c"),
                ("regex", "^.{2}$"),
                ("equals", "ab"),
            ]
        )
        weight = generator.choice([None, None, None, 0, 1, 2, 3, 0.5, 0.1])
        return {"type": kind, "value": value} | ({} if weight is None else {"weight": weight})

    def threshold() -> dict[str, Any]:
        return generator.choice(
            [{}, {}, {"threshold": generator.choice([0.25, 1 / 3, 0.5, 0.6, 2 / 3, 0.9, 1])}]
        )

    def part() -> dict[str, Any]:
        if generator.random() < 0.7:
            return leaf()
        weight = generator.choice([{}, {}, {"weight": 0}, {"weight": 2}])
        return {
            "type": "assert-set",
            "assert": [leaf() for _ in range(generator.randint(1, 3))],
            **threshold(),
            **weight,
        }

    parts = [part() for _ in range(generator.randint(1, 4))]
    return {"vars": {"n": str(number)}, "assert": parts, **threshold()}


def test_weights_and_thresholds_pass_the_same_outputs_as_promptfoo(tmp_path: Path) -> None:
    generator = random.Random(7)
    tests = [random_test(generator, number) for number in range(400)]
    wrong, cases, _ = differences(tmp_path, {"prompts": ["case {{n}}"], "tests": tests}, SHORT)
    assert not wrong, "\n".join(wrong)
    assert cases > 200


CSV = """\ufeffn,city,__expected,__expected2,__prefix,__threshold,__description,__metadata:kind
1,Paris,{{city}},not-contains: Rome,,,first,geo
2,"Paris, France","contains-any: ""Paris, France"", Rome",,Sir: ,,second,geo
3,Rome,icontains: {{city}},equals:Rome,,0.5,third,
4,x,regex(0.5): ^R.me$,starts-with:  R,,,,
5,x,is-json,word-count: 1,,,,
6,x,llm-rubric: is nice,,,,,
7,x,fn: output.length,,,,,
8,x,unknown: text,,,,,
9,x,similar:cosine: x,,,,,
10,x,not-is-json: {"type": "object"},,,,,
"""
CONFIG = """
prompts:
  - "case {{ n }} {{extra}}\\n"
  - |
    [{"role": "system", "content": "n {{n}}"}, {"role": "user", "content": "{{extra}}"}]
  - file://prompts.txt
assertionTemplates:
  short: {type: regex, value: '^.{0,12}$'}
defaultTest:
  vars: {extra: more, n: none}
  threshold: 0.7
  assert:
    - $ref: '#/assertionTemplates/short'
tests:
  - file://tests.csv
  - file://more.yaml
  - vars: {n: yes, extra: [Paris, Rome]}
    assert: [{type: contains, value: '{{extra}}'}, {type: equals, value: off}]
    options: {suffix: ' (end)'}
  - vars: {n: 010, extra: 1e3}
    threshold: 0.3
    assert:
      - {type: contains, value: '{{n}}'}
      - {type: contains, value: '{{extra}}'}
      - {type: equals, value: 0x1F}
  - vars: {n: 2024-01-05}
    assert: [{type: contains, value: Paris}]
  - vars: {n: own, extra: file://extra.txt}
    options: {disableDefaultAsserts: true, prefix: 'Please: '}
    assert: [{type: contains, value: '{{extra}}'}, {type: equals, value: file://extra.txt}]
    threshold: 1
scenarios:
  - config:
      - vars: {n: s1}
        assert: [{type: contains, value: R}]
      - vars: {n: s2}
        threshold: 1
    tests:
      - vars: {extra: left}
        assert: [{type: icontains, value: ROME}]
      - assert: [{type: contains-all, value: 'R, m'}]
"""
MORE = """
- vars: {n: m1, extra: "a\\n"}
  assert: &a [{type: contains, value: "{{extra}}"}]
- vars: {n: m2, extra: null}
  assert: *a
- {vars: {n: m3, extra: '{{n}} x'}, assert: *a}
- {vars: {n: m4, extra: {b: 1}}, assert: *a}
- {vars: {n: m5, extra: [1, 2]}, assert: [{type: equals, value: [1, 2]}]}
"""
WORDS = [
    "",
    "Paris",
    "Paris, France",
    "Rome",
    "rome",
    "Rome ",
    "{}",
    "8",
    "a",
    "more",
    "left",
    "10",
    "1000",
    "31",
]


def test_a_configuration_with_files_means_the_same_as_in_promptfoo(tmp_path: Path) -> None:
    (tmp_path / "tests.csv").write_text(CSV)
    (tmp_path / "more.yaml").write_text(MORE)
    (tmp_path / "extra.txt").write_text(" Paris, France\n\n")
    (tmp_path / "prompts.txt").write_text("\nfirst {{n}} of {{extra}}\n---\nsecond {{n}}: {{extra}}\n")
    wrong, cases, _ = differences(tmp_path, CONFIG, [*WORDS, *(word + " x" for word in WORDS)])
    assert not wrong, "\n".join(wrong)
    assert cases > 50
