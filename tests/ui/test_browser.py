"""The pages in a real browser: they update themselves, and fit a phone."""

from collections.abc import Iterator
from typing import Any

import pytest

from support.browser import AA_CONTRAST, CONTRAST, DESK, PHONE, open_browser, page_width, show
from support.builders import make_gate, make_job
from support.job_statuses import (
    checkpoint,
    failed,
    gate_result,
    judging,
    record,
    stopped,
    succeeded,
    training,
)
from support.places import Place, runs_place
from support.site import Site, serve_site
from support.waiting import eventually
from tunegate_client.laptop.cluster import LocalCluster
from tunegate_client.laptop.status import cluster_folder, record_running_jobs, report_file
from tunegate_client.places.runs import RunsClient

LONG = "x" * 300
REPORT = """<!doctype html>
<title>The report</title>
<p id="case">the output of a model</p>
<script>parent.document.title = "ran"</script>
"""


@pytest.fixture(scope="module")
def browser(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Any]:
    with open_browser(tmp_path_factory.mktemp("profile")) as driver:
        yield driver


@pytest.fixture(scope="module")
def shared(tmp_path_factory: pytest.TempPathFactory) -> Place:
    """A runs folder with jobs in many states, and with everything that could be too wide for a phone."""
    folder = tmp_path_factory.mktemp("ui")
    place = runs_place(folder / "runs")
    statuses = {
        "training": training(20),
        "stopped": stopped(),
        "failed": failed(message=LONG, failure={"reason": "BadData", "message": LONG, "hint": LONG}),
        "suspended": training(40, phase="Suspended"),
        "a-job-with-a-name-that-is-as-long-as-names-of-objects-may-be-here": succeeded(),
    }
    for name, status in statuses.items():
        place.set_status(place.create(make_job(name).obj()), **status)
    gate = place.create(make_gate("golden").obj())
    place.set_status(gate, **judging(record(2, 19, publishedUris=[f"pvc://models/{LONG}"]), record(1, 12)))
    job = place.create(make_job("finished").obj())
    status = succeeded()
    status["final"]["gates"] = [gate_result(19, failedCases=["case-0"], message=LONG)]
    place.set_status(job, **status)
    place.set_status(place.create(make_job("reported").obj()), **status)
    assert isinstance(place.client, RunsClient)
    report_file(place.client.runs, "reported").write_text(REPORT)
    return place


@pytest.fixture(scope="module")
def pages(shared: Place) -> Iterator[Site]:
    with serve_site(shared.client) as site:
        yield site


PATHS = [
    "/",
    "/jobs/finished",
    "/jobs/stopped",
    "/jobs/training",
    "/jobs/failed",
    "/jobs/reported",
    "/gates/golden",
    "/none",
]


@pytest.mark.parametrize("path", PATHS)
@pytest.mark.parametrize("width", [320, PHONE, DESK])
def test_page_has_no_horizontal_scroll(browser: Any, pages: Site, path: str, width: int) -> None:
    show(browser, pages.address + path, width)
    assert page_width(browser) <= width


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("path", ["/", "/jobs/finished", "/jobs/stopped", "/gates/golden"])
def test_text_has_enough_contrast_in_light_and_dark_schemes(
    browser: Any, pages: Site, path: str, scheme: str
) -> None:
    show(browser, pages.address + path, DESK, scheme)
    measured = browser.execute_script(CONTRAST)
    assert len(measured) > 30
    assert [m for m in measured if m["contrast"] < AA_CONTRAST] == []


def test_page_loads_only_its_files_without_model_scripts(browser: Any, pages: Site) -> None:
    browser.get_log("browser")  # drops what earlier pages logged
    show(browser, f"{pages.address}/jobs/finished", DESK)
    names = browser.execute_script("return performance.getEntriesByType('resource').map(e => e.name)")
    own = {f"{pages.address}/static/ui.css", f"{pages.address}/static/ui.js"}
    assert own <= set(names) <= own | {f"{pages.address}/static/icon.svg", f"{pages.address}/jobs/finished"}
    assert browser.title == "finished: Succeeded \N{EN DASH} Tunegate"
    assert browser.get_log("browser") == []


def test_report_is_shown_in_the_page_without_its_rights(browser: Any, pages: Site) -> None:
    show(browser, f"{pages.address}/jobs/reported", DESK)
    browser.switch_to.frame(browser.find_element("tag name", "iframe"))
    try:
        assert browser.find_element("id", "case").text == "the output of a model"
    finally:
        browser.switch_to.default_content()
    assert browser.title == "reported: Succeeded \N{EN DASH} Tunegate", "no script of a report runs"


def text_of_element(browser: Any, id: str) -> str:
    """Return the visible text of an element in one step, because the page may replace the element."""
    found = browser.execute_script("return document.getElementById(arguments[0])?.innerText", id)
    return str(found or "")


@pytest.fixture
def running(place: Place) -> Iterator[Place]:
    """A runs folder in which a process runs the job orders, so that its page is updated often."""
    assert isinstance(place.client, RunsClient)
    runs = place.client.runs
    with LocalCluster(cluster_folder(runs), lambda _: runs):
        record_running_jobs(runs, ["orders"])
        yield place


def test_progress_is_updated_without_a_reload(browser: Any, running: Place, site: Site) -> None:
    job = running.set_status(running.create(make_job("orders").obj()), **training(20))
    show(browser, f"{site.address}/jobs/orders", DESK)
    browser.execute_script("window.kept = true")
    assert "step 20 of 100" in text_of_element(browser, "step")
    running.set_status(job, **training(21))
    eventually(lambda: "step 21 of 100" in text_of_element(browser, "step"))
    running.set_status(job, **failed(start=[checkpoint(0, 5)], checkpoints=[checkpoint(10, 18)]))
    eventually(lambda: browser.title.startswith("orders: Failed"))
    assert "correct line 3" in text_of_element(browser, "state")
    assert browser.execute_script("return window.kept") is True


def test_page_says_when_the_server_has_ended(browser: Any, running: Place) -> None:
    running.set_status(running.create(make_job("orders").obj()), **training(20))
    with serve_site(running.client) as site:
        show(browser, f"{site.address}/jobs/orders", DESK)
    eventually(lambda: "Not connected" in text_of_element(browser, "connection"))
    assert "step 20 of 100" in text_of_element(browser, "step")


def test_page_is_complete_without_scripts(browser: Any, pages: Site) -> None:
    browser.execute_cdp_cmd("Emulation.setScriptExecutionDisabled", {"value": True})
    try:
        show(browser, f"{pages.address}/jobs/training", DESK)
        assert "step 20 of 100" in text_of_element(browser, "step")
        refresh = browser.find_element("css selector", "meta[http-equiv=refresh]")
        assert refresh.get_attribute("content") == "10"  # interrupted: it changes slowly
    finally:
        browser.execute_cdp_cmd("Emulation.setScriptExecutionDisabled", {"value": False})
