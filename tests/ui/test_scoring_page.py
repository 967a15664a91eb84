"""The page on which a person scores rows, in a real browser: keys, buttons, text of rows, and widths."""

from collections.abc import Iterator
from typing import Any

import pytest
from selenium.webdriver.common.keys import Keys

from support.browser import AA_CONTRAST, CONTRAST, DESK, PHONE, open_browser, page_width, show
from support.scoring_page import LONG, SCRIPT, ScoringPage, hostile_row, plain_rows, serve_review
from support.waiting import eventually


@pytest.fixture(scope="module")
def browser(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Any]:
    with open_browser(tmp_path_factory.mktemp("profile")) as driver:
        yield driver


@pytest.fixture
def page(browser: Any) -> Iterator[ScoringPage]:
    """The page with four short rows, opened in the browser."""
    with serve_review(plain_rows(4)) as page:
        show(browser, page.address, DESK)
        yield page


@pytest.fixture
def hostile() -> Iterator[ScoringPage]:
    """The page with a row whose text could break it, not opened yet."""
    with serve_review([hostile_row(), *plain_rows(1)]) as page:
        page.session.comment(LONG)
        yield page


def press(browser: Any, *keys: str) -> None:
    """Press keys, as a person does who looks at the page."""
    browser.switch_to.active_element.send_keys(*keys)


def title(browser: Any) -> str:
    found = browser.execute_script("return document.getElementById('item-title')?.innerText")
    return " ".join(str(found or "").split())


def shows(browser: Any, expected: str) -> None:
    eventually(lambda: title(browser) == expected, what=f"the page shows {expected!r}")


def test_keys_score_all_rows_and_submit_them(browser: Any, page: ScoringPage) -> None:
    press(browser, "y", " ", "n", "Y", "b")
    shows(browser, "Row 4 of 4 ✓ Good")
    press(browser, "n")
    shows(browser, "Row 2 of 4 not scored")
    assert page.letters == "y-nn"
    press(browser, "y")
    shows(browser, "All 4 rows are scored")
    press(browser, Keys.ENTER)
    shows(browser, "All rows are scored")
    assert page.session.is_submitted
    assert page.session.answers == dict(zip(page.session.ids, [True, True, False, False], strict=True))


def test_buttons_score_without_a_keyboard(browser: Any, page: ScoringPage) -> None:
    for word, expected in (("Good", "Row 2 of 4"), ("Bad", "Row 3 of 4"), ("Skip", "Row 4 of 4")):
        browser.find_element("xpath", f"//button[starts-with(normalize-space(), '{word}')]").click()
        shows(browser, f"{expected} not scored")
    assert page.letters == "yn--"


def test_comment_is_kept_with_its_row(browser: Any, page: ScoringPage) -> None:
    press(browser, "c")
    eventually(lambda: browser.switch_to.active_element.get_attribute("id") == "note")
    press(browser, "no", Keys.ESCAPE, "n")  # keys in the comment do not score
    shows(browser, "Row 2 of 4 not scored")
    assert page.saved[-1][page.session.ids[0]].note == "no"
    press(browser, "c")
    press(browser, "later", Keys.ENTER)
    eventually(lambda: page.session.notes.get(page.session.ids[1]) == "later")
    shows(browser, "Row 2 of 4 not scored")


def test_list_shows_all_scores_and_goes_to_a_row(browser: Any, page: ScoringPage) -> None:
    press(browser, "y", "n")
    shows(browser, "Row 3 of 4 not scored")
    listed = browser.find_element("id", "list")
    assert [" ".join(line.text.split()) for line in listed.find_elements("css selector", "li")] == [
        "1 order 0 ✓ Good",
        "2 order 1 ✗ Bad",
        "3 order 2 \N{EN DASH}",
        "4 order 3 \N{EN DASH}",
    ]
    listed.find_elements("css selector", "button")[1].click()
    shows(browser, "Row 2 of 4 ✗ Bad")
    press(browser, "y")
    shows(browser, "Row 3 of 4 not scored")
    assert page.letters == "yy--"


def test_reload_keeps_scores_and_the_row(browser: Any, page: ScoringPage) -> None:
    press(browser, "y", "n")
    shows(browser, "Row 3 of 4 not scored")
    browser.refresh()
    shows(browser, "Row 3 of 4 not scored")
    assert "2 of 4 scored: 1 good, 1 bad" in browser.find_element("id", "counts").text
    press(browser, "y", "y")
    shows(browser, "All 4 rows are scored")
    assert page.session.is_complete


def test_key_that_is_held_down_scores_only_one_row(browser: Any, page: ScoringPage) -> None:
    key = {"type": "keyDown", "key": "y", "text": "y"}
    browser.execute_cdp_cmd("Input.dispatchKeyEvent", key)
    for _ in range(5):
        browser.execute_cdp_cmd("Input.dispatchKeyEvent", key | {"autoRepeat": True})
    press(browser, "n")
    shows(browser, "Row 3 of 4 not scored")
    assert page.letters == "yn--"


def test_shortcuts_can_be_switched_off(browser: Any, page: ScoringPage) -> None:
    browser.find_element("css selector", "#shortcuts input").click()
    browser.find_element("id", "item-title").send_keys("y")
    browser.find_element("xpath", "//button[starts-with(normalize-space(), 'Bad')]").click()
    shows(browser, "Row 2 of 4 not scored")
    assert page.letters == "n---"


def test_keyboard_reaches_the_buttons_and_focus_is_visible(browser: Any, page: ScoringPage) -> None:
    shows(browser, "Row 1 of 4 not scored")
    browser.execute_script("document.getElementById('item-title').focus()")
    reached = []
    for _ in range(5):
        press(browser, Keys.TAB)
        element = browser.switch_to.active_element
        reached.append(" ".join((element.text or element.get_attribute("id")).split()))
        assert element.value_of_css_property("outline-style") == "solid"
    assert reached == ["note", "Save", "Good y", "Bad n", "Skip space"]
    label = browser.find_element("css selector", "label[for=note]").text
    assert label.startswith("Comment")
    press(browser, Keys.SHIFT + Keys.TAB)
    press(browser, Keys.SPACE)  # on the button, not the shortcut
    shows(browser, "Row 2 of 4 not scored")
    assert page.letters == "n---"


def test_row_text_is_shown_and_its_scripts_do_not_run(browser: Any, hostile: ScoringPage) -> None:
    browser.get_log("browser")  # drops what earlier pages logged
    show(browser, hostile.address, DESK)
    assert browser.title.startswith("Row 1 of 2")
    shown = browser.execute_script("return document.getElementById('item').textContent")
    assert shown.count(SCRIPT) == 7
    assert browser.execute_script("return document.querySelectorAll('main script, main img').length") == 0
    assert "\n\n    indented" in shown
    names = browser.execute_script("return performance.getEntriesByType('resource').map(e => e.name)")
    assert {name.removeprefix(f"{hostile.site.address}/static/") for name in names} <= {
        "ui.css",
        "scoring.css",
        "scoring.js",
        "icon.svg",
    }
    assert browser.get_log("browser") == []


@pytest.mark.parametrize("width", [320, PHONE, DESK])
def test_page_fits_its_window_and_actions_stay_visible(
    browser: Any, hostile: ScoringPage, width: int
) -> None:
    show(browser, hostile.address, width)
    assert page_width(browser) <= width
    cut = browser.execute_script(
        "return [...document.querySelectorAll('#item pre, #item h3, .actions button')]"
        ".filter(e => e.scrollWidth > e.clientWidth + 1).map(e => e.textContent.slice(0, 40))"
    )
    assert cut == []
    box = browser.execute_script(
        "const box = document.querySelector('.actions').getBoundingClientRect();"
        "return [box.top, box.bottom, innerHeight]"
    )
    assert 0 < box[0] < box[1] <= box[2] + 1


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_text_has_enough_contrast_in_light_and_dark_schemes(
    browser: Any, hostile: ScoringPage, scheme: str
) -> None:
    hostile.session.answer(False)
    hostile.problem = "the cluster does not answer"
    hostile.site.post(hostile.path, go=hostile.session.ids[0], item=hostile.session.ids[0])
    show(browser, hostile.address, DESK, scheme)
    measured = browser.execute_script(CONTRAST)
    assert len(measured) > 30
    assert [m for m in measured if m["contrast"] < AA_CONTRAST] == []


def test_page_shows_that_the_command_has_ended(browser: Any) -> None:
    with serve_review(plain_rows(2)) as page:
        show(browser, page.address, DESK)
        press(browser, "y")
        shows(browser, "Row 2 of 2 not scored")
    press(browser, "y")
    eventually(lambda: "has ended" in browser.find_element("id", "connection").text)
    shows(browser, "Row 2 of 2 not scored")


def test_buttons_work_without_scripts(browser: Any, page: ScoringPage) -> None:
    browser.execute_cdp_cmd("Emulation.setScriptExecutionDisabled", {"value": True})
    try:
        show(browser, page.address, DESK)
        browser.find_element("id", "note").send_keys("wrong", Keys.ENTER)
        eventually(lambda: page.session.notes)
        show(browser, page.address, DESK)
        browser.find_element("xpath", "//button[starts-with(normalize-space(), 'Bad')]").click()
        eventually(lambda: page.letters == "n---")
    finally:
        browser.execute_cdp_cmd("Emulation.setScriptExecutionDisabled", {"value": False})
    assert page.saved[-1][page.session.ids[0]].note == "wrong"
