"""`tunegate pairs build`: its files, its output, and its errors with file, line and field."""

import json
from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from tunegate_client.cli.main import main

COMPLETIONS = [{"id": f"c{n}", "text": f"answer {n}"} for n in (1, 2, 3)]
PROMPTS = [{"id": f"p{n}", "prompt": f"order {n}", "completions": COMPLETIONS} for n in (1, 2)]
RANKED = {"id": "p1", "rater": "ana", "ranking": [["c2"], ["c1", "c3"]]}


def lines(path: Path, *objects: object) -> Path:
    path.write_text("".join(json.dumps(one) + "\n" for one in objects))
    return path


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    lines(tmp_path / "candidates.jsonl", *PROMPTS)
    lines(tmp_path / "ana.jsonl", RANKED)
    lines(tmp_path / "ben.jsonl", RANKED | {"rater": "ben", "ranking": [["c2"], ["c3"], ["c1"]]})
    return tmp_path


def build(*arguments: str) -> Result:
    return CliRunner().invoke(main, ["pairs", "build", "candidates.jsonl", *arguments, "-o", "pairs.jsonl"])


def test_text_with_a_line_separator_stays_in_its_line(folder: Path) -> None:
    completions = [{"id": "c1", "text": "a\u2028b"}, {"id": "c2", "text": "c"}]
    line = json.dumps({"id": "p1", "prompt": "order", "completions": completions}, ensure_ascii=False)
    (folder / "candidates.jsonl").write_text(line + "\n")
    lines(folder / "ana.jsonl", RANKED | {"ranking": [["c1"], ["c2"]]})
    assert build("ana.jsonl").exit_code == 0
    assert json.loads((folder / "pairs.jsonl").read_text())["chosen"] == "a\u2028b"


def test_build_writes_pairs_and_prints_agreement_and_drops(folder: Path) -> None:
    result = build("ana.jsonl", "ben.jsonl", "--pairs-per-prompt", "all")
    assert result.exit_code == 0, result.output
    assert result.output.splitlines() == [
        "1 of 2 prompts are ranked, by ana, ben",
        "agreement: Kendall's tau-b 0.82, same opinion on 2 of 3 pairs",
        "     1 dropped: tie (too few raters prefer one of the two, and nobody prefers the other one)",
        "pairs.jsonl has 2 pairs from 1 of 1 ranked prompts",
    ]
    assert [json.loads(line) for line in (folder / "pairs.jsonl").read_text().splitlines()] == [
        {"id": f"p1:c2>{other}", "prompt": "order 1", "chosen": "answer 2", "rejected": f"answer {other[1]}"}
        for other in ("c1", "c3")
    ]


def test_build_without_pairs_fails_and_keeps_the_earlier_file(folder: Path) -> None:
    (folder / "pairs.jsonl").write_text("earlier")
    result = build("ana.jsonl", "--min-raters", "2")
    assert result.exit_code == 1
    assert "3 dropped: too few raters" in result.output
    assert "there are no pairs, so pairs.jsonl is not written" in result.output
    assert (folder / "pairs.jsonl").read_text() == "earlier"


def test_build_does_not_replace_a_file_that_it_reads(folder: Path) -> None:
    (folder / "pairs.jsonl").symlink_to("ana.jsonl")
    result = build("ana.jsonl")
    assert result.exit_code == 2
    assert "is also an input file: name another file" in result.output


@pytest.mark.parametrize(
    ("changes", "problem"),
    [
        ({"id": "p9"}, "line 2: id: no prompt of the candidates has the id p9"),
        (
            {"ranking": [["c2"], ["c9"]]},
            "line 2: ranking: prompt p2 has no completion c9, only c1, c2",
        ),
        ({"bad": ["c9"]}, "line 2: bad: prompt p2 has no completion c9"),
        ({"bad": ["c2"]}, "line 2: ranking and bad have more than once the completion c2"),
        ({"ranking": [["c1"], ["c1"]]}, "line 2: ranking and bad have more than once"),
        ({"ranking": []}, "line 2: ranking and bad are both empty"),
        ({"ranking": ["c1"]}, "line 2: ranking.0: Input should be a valid array"),
        ({"ranking": [[]]}, "line 2: ranking.0: List should have at least 1 item"),
        ({"rater": " "}, "line 2: rater: must not be blank"),
        ({"best": "c1"}, "line 2: best: Extra inputs are not permitted"),
        ({"id": "p1"}, "line 2: id: ana has ranked p1 already in ana.jsonl, line 1"),
    ],
)
def test_mistake_in_a_ranking_is_reported_with_its_line(folder: Path, changes, problem) -> None:
    lines(folder / "ana.jsonl", RANKED, RANKED | {"id": "p2"} | changes)
    result = build("ana.jsonl")
    assert result.exit_code == 1
    assert f"Error: ana.jsonl: {problem}" in result.output
    assert not (folder / "pairs.jsonl").exists()


@pytest.mark.parametrize(
    ("changes", "problem"),
    [
        ({"prompt": " "}, "line 2: prompt: must not be blank"),
        ({"prompt": 1}, "line 2: prompt: must be text, or a list of the turns of a chat"),
        ({"prompt": []}, "line 2: prompt: List should have at least 1 item"),
        ({"prompt": [{"role": "assistant", "content": "a"}]}, "line 2: prompt: must end with a"),
        ({"prompt": [{"role": "user"}]}, "line 2: prompt.0: content is missing"),
        ({"completions": COMPLETIONS[:1]}, "line 2: completions: List should have at least 2 items"),
        ({"completions": [COMPLETIONS[0]] * 2}, "line 2: two completions have the id c1"),
        ({"completions": [{"id": "a"}, {"id": "b"}]}, "line 2: completions.0.text: Field required"),
        ({"id": "p1"}, "line 2: id: line 1 has the prompt p1 too"),
    ],
)
def test_mistake_in_the_candidates_is_reported_with_its_line(folder: Path, changes, problem) -> None:
    lines(folder / "candidates.jsonl", PROMPTS[0], PROMPTS[1] | changes)
    result = build("ana.jsonl")
    assert result.exit_code == 1
    assert f"Error: candidates.jsonl: {problem}" in result.output


@pytest.mark.parametrize(
    ("content", "problem"),
    [
        (b"", "has no prompts"),
        (b"{", "line 1: Invalid JSON"),
        (b"\xff", "cannot be read: 'utf-8' codec"),
        (b'{"id": "\\ud83d"}', "line 1: Invalid JSON"),
    ],
)
def test_unreadable_candidates_are_reported(folder: Path, content: bytes, problem: str) -> None:
    (folder / "candidates.jsonl").write_bytes(content)
    result = build("ana.jsonl")
    assert result.exit_code == 1
    assert problem in result.output


def test_many_mistakes_are_counted_and_the_first_are_listed(folder: Path) -> None:
    lines(folder / "ana.jsonl", *[RANKED | {"id": f"x{n}"} for n in range(8)])
    assert "and 3 more" in build("ana.jsonl").output
