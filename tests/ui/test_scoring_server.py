"""The server of the page on which a person scores rows: whom it answers, and what it saves."""

import os
import signal
from collections.abc import Iterator

import pytest

from support.report_page import text_of
from support.scoring_page import ScoringPage, plain_rows, review_of, serve_review
from tunegate_api.judging.review_sample import ReviewRow, with_id
from tunegate_api.messages import Message
from tunegate_client.places.review_session import start_session
from tunegate_client.ui.review_page import review_questionnaire
from tunegate_client.ui.scoring_server import serve_scoring

ROWS = plain_rows(3)
IDS = [row.id for row in ROWS]


@pytest.fixture
def page() -> Iterator[ScoringPage]:
    with serve_review(ROWS) as page:
        yield page


def act(page: ScoringPage, row: int, action: str, note: str = "") -> str:
    """Carry out an action on the page of a row, and return the text of the page that follows."""
    answer = page.site.post(page.path, item=IDS[row], do=action, note=note)
    if answer.status == 303:
        answer = page.site.get(answer.headers["Location"])
    assert answer.status == 200
    return text_of(answer.text)


@pytest.mark.parametrize("path", ["/wrong/", "/secret-and-more/", "/%F0%9F%94%91/"])
def test_wrong_token_is_refused(page: ScoringPage, path: str) -> None:
    assert page.site.get(path).status == 403
    assert page.site.post(path, item=IDS[0], do="y").status == 403
    assert page.session.answers == {}
    assert "order" not in page.site.get(path).text


@pytest.mark.parametrize("path", ["/", "/secret", "/static/none.js", "/secret/more"])
def test_unknown_path_shows_no_row(page: ScoringPage, path: str) -> None:
    answer = page.site.get(path)
    assert answer.status == 404
    assert "order" not in answer.text


def test_control_characters_of_a_row_are_shown_as_escapes() -> None:
    prompt = [Message(role="user", content="a\x1bb \u202ec")]
    row = with_id(ReviewRow(row="1\x07", prompt=prompt, completion="d\u2066e", reasoning="f\x00g"))
    with serve_review([row]) as page:
        text = page.site.get(page.path).text
    assert not {"\x1b", "\u202e", "\x07", "\u2066", "\x00"} & set(text)
    assert text.count(r"a\x1bb \u202ec") == 2, "in the row and in the list"
    assert r"d\u2066e" in text
    assert r"f\x00g" in text


@pytest.mark.parametrize("host", ["evil.example", "127.0.0.1.evil.example", ""])
def test_foreign_host_name_is_refused(page: ScoringPage, host: str) -> None:
    assert page.site.get(page.path, Host=host).status == 403
    assert page.site.get(page.path, "POST", "do=submit", Host=host).status == 403


@pytest.mark.parametrize("method", ["PUT", "DELETE", "PATCH"])
def test_other_methods_are_refused(page: ScoringPage, method: str) -> None:
    assert page.site.get(page.path, method).status == 405


def test_answers_forbid_foreign_content_and_are_not_referred(page: ScoringPage) -> None:
    headers = page.site.get(page.path).headers
    assert "default-src 'none'" in headers["Content-Security-Policy"]
    assert "unsafe" not in headers["Content-Security-Policy"]
    assert headers["Referrer-Policy"] == "no-referrer", "the address has the token"


def test_every_score_is_saved_at_once(page: ScoringPage) -> None:
    assert "Row 2 of 3" in act(page, 0, "y")
    assert page.letters == "y--"
    act(page, 1, "n", "the total is wrong")
    assert page.letters == "yn-"
    assert page.saved[-1][IDS[1]].note == "the total is wrong"
    assert "Row 3 of 3" in text_of(page.site.get(page.path).text), "a reload shows the same row"


def test_score_of_the_last_row_is_saved_on_submit(page: ScoringPage) -> None:
    for row in range(3):
        text = act(page, row, "y")
    assert "All 3 rows are scored" in text
    assert page.letters == "yy-", "complete scores would decide the review"
    end = page.site.post(page.path, do="submit")
    assert "The command in the terminal submits the scores now" in text_of(end.text)
    assert page.session.is_submitted
    assert page.has_stopped


def test_last_needed_score_beside_judge_is_saved_on_submit() -> None:
    with serve_review(ROWS, judged=[IDS[2]]) as page:
        act(page, 0, "y")
        text = act(page, 1, "y")
        assert "All 2 rows that need your score are scored" in text
        assert "2 of 2 scored: 2 good, 0 bad; the judge scored 1" in text
        assert page.letters == "y--", "complete scores would decide the review"
        text = text_of(page.site.get(page.site.post(page.path, do="skip").headers["Location"]).text)
        assert "Row 3 of 3 scored by the judge The judge scored this row. Your score overrules it." in text
        act(page, 2, "n")
        assert page.letters == "y-n"
        end = text_of(page.site.post(page.path, do="quit").text)
    assert "1 of 2 rows are scored; the judge scored 1" in end


def test_list_shows_which_rows_others_scored() -> None:
    with serve_review(ROWS, by_others=IDS[1:]) as page:
        text = text_of(page.site.get(page.path).text)
        assert text.count("scored by others") == 2
        assert "Other people scored this row. Your score counts beside theirs." in act(page, 1, "comment")
        act(page, 0, "y")
        assert page.letters == "---"
        page.site.post(page.path, do="submit")
    assert page.session.is_submitted


def test_quitting_shows_how_to_continue(page: ScoringPage) -> None:
    act(page, 0, "y")
    end = text_of(page.site.post(page.path, item=IDS[1], do="quit").text)
    assert "1 of 3 rows are scored" in end
    assert "tunegate review orders --web" in end
    assert page.has_stopped
    assert not page.session.is_submitted


def test_second_tab_scores_the_row_that_it_shows(page: ScoringPage) -> None:
    act(page, 0, "y")
    act(page, 1, "y")
    act(page, 0, "n")  # from a tab that still shows the first row
    assert page.letters == "ny-"


def test_failed_write_is_shown_until_a_later_one_succeeds(page: ScoringPage) -> None:
    page.problem = "the cluster does not answer"
    text = act(page, 0, "y")
    assert "Not saved the cluster does not answer" in text
    page.problem = ""
    assert "Not saved" not in act(page, 1, "skip")
    assert page.letters == "y--"


@pytest.mark.parametrize(
    "form",
    [
        {},
        {"do": "y"},
        {"item": IDS[0], "do": "x"},
        {"item": "nobody", "do": "y"},
        {"item": IDS[0], "go": "nobody"},
    ],
)
def test_form_that_the_page_does_not_have_is_refused(page: ScoringPage, form: dict[str, str]) -> None:
    answer = page.site.post(page.path, **form)
    assert (answer.status, answer.text) == (400, "this page is out of date: reload it")
    assert page.session.answers == {}


def test_incomplete_scores_cannot_be_submitted(page: ScoringPage) -> None:
    act(page, 0, "y")
    page.site.post(page.path, do="submit")
    assert not page.session.is_submitted
    assert not page.has_stopped


def test_sigterm_ends_the_server_and_later_works_as_before() -> None:
    def handler(*_: object) -> None:
        raise AssertionError("the server did not catch the signal")

    before = signal.signal(signal.SIGTERM, handler)
    try:
        serve_scoring(
            start_session(review_of(ROWS)),
            review_questionnaire(review_of(ROWS), ""),
            lambda: None,
            lambda _: os.kill(os.getpid(), signal.SIGTERM),
        )
        assert signal.getsignal(signal.SIGTERM) is handler, "asyncio resets handlers to their defaults"
    finally:
        signal.signal(signal.SIGTERM, before)
