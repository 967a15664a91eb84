"""Ranking completions with keys: what each key does, the order of completions, and what is saved."""

import io
from collections import Counter

import pytest
from rich.console import Console

from support.candidates import make_known, number_of
from tunegate_api.preference import Ranking
from tunegate_client.cli.pairs_session import rank_prompts
from tunegate_client.pairs.session import (
    RankingSession,
    keys_text,
    press,
    rankings_of,
    shown,
    start_ranking,
)
from tunegate_client.places.client import ClientError

KNOWN = make_known()
ENTER = "\r"


def play(keys: str, *comments: str, session: RankingSession | None = None) -> tuple[RankingSession, str]:
    """Press keys in a session. If the keys end, the terminal was closed. Returns it and the screen."""
    session = session or start_ranking(KNOWN, "ana", [])
    pressed, asked, screen = iter(keys), iter(comments), io.StringIO()

    def get_key() -> str:
        key = next(pressed, "")
        if not key:
            raise EOFError
        return key

    rank_prompts(session, Console(file=screen, width=100), get_key, lambda _: next(asked), lambda: None)
    return session, screen.getvalue()


@pytest.mark.parametrize(
    ("keys", "expected"),
    [
        ("213", "2 > 1 > 3"),
        ("2=13", "2 = 1 > 3"),
        ("1x23", "1 > 3, unusable: 2"),
        ("x1x2x3", "unusable: 1 2 3"),
        ("=1", "1"),  # nothing is ranked before
        ("x1=2", "2, unusable: 1"),  # an unusable completion has no equal
        ("1==2", "1 > 2"),  # the same key again takes it back
        ("1=x2", "1, unusable: 2"),
        ("1120", "1 > 2"),
        ("14", "1"),
        ("1²", "1"),
        ("1=", "1"),
    ],
)
def test_keys_make_the_expected_ranking(keys, expected):
    made = ""
    for key in keys:
        made = press(made, key, 3)
    assert keys_text(made) == expected


@pytest.mark.parametrize(
    ("keys", "expected"),
    [
        ("123321213" + ENTER, {"p1": "123", "p2": "321", "p3": "213"}),
        ("12bb213q", {"p1": "213"}),  # b takes back one number after the other
        ("1=b23q", {"p1": "123"}),  # b takes back a mark
        ("123 b321q", {"p1": "123", "p2": "321"}),  # b goes back to the skipped prompt
        ("123b132q", {"p1": "132"}),
        ("123b1q", {"p1": "123"}),  # a ranking is replaced only by a complete one
        (" 123" + "q", {"p2": "123"}),
        ("12q", {}),
        ("123" * 3 + "q", {"p1": "123", "p2": "123", "p3": "123"}),
        ("123" * 3 + "b321" + ENTER, {"p1": "123", "p2": "123", "p3": "321"}),
    ],
)
def test_keys_rank_prompts_in_the_terminal(keys, expected):
    assert play(keys)[0].answers == expected


def test_session_continues_with_the_first_prompt_without_a_ranking():
    session, _ = play("1=2x3 x1x2x3", "")
    rankings = rankings_of(session)
    again = start_ranking(KNOWN, "ana", [*rankings, rankings[0].model_copy(update={"rater": "ben"})])
    assert again.answers == session.answers
    assert again.current == "p2"
    assert rankings_of(again) == rankings


def test_rankings_have_the_ids_and_comments_of_the_shown_completions():
    session, screen = play("c123c", "too long", "")
    (ranking,) = rankings_of(session)
    first = ranking.ranking[0][0]
    assert number_of(KNOWN, "ana", "p1", first) == "1"
    assert ranking.note == "too long"
    assert "prompt 1 of 3  ·  id p1  ·  0 of 3 ranked" in screen
    assert "order 1" in screen
    assert "not ranked: too long" in screen


def test_screen_shows_places_and_replaces_control_characters():
    known = make_known()
    hostile = known["p1"].completions[0].model_copy(update={"text": "a\x1b[2Jb"})
    known["p1"] = known["p1"].model_copy(update={"completions": [hostile, *known["p1"].completions[1:]]})
    _, screen = play("1x3", session=start_ranking(known, "ana", []))
    assert "1 · place 1" in screen
    assert "3 · unusable" in screen
    assert "\x1b" not in screen


def test_completion_order_varies_by_rater_but_stays_the_same():
    known = make_known(prompts=1, completions=4)
    first = Counter(shown(known["p1"], f"rater {n}")[0].id for n in range(400))
    assert all(60 < first[id] < 140 for id in ("c1", "c2", "c3", "c4"))
    assert shown(known["p1"], "ana") == shown(known["p1"], "ana")


def test_more_completions_than_keys_are_refused():
    with pytest.raises(ClientError, match="prompt p1 has 10 completions, but at most 9 can be"):
        start_ranking(make_known(completions=10), "ana", [])


def test_partial_ranking_from_a_file_is_kept():
    partial = Ranking(id="p1", rater="ana", ranking=[["c2"]], bad=["c1"])
    assert rankings_of(start_ranking(KNOWN, "ana", [partial])) == [partial]
