"""The HTML report in a real browser: on phone and desktop widths, in light and dark schemes."""

import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from support.job_folder import GATE, NOW, JobFolder
from tunegate_api.contract import Outcome
from tunegate_api.v1alpha1.finetunejob_status import Progress
from tunegate_trainer.report import render

CHROMIUM, CHROMEDRIVER = shutil.which("chromium"), shutil.which("chromedriver")
MISSING = "Debian's chromium and chromium-driver are not installed: the report was not looked at in a browser"
PHONE, DESK = 390, 1280
AA_CONTRAST = 4.5
"""The minimum contrast of text in WCAG 2, level AA."""


@pytest.fixture(scope="module")
def report(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The report of a stopped run, with everything that could be too wide for a phone."""
    job = JobFolder(tmp_path_factory.mktemp("browser"), stages=("sft",))
    job.write_data(
        {
            "rows": 1852,
            "dropped": [{"line": 5, "reason": "x" * 300}],
            "lengths": {"mean": 100, "max": 4000, "width": 400, "counts": [1, 5, 30, 900]},
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
    return render(job.workspace, job.request)


@pytest.fixture(scope="module")
def browser(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Any]:
    if CHROMIUM is None or CHROMEDRIVER is None:
        pytest.skip(MISSING)
    from selenium import webdriver

    options = webdriver.ChromeOptions()
    options.binary_location = CHROMIUM
    for argument in (
        "--headless",
        "--no-sandbox",
        "--disable-gpu",
        "--disable-dev-shm-usage",
        "--no-first-run",
        "--disable-background-networking",
        "--disable-component-update",
        "--disable-sync",
        f"--user-data-dir={tmp_path_factory.mktemp('profile')}",
    ):
        options.add_argument(argument)
    driver = webdriver.Chrome(options=options, service=webdriver.ChromeService(executable_path=CHROMEDRIVER))
    yield driver
    driver.quit()


def show(browser: Any, report: Path, width: int, scheme: str = "light") -> None:
    size = {"width": width, "height": 844, "deviceScaleFactor": 1, "mobile": width == PHONE}
    browser.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", size)
    feature = {"name": "prefers-color-scheme", "value": scheme}
    browser.execute_cdp_cmd("Emulation.setEmulatedMedia", {"features": [feature]})
    browser.get(report.as_uri())


@pytest.mark.parametrize("width", [PHONE, DESK])
def test_page_has_no_horizontal_scroll(browser: Any, report: Path, width: int) -> None:
    show(browser, report, width)
    browser.execute_script("document.querySelectorAll('details').forEach(d => d.open = true)")
    assert browser.execute_script("return document.documentElement.scrollWidth") <= width


@pytest.mark.parametrize("width", [PHONE, DESK])
def test_verdict_numbers_and_regressed_cases_are_visible(browser: Any, report: Path, width: int) -> None:
    show(browser, report, width)
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
    show(browser, report, PHONE)
    box = browser.find_element("css selector", ".verdict").rect
    assert box["y"] + box["height"] < 844


def test_page_loads_nothing_and_runs_no_script(browser: Any, report: Path) -> None:
    show(browser, report, DESK)
    assert browser.execute_script("return performance.getEntriesByType('resource').length") == 0
    assert browser.execute_script("return document.scripts.length") == 0
    assert browser.title != "ran"
    assert browser.get_log("browser") == []


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_text_has_enough_contrast_in_light_and_dark_schemes(browser: Any, report: Path, scheme: str) -> None:
    show(browser, report, DESK, scheme)
    measured = browser.execute_script(CONTRAST)
    assert len(measured) > 100
    assert [m for m in measured if m["contrast"] < AA_CONTRAST] == []


def test_chart_text_is_large_enough_on_a_phone(browser: Any, report: Path) -> None:
    show(browser, report, PHONE)
    sizes = browser.execute_script(
        "return [...document.querySelectorAll('figure svg text')].map(t => { const m = t.getScreenCTM();"
        " return parseFloat(getComputedStyle(t).fontSize) * Math.hypot(m.c, m.d); })"
    )
    assert len(sizes) > 20
    assert min(sizes) >= 11


def test_link_to_regressed_case_opens_its_outputs(browser: Any, report: Path) -> None:
    show(browser, report, PHONE)
    browser.find_element("css selector", f"a[href='#golden-{GATE}.case-2']").click()
    top = browser.execute_script(
        f"return document.getElementById('golden-{GATE}.case-2').getBoundingClientRect().top"
    )
    assert 0 <= top < 844


# Contrast of every visible text against the nearest opaque background, by the formula of WCAG 2.
CONTRAST = """
const rgb = c => (c.match(/[\\d.]+/g) || []).map(Number);
const linear = v => v <= 0.04045 ? v / 12.92 : ((v + 0.055) / 1.055) ** 2.4;
const light = c => { const [r, g, b] = rgb(c).map(v => linear(v / 255));
  return 0.2126 * r + 0.7152 * g + 0.0722 * b; };
const paper = e => { for (; e; e = e.parentElement) { const c = getComputedStyle(e).backgroundColor;
  if (rgb(c).length === 3 || rgb(c)[3] === 1) return c; } return 'rgb(255, 255, 255)'; };
const found = [];
const walker = document.createTreeWalker(document.body, NodeFilter.SHOW_TEXT);
while (walker.nextNode()) {
  const text = walker.currentNode.textContent.trim(), element = walker.currentNode.parentElement;
  if (!text || !element.checkVisibility() || ['title', 'desc', 'STYLE'].includes(element.tagName)) continue;
  const style = getComputedStyle(element), svg = element.closest('svg');
  const [a, b] = [light(svg ? style.fill : style.color), light(paper(element))];
  found.push({text: text.slice(0, 40), contrast: (Math.max(a, b) + 0.05) / (Math.min(a, b) + 0.05)});
}
return found;
"""
