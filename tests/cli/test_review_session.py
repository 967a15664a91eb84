"""Scoring a review sample with keys in the terminal."""

import io
from collections.abc import Iterator, Sequence
from dataclasses import replace

import pytest
from rich.console import Console

from support.scoring_page import review_of
from tunegate_api.judging.review import RowScore
from tunegate_api.judging.review_sample import ReviewRow, with_id
from tunegate_api.messages import FunctionCall, Message, ToolCall
from tunegate_client.cli.review_session import score_rows

ROWS = [
    with_id(
        ReviewRow(row=str(n), prompt=[Message(role="user", content=f"order {n}")], completion=f"answer {n}")
    )
    for n in range(4)
]
ENTER = "\r"


def play(
    keys: str, scores: dict[str, RowScore] | None = None, comments: tuple[str, ...] = ()
) -> dict[str, RowScore]:
    """Return the scores after these keys. If the keys end, the terminal was closed."""
    return session(keys, scores or {}, comments)[0]


def session(
    keys: str,
    scores: dict[str, RowScore],
    comments: tuple[str, ...] = (),
    rows: list[ReviewRow] = ROWS,
    judged: Sequence[ReviewRow] = (),
) -> tuple[dict[str, RowScore], str]:
    review = replace(review_of(rows, judged=[row.id for row in judged]), scores=scores)
    pressed, asked, screen = iter(keys), iter(comments), io.StringIO()

    def get_key() -> str:
        key = next(pressed, "")
        if not key:
            raise EOFError
        if key == "!":
            raise KeyboardInterrupt
        return key

    console = Console(file=screen, width=100)
    return score_rows(review, console, get_key, lambda _: next(asked)), screen.getvalue()


def verdicts(scores: dict[str, RowScore]) -> str:
    """Return a letter for each row: y good, n bad, - not scored."""
    letters: Iterator[str] = ("-" if row.id not in scores else "yn"[not scores[row.id].good] for row in ROWS)
    return "".join(letters)


@pytest.mark.parametrize(
    ("keys", "expected"),
    [
        ("yyny" + ENTER, "yyny"),
        ("y nyn" + ENTER, "ynny"),  # the skipped row comes back at the end
        ("yybnyn" + ENTER, "ynyn"),  # b goes back to the row that was scored last
        ("yyyybny" + ENTER + "b", "yyyn"),
        ("ynq", "yn--"),
        ("yn!", "yn--"),
        ("yn", "yn--"),
        ("YN?xq", "yn--"),
        ("yyyyq", "yyy-"),  # not submitted: all scores would decide the review
        ("yyyy!", "yyy-"),
        ("yyyyx" + ENTER, "yyyy"),
        ("yyyyb" + ENTER + ENTER, "yyyy"),  # back to the last row, whose score stays
        ("yyyyb " + ENTER, "yyyy"),
        ("yyyybq", "yyy-"),
        ("yyyybbq", "yy-y"),
    ],
)
def test_keys_give_the_expected_scores(keys, expected):
    assert verdicts(play(keys)) == expected


@pytest.mark.parametrize(
    ("keys", "expected"),
    [
        ("yyq", "y---"),  # not submitted: with those of the judge, all scores would decide the review
        ("yy!", "y---"),
        ("yy" + ENTER, "yy--"),
        ("yybn" + ENTER, "yn--"),
        ("yy nq", "y-n-"),
        ("yy n" + ENTER + ENTER, "yyn-"),
        ("yy nn" + ENTER, "yynn"),
    ],
)
def test_rows_that_a_judge_scored_need_no_score(keys, expected):
    assert verdicts(session(keys, {}, judged=ROWS[2:])[0]) == expected


def test_screen_shows_which_rows_the_judge_scored():
    _, screen = session("yy q", {}, judged=ROWS[2:])
    before, _, after = screen.partition("2 of 2 scored: 2 good, 0 bad; the judge scored 2")
    assert "space score the other rows" in after
    assert "row 3 of 4" in after
    overrules = "The judge scored this row. Your score overrules it."
    assert (before.count(overrules), after.count(overrules)) == (0, 1)


def test_session_continues_at_the_first_row_without_a_score():
    earlier = {ROWS[0].id: RowScore(good=False, note="typo"), ROWS[2].id: RowScore(good=True)}
    scores = play("nn" + ENTER, earlier)
    assert verdicts(scores) == "nnyn"
    assert scores[ROWS[0].id].note == "typo"


def test_reviewers_comment_stays_with_its_row():
    scores = play("cnynbcq", comments=(" wrong total ", "date is missing"))
    assert {row.row: scores[row.id].note for row in ROWS if row.id in scores} == {
        "0": "wrong total",
        "1": "",
        "2": "date is missing",
    }


def test_invalid_bytes_in_a_comment_do_not_lose_the_scores():
    scores = play("cyq", comments=("wrong \udcff",))
    assert scores == {ROWS[0].id: RowScore(good=True, note="wrong ?")}


def test_screen_shows_the_whole_row_and_the_progress():
    call = ToolCall(function=FunctionCall(name="find_order", arguments={"id": 7}))
    prompt = [Message(role="system", content="Be brief."), Message(role="user", content="Where is order 7?")]
    row = with_id(
        ReviewRow(row="17", prompt=prompt, completion="", reasoning="look it up", tool_calls=[call])
    )
    _, screen = session("q", {ROWS[0].id: RowScore(good=False)}, rows=[ROWS[0], row])
    for text in ("row 2 of 2  ·  id 17", "1 of 2 scored: 0 good, 1 bad", "Be brief.", "Where is order 7?"):
        assert text in screen
    assert "look it up" in screen
    assert 'find_order({"id": 7})' in screen


def test_control_characters_of_a_row_do_not_reach_the_terminal():
    row = with_id(
        ReviewRow(row="1", prompt=[Message(role="user", content="a\x1b[2Jb")], completion="c\x07\x9b")
    )
    note = RowScore(good=True, note="d\x1b]0;e")
    _, screen = session("ynbbq", {}, rows=[row, ROWS[0]])
    _, noted = session("yb", {row.id: note, ROWS[0].id: note}, rows=[row, ROWS[0]])
    assert not {"\x1b", "\x07", "\x9b"} & set(screen + noted)
    assert "a\\x1b[2Jb" in screen
    assert "good: d\\x1b]0;e" in noted


def test_characters_of_other_scripts_are_shown_unchanged():
    text = "«\u00a0oui\u00a0» \u3000 \u200d \N{FAMILY}"
    row = with_id(ReviewRow(row="1", prompt=[Message(role="user", content=text)], completion="c"))
    assert text in session("q", {}, rows=[row])[1]
