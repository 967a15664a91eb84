"""The page on which a person ranks completions: keys in a browser, and what is saved."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import pytest

from support.browser import DESK, PHONE, open_browser, page_width, show
from support.candidates import make_known
from support.report_page import text_of
from support.site import Site, serve_app
from support.waiting import eventually
from tunegate_api.preference import Completion
from tunegate_client.pairs.session import RankingSession, start_ranking
from tunegate_client.ui.ranking_page import ranking_questionnaire
from tunegate_client.ui.scoring_server import make_scoring_app

SCRIPT = "<script>document.title = 'ran'</script>"


@contextmanager
def serve_ranking(session: RankingSession, saved: list[dict[str, str]]) -> Iterator[Site]:
    app = make_scoring_app(
        session,
        ranking_questionnaire(session, "tunegate pairs rank candidates.jsonl --web"),
        lambda: saved.append(session.kept_answers),
        "secret",
        lambda: None,
    )
    with serve_app(app) as site:
        yield site


@pytest.fixture
def session() -> RankingSession:
    return start_ranking(make_known(prompts=2), "ana", [])


def test_every_complete_ranking_is_saved_and_last_kept(session: RankingSession) -> None:
    saved: list[dict[str, str]] = []
    with serve_ranking(session, saved) as site:
        for prompt, keys in (("p1", "2=13"), ("p2", "3x12")):
            for key in keys:
                assert site.post("/secret/", item=prompt, do=key).status == 303
        page = text_of(site.get("/secret/").text)
        end = text_of(site.post("/secret/", do="submit").text)
    assert saved == [{"p1": "2=13"}, {"p1": "2=13", "p2": "3x12"}]
    assert "All 2 prompts are ranked You can go back to every prompt." in page
    assert "2 = 1 > 3" in page, "the list has the rankings"
    assert "scor" not in page + end
    assert "They are saved." in end


def test_page_shows_places_and_escapes_texts(session: RankingSession) -> None:
    completions = [Completion(id=f"c{n}", text=SCRIPT) for n in (1, 2)]
    session.known["p1"] = session.known["p1"].model_copy(update={"completions": completions})
    with serve_ranking(session, []) as site:
        site.post("/secret/", item="p1", do="2")
        site.post("/secret/", item="p1", do="x")
        html = site.get("/secret/").text
    assert SCRIPT not in html
    page = text_of(html)
    assert "Answer 2 place 1" in page
    assert "Ranking: 2" in page
    assert 'value="2"' not in html, "a ranked answer has no button"


@pytest.fixture(scope="module")
def browser(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Any]:
    with open_browser(tmp_path_factory.mktemp("profile")) as driver:
        yield driver


def test_keys_rank_completions_in_a_browser(browser: Any, session: RankingSession) -> None:
    saved: list[dict[str, str]] = []
    with serve_ranking(session, saved) as site:
        show(browser, f"{site.address}/secret/", DESK)
        browser.switch_to.active_element.send_keys("1", "=", "2", "b", "b", "2", "x", "1", "3")
        eventually(lambda: saved == [{"p1": "2x13"}], what="the ranking is saved")


def test_page_fits_on_a_phone(browser: Any, session: RankingSession) -> None:
    with serve_ranking(session, []) as site:
        show(browser, f"{site.address}/secret/", PHONE)
        assert page_width(browser) <= PHONE
        assert "Answer 1" in browser.find_element("css selector", ".actions").text
