"""The HTML report in a real browser: on phone and desktop widths, in light and dark schemes."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from support.browser import AA_CONTRAST, CONTRAST, DESK, PHONE, open_browser, page_width, show
from support.distribution import distribution
from support.job_folder import GATE, NOW
from support.reviewed import JUDGE, by_people, judged, reviewed_job
from tunegate_api.contract.process import Outcome
from tunegate_api.v1alpha2.finetunejob_status import Progress
from tunegate_trainer.report import render


@pytest.fixture(scope="module")
def report(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The report of a stopped run, with everything that could be too wide for a phone."""
    metrics = [
        {"name": "exact_match", "type": "ExactMatch", "min": "80%"},
        {"name": "json_schema", "type": "JSONSchema", "min": "80%", "schema": {"inline": {"type": "object"}}},
        {"name": "preference_accuracy", "type": "PreferenceAccuracy", "min": "80%"},
    ]
    quality, sample = JUDGE | {"minScore": "10%"}, judged(TimedOut=3, **{"F" * 60: 2})
    job = reviewed_job(tmp_path_factory.mktemp("browser"), quality, sample, taskMetrics=metrics)
    people = by_people(bad=15, reviewer="r" * 64)
    job.write_review(people.model_copy(update={"notes": dict.fromkeys(people.notes, "n" * 100)}))
    compared = distribution(wide=True)
    job.write_data(
        {
            "rows": 1852,
            "dropped": [{"line": 5, "reason": "x" * 300}],
            "lengths": {"mean": 100, "max": 4000, "width": 400, "counts": [1, 5, 30, 900]},
            **compared,
            "checks": [
                *compared["checks"],
                {"check": "secrets", "result": "Warned", "message": "m" * 300, "count": 3, "share": "0.02"}
                | {"examples": [f"line {i}: {'e' * 200}" for i in range(10)], "remedy": "r" * 200},
            ],
        }
    )
    job.write_losses("sft", [2.0 - i / 60 for i in range(70)], seconds=3.0)
    texts = {
        f"case-{i}": ("prompt " * 40 + "p" * 500, "o" * 900 + " <script>document.title = 'ran'</script>")
        for i in range(20)
    }
    good = "p" * 19 + "f"
    outcomes = {0: "p" * 10 + "f" * 10, 40: good, 60: "ff" + good[2:], 70: "fff" + good[3:]}
    evaluations = [
        job.write_checkpoint("sft", step, golden, "p" * 8 + "ff", texts) for step, golden in outcomes.items()
    ]
    progress = Progress(stage="sft", step=70, total_steps=100, percent=70, updated=NOW)
    job.write_training("sft", evaluations, outcome=Outcome.STOPPED, progress=progress)
    return render(job.workspace, job.request, job.context().review)


@pytest.fixture(scope="module")
def waiting(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The report of a job whose judge is not calibrated."""
    sample = judged(bad_found=14, RateLimited=3)
    job = reviewed_job(tmp_path_factory.mktemp("waiting"), JUDGE, sample)
    return render(job.workspace, job.request)


@pytest.fixture(scope="module")
def browser(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Any]:
    with open_browser(tmp_path_factory.mktemp("profile")) as driver:
        yield driver


@pytest.mark.parametrize("width", [PHONE, DESK])
def test_page_has_no_horizontal_scroll(browser: Any, report: Path, width: int) -> None:
    show(browser, report.as_uri(), width)
    assert page_width(browser) <= width


@pytest.mark.parametrize("width", [PHONE, DESK])
def test_no_table_is_cut_off(browser: Any, report: Path, width: int) -> None:
    show(browser, report.as_uri(), width)
    page_width(browser)  # opens all details
    cut_off = browser.execute_script(
        "return [...document.querySelectorAll('.scroll')].filter(e => e.scrollWidth > e.clientWidth)"
        ".map(e => e.getAttribute('aria-label'))"
    )
    assert cut_off == []


@pytest.mark.parametrize("width", [PHONE, DESK])
def test_verdict_numbers_and_regressed_cases_are_visible(browser: Any, report: Path, width: int) -> None:
    show(browser, report.as_uri(), width)
    visible = " ".join(browser.find_element("tag name", "body").text.split())
    for text in (
        "Stopped at step 70 of 100",
        f"{GATE}: golden 16/20 at step 70, best 19/20 at step 40: -15.0 points, limit -5.0",
        "Steps saved",
        "Base against tuned",
        "Training loss",
        "case-2",
        "learning_rate",
    ):
        assert text in visible


def test_verdict_is_on_the_first_screen_of_a_phone(browser: Any, report: Path) -> None:
    show(browser, report.as_uri(), PHONE)
    box = browser.find_element("css selector", ".verdict").rect
    assert box["y"] + box["height"] < 844


@pytest.mark.parametrize("width", [PHONE, DESK])
def test_inconclusive_judge_is_on_the_first_screen(browser: Any, waiting: Path, width: int) -> None:
    show(browser, waiting.as_uri(), width)
    box = browser.find_element("css selector", ".verdict").rect
    assert box["y"] + box["height"] < 844
    text = " ".join(browser.find_element("css selector", ".verdict").text.split())
    assert "The judge model is Inconclusive" in text
    assert "recall 14/20 = 0.70, lower bound 0.48, minimum 0.70" in text
    assert page_width(browser) <= width


@pytest.mark.parametrize("width", [PHONE, DESK])
def test_lengths_of_both_sides_are_drawn_with_a_legend(browser: Any, report: Path, width: int) -> None:
    show(browser, report.as_uri(), width)
    outside = browser.execute_script(
        "const chart = document.querySelector('svg[aria-labelledby^=lengths]');"
        "const whole = chart.getBoundingClientRect();"
        "const texts = [...chart.querySelectorAll('text')]"
        ".map(text => [text.textContent, text.getBoundingClientRect()]);"
        "return {names: texts.map(t => t[0]), outside: texts.filter(([_, b]) => b.left < 0 || "
        "b.right > window.innerWidth || b.top < whole.top - 1).map(t => t[0])}"
    )
    legend = {"training inputs, median 31.5", "production inputs, median 64"}
    assert legend <= set(outside["names"])
    assert outside["outside"] == []


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_colours_of_the_words_are_those_of_the_chart(browser: Any, report: Path, scheme: str) -> None:
    show(browser, report.as_uri(), DESK, scheme)
    of_words, of_chart = browser.execute_script(
        "const colours = (selector, name) => [...new Set([...document.querySelectorAll(selector)]"
        ".map(e => getComputedStyle(e)[name]))];"
        "return [colours('.swatch', 'backgroundColor'),"
        " colours('svg[aria-labelledby^=lengths] path[style*=series]', 'stroke')]"
    )
    assert len(of_words) == 2
    assert set(of_words) <= set(of_chart)


def test_page_loads_nothing_and_runs_no_script(browser: Any, report: Path) -> None:
    show(browser, report.as_uri(), DESK)
    assert browser.execute_script("return performance.getEntriesByType('resource').length") == 0
    assert browser.execute_script("return document.scripts.length") == 0
    assert browser.title != "ran"
    assert browser.get_log("browser") == []


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_text_has_enough_contrast_in_light_and_dark_schemes(browser: Any, report: Path, scheme: str) -> None:
    show(browser, report.as_uri(), DESK, scheme)
    measured = browser.execute_script(CONTRAST)
    assert len(measured) > 100
    assert [m for m in measured if m["contrast"] < AA_CONTRAST] == []


def test_chart_text_is_large_enough_on_a_phone(browser: Any, report: Path) -> None:
    show(browser, report.as_uri(), PHONE)
    sizes = browser.execute_script(
        "return [...document.querySelectorAll('figure svg text')].map(t => { const m = t.getScreenCTM();"
        " return parseFloat(getComputedStyle(t).fontSize) * Math.hypot(m.c, m.d); })"
    )
    assert len(sizes) > 20
    assert min(sizes) >= 11


def test_link_to_regressed_case_opens_its_outputs(browser: Any, report: Path) -> None:
    show(browser, report.as_uri(), PHONE)
    browser.find_element("css selector", f"a[href='#golden-{GATE}.case-2']").click()
    top = browser.execute_script(
        f"return document.getElementById('golden-{GATE}.case-2').getBoundingClientRect().top"
    )
    assert 0 <= top < 844
