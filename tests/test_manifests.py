"""Reading manifests: every value has a line, and every error has a file, a line and a remedy."""

import textwrap
from collections.abc import Callable
from pathlib import Path

import pytest

from tunegate_client.manifests import Manifest, ManifestError, load_manifests

Write = Callable[..., Path]


@pytest.fixture
def write(tmp_path: Path) -> Write:
    def write(text: str, name: str = "a.yaml") -> Path:
        path = tmp_path / name
        path.write_text(textwrap.dedent(text), encoding="utf-8")
        return path

    return write


def load_one(path: Path) -> Manifest:
    (manifest,) = load_manifests([path])
    return manifest


def faults(*paths: Path) -> list[str]:
    with pytest.raises(ManifestError) as caught:
        load_manifests(paths)
    return [f"{d.file.name}:{d.line}: {d.message}" for d in caught.value.diagnostics]


JOB = """\
    # a comment
    apiVersion: tunegate.dev/v1alpha2
    kind: FineTuneJob
    metadata: {name: orders, namespace: team-a}
    spec:
      stages:
      - name: sft
        training:
          epochs: 3
      -
        name: dpo
    """


def test_every_value_of_a_manifest_has_a_line_number(write: Write) -> None:
    manifest = load_one(write(JOB))
    assert manifest.line_of(("spec",)) == 5
    assert manifest.line_of(("spec", "stages", 0)) == 7
    assert manifest.line_of(("spec", "stages", 0, "training", "epochs")) == 9
    assert manifest.line_of(("spec", "stages", 1, "name")) == 11
    assert manifest.line_of(("metadata", "namespace")) == 4


def test_missing_value_is_reported_at_the_line_of_its_mapping(write: Write) -> None:
    manifest = load_one(write(JOB))
    assert manifest.line_of(("spec", "stages", 0, "training", "seed")) == 8
    assert manifest.line_of(("spec", "storage", "persistentVolumeClaim")) == 5
    assert manifest.line_of(("status",)) == 2


def test_manifest_has_kind_name_and_namespace(write: Write) -> None:
    manifest = load_one(write(JOB))
    assert (manifest.kind, manifest.namespace, manifest.name) == ("FineTuneJob", "team-a", "orders")
    assert load_one(write("{apiVersion: v1, kind: Pod, metadata: {name: a}}")).namespace == "default"


def test_multiple_documents_keep_their_line_numbers(write: Write) -> None:
    first, second = load_manifests(
        [write("---\napiVersion: v1\nkind: A\n---\n---\napiVersion: v1\nkind: B\n---\n")]
    )
    assert (first.line_of(("kind",)), second.line_of(("kind",))) == (3, 7)


def test_line_numbers_in_a_literal_block_match_the_file(write: Write) -> None:
    manifest = load_one(
        write(
            """\
            apiVersion: v1
            kind: ConfigMap
            data:
              a.jsonl: |
                {"id": "one"}
                {"id": "two"}
              folded: >
                one
                two
            """
        )
    )
    assert manifest.obj["data"]["a.jsonl"].splitlines()[1] == '{"id": "two"}'
    assert manifest.line_in(("data", "a.jsonl"), 2) == 6
    assert manifest.line_in(("data", "folded"), 2) == 7


@pytest.mark.parametrize(
    ("written", "read"),
    [
        ("2e-4", 2e-4),
        ("1.5", 1.5),
        (".5", 0.5),
        ("3", 3),
        ("0x10", 16),
        ("010", 8),
        ("1_000", 1000),
        ("yes", True),
        ("off", False),
        ("~", None),
        ("", None),
        ("1:30", "1:30"),
        ("2026-01-31", "2026-01-31"),
        ("'2e-4'", "2e-4"),
        ("24Gi", "24Gi"),
        ("1.2.3", "1.2.3"),
        ("y", True),
        ("N", False),
        ("0o17", 15),
        ("-0X1F", -31),
        ("0B11", 3),
        ("1_0.5", 10.5),
        ("08", 8.0),
        ("yy", "yy"),
    ],
)
def test_plain_scalars_are_read_like_kubectl_reads_them(write: Write, written: str, read: object) -> None:
    value = load_one(write(f"apiVersion: v1\nkind: A\nvalue: {written}\n")).obj["value"]
    assert value == read
    assert type(value) is type(read)


def test_yaml_anchors_and_merge_keys_are_supported(write: Write) -> None:
    manifest = load_one(
        write("apiVersion: v1\nkind: A\nbase: &base {r: 8, alpha: 16}\nadapter:\n  <<: *base\n  r: 4\n")
    )
    assert manifest.obj["adapter"] == {"r": 4, "alpha": 16}
    assert manifest.line_of(("adapter", "r")) in (5, 6)


def test_only_yaml_manifests_are_read_in_file_name_order(write: Write, tmp_path: Path) -> None:
    write("{apiVersion: v1, kind: B}", "b.yml")
    write("{apiVersion: v1, kind: A}", "a.yaml")
    write("{some: values}", "values.yaml")
    write("", "empty.yaml")
    write("not yaml at all: [", "notes.txt")
    assert [m.kind for m in load_manifests([tmp_path])] == ["A", "B"]


def test_misspelled_tunegate_document_in_a_folder_is_not_skipped(write: Write, tmp_path: Path) -> None:
    write("{apiVersion: v1, kind: A}", "a.yaml")
    write("{apiVersion: tunegate.dev/v1alpha2, metadata: {name: orders}}", "b.yaml")
    write("{kind: EvalGate, metadata: {name: orders}}", "c.yaml")
    assert [(m.kind, m.file.name) for m in load_manifests([tmp_path])] == [
        ("A", "a.yaml"),
        ("", "b.yaml"),
        ("EvalGate", "c.yaml"),
    ]


def test_folder_without_manifests_is_an_error(write: Write, tmp_path: Path) -> None:
    write("{some: values}", "values.yaml")
    assert faults(tmp_path) == [
        f"{tmp_path.name}:1: no manifests in this folder: it needs .yaml files with apiVersion and kind"
    ]


FAULTS = [
    ("an empty file", "", ["a.yaml:1: the file is empty"]),
    ("only comments", "# nothing\n", ["a.yaml:1: the file is empty"]),
    (
        "a file that is not a manifest",
        "# values\nlearningRate: 1\n",
        ["a.yaml:2: not a manifest: apiVersion and kind are missing"],
    ),
    ("a file without a kind", "apiVersion: v1\n", ["a.yaml:1: not a manifest: kind is missing"]),
    ("a kind without a value", "apiVersion: v1\nkind:\n", ["a.yaml:1: not a manifest: kind is missing"]),
    (
        "a kind that is a list",
        "apiVersion: v1\nkind: [ConfigMap]\n",
        ["a.yaml:1: not a manifest: kind must be text"],
    ),
    (
        "a date that does not exist",
        "apiVersion: v1\nkind: A\nspec: !!timestamp 2020-13-45\n",
        ["a.yaml:3: not YAML: 2020-13-45 cannot be read as timestamp"],
    ),
    (
        "a number without digits",
        "apiVersion: v1\nkind: A\nspec: {r: 0x_}\n",
        ["a.yaml:3: not YAML: 0x_ cannot be read as int"],
    ),
    (
        "a number with more digits than Python reads",
        f"apiVersion: v1\nkind: A\nspec:\n  r: {'9' * 5000}\n",
        [f"a.yaml:4: not YAML: {'9' * 40}… cannot be read as int"],
    ),
    (
        "a tag that the value does not fit",
        "apiVersion: v1\nkind: A\nspec: !!bool maybe\n",
        ["a.yaml:3: not YAML: maybe cannot be read as bool"],
    ),
    (
        "a time that is none",
        "apiVersion: v1\nkind: A\nspec: !!timestamp foo\n",
        ["a.yaml:3: not YAML: foo cannot be read as timestamp"],
    ),
    (
        "an empty number",
        "apiVersion: v1\nkind: A\nspec: !!float ''\n",
        ["a.yaml:3: not YAML: an empty value cannot be read as float"],
    ),
    (
        "lists that are nested too deeply",
        f"apiVersion: v1\nkind: A\nspec: {'[' * 1000}{']' * 1000}\n",
        ["a.yaml:1: not a manifest: it is nested too deeply"],
    ),
    ("a list", "- a\n- b\n", ["a.yaml:1: not a manifest: it must be a mapping"]),
    (
        "a tab as indentation",
        "apiVersion: v1\nkind: A\nspec:\n\ta: 1\n",
        ["a.yaml:4: not YAML: indent with spaces, not tabs"],
    ),
    (
        "a colon too many",
        "apiVersion: v1\nkind: A\nspec: a: b\n",
        ["a.yaml:3: not YAML: unexpected colon; put quotes around the text, or check the indentation"],
    ),
    (
        "an open bracket",
        "apiVersion: v1\nspec: [1, 2\nkind: A\n",
        ["a.yaml:3: not YAML: expected ',' or ']', but got ':' (while parsing a flow sequence, line 2)"],
    ),
    (
        "a control character",
        "apiVersion: v1\nkind: \x07\n",
        ["a.yaml:2: not YAML: the character U+0007 is not allowed"],
    ),
    (
        "unpaired surrogates",
        'apiVersion: v1\nkind: A\nspec:\n  text: "\\ud83d\\ude00"\n  "\\ud83d": 1\n',
        [
            "a.yaml:4: \\uD800 to \\uDFFF are not characters: write the character itself",
            "a.yaml:5: \\uD800 to \\uDFFF are not characters: write the character itself",
        ],
    ),
    (
        "duplicate keys",
        "apiVersion: v1\nkind: A\nspec:\n  r: 1\n  r: 2\nkind: B\n---\nkind: C\nkind: D\n",
        [
            "a.yaml:5: duplicate key r, first in line 4: keep one of them",
            "a.yaml:6: duplicate key kind, first in line 2: keep one of them",
            "a.yaml:9: duplicate key kind, first in line 8: keep one of them",
        ],
    ),
    (
        "keys that are not text",
        "apiVersion: v1\nkind: A\nspec:\n  on: 1\n  2: b\n",
        [
            "a.yaml:4: the key on is not a string: put quotes around it",
            "a.yaml:5: the key 2 is not a string: put quotes around it",
        ],
    ),
    (
        "an alias of itself",
        "apiVersion: v1\nkind: A\nspec: &a [*a]\n",
        ["a.yaml:3: not a manifest: an alias that contains itself"],
    ),
    (
        "a tag that runs code",
        "apiVersion: v1\nkind: !!python/object/apply:os.getcwd []\n",
        [
            "a.yaml:2: not YAML: could not determine a constructor for the tag "
            "'tag:yaml.org,2002:python/object/apply:os.getcwd'"
        ],
    ),
]


@pytest.mark.parametrize(("text", "message"), [row[1:] for row in FAULTS], ids=[row[0] for row in FAULTS])
def test_invalid_file_is_refused_with_its_line(write: Write, text: str, message: list[str]) -> None:
    assert faults(write(text)) == message


def test_manifest_with_too_many_aliased_values_is_refused(write: Write) -> None:
    lines = ["apiVersion: v1", "kind: A", "a0: &a0 [1, 1, 1, 1, 1, 1, 1, 1, 1, 1]"]
    lines += [f"a{n}: &a{n} [{', '.join([f'*a{n - 1}'] * 10)}]" for n in range(1, 9)]
    assert faults(write("\n".join(lines))) == ["a.yaml:3: not a manifest: more than 200,000 values"]


def test_all_errors_of_all_files_are_reported(write: Write, tmp_path: Path) -> None:
    (tmp_path / "latin.yaml").write_bytes(b"kind: caf\xe9\n")
    assert faults(
        write("a: 1\na: 2\n", "b.yaml"), write("", "a.yaml"), tmp_path / "none.yaml", tmp_path / "latin.yaml"
    ) == [
        "a.yaml:1: the file is empty",
        "b.yaml:2: duplicate key a, first in line 1: keep one of them",
        "latin.yaml:1: the file cannot be read: it is not UTF-8 text",
        "none.yaml:1: the file cannot be read: no such file",
    ]


def test_error_is_printed_as_file_line_and_message(write: Write) -> None:
    path = write("")
    with pytest.raises(ManifestError) as caught:
        load_manifests([path])
    assert str(caught.value) == f"{path}:1: the file is empty"
