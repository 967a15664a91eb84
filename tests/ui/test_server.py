"""The web server of the pages: what it answers, and whom."""

import pytest

from support.builders import make_job
from support.job_statuses import failed, training
from support.places import Place
from support.report_page import text_of
from support.site import Site, serve_site
from support.waiting import eventually
from tunegate_client.laptop.status import report_file, status_file
from tunegate_client.places.caller import Caller
from tunegate_client.places.runs import RunsClient


def runs_of(place: Place) -> RunsClient:
    assert isinstance(place.client, RunsClient)
    return place.client


@pytest.mark.parametrize("host", ["evil.example", "evil.example:80", "127.0.0.1.evil.example", "", "[::1"])
def test_foreign_host_name_is_refused(site: Site, host: str) -> None:
    answer = site.get(Host=host)
    assert answer.status == 403
    assert "Jobs" not in answer.text


@pytest.mark.parametrize("host", ["localhost", "LOCALHOST:9000", "127.0.0.1", "[::1]:9000"])
def test_page_is_reachable_through_a_tunnel(site: Site, host: str) -> None:
    assert site.get(Host=host).status == 200


@pytest.mark.parametrize("method", ["POST", "PUT", "PATCH", "DELETE", "OPTIONS"])
@pytest.mark.parametrize("path", ["/", "/jobs/orders", "/nothing"])
def test_requests_that_could_change_something_are_refused(site: Site, method: str, path: str) -> None:
    answer = site.get(path, method)
    assert (answer.status, answer.headers["Allow"]) == (405, "GET, HEAD")


def test_unknown_name_is_answered_with_the_existing_names(site: Site, place: Place) -> None:
    place.create(make_job("orders").obj())
    answer = site.get("/jobs/oders")
    assert answer.status == 404
    assert "there is no FineTuneJob oders" in text_of(answer.text)
    assert "its FineTuneJobs: orders" in text_of(answer.text)
    assert 'href="/"' in answer.text


@pytest.mark.parametrize(
    "path", ["/gates/none", "/nothing", "/static/none.js", "/jobs/..%2Forders", "/static/..%2Fserver.py"]
)
def test_unknown_page_is_answered_with_a_page(site: Site, path: str) -> None:
    answer = site.get(path)
    assert answer.status == 404
    assert "All jobs and gates" in text_of(answer.text)


@pytest.mark.parametrize("path", ["/", "/jobs/orders", "/nothing", "/static/ui.js"])
def test_every_answer_forbids_foreign_content(site: Site, place: Place, path: str) -> None:
    place.create(make_job("orders").obj())
    headers = site.get(path).headers
    policy = headers["Content-Security-Policy"]
    assert "default-src 'none'" in policy
    assert "unsafe" not in policy
    assert headers["X-Content-Type-Options"] == "nosniff"
    assert headers["X-Frame-Options"] == "DENY"


def test_unchanged_page_is_not_sent_again(site: Site, place: Place) -> None:
    job = place.set_status(place.create(make_job("orders").obj()), **failed())
    first = site.get("/jobs/orders")
    again = site.get("/jobs/orders", If_None_Match=first.headers["ETag"])
    assert (again.status, again.text) == (304, "")
    place.set_status(job, **failed(message="another reason"))
    assert "another reason" in eventually_changed(site, first.headers["ETag"])


def eventually_changed(site: Site, etag: str) -> str:
    """Return the changed page, which is read anew after a second."""

    def changed() -> str:
        answer = site.get("/jobs/orders", If_None_Match=etag)
        return answer.text if answer.status == 200 else ""

    return eventually(changed, what="the page has changed")


def test_head_is_answered_like_get_without_a_body(site: Site) -> None:
    answer = site.get("/", "HEAD")
    assert (answer.status, answer.text) == (200, "")
    assert answer.headers["ETag"] == site.get("/").headers["ETag"]


def test_report_is_served_without_the_rights_of_the_page(site: Site, place: Place) -> None:
    place.create(make_job("orders").obj())
    report_file(runs_of(place).runs, "orders").write_text("<html>the report</html>")
    answer = site.get("/jobs/orders/report")
    assert answer.text == "<html>the report</html>"
    policy = answer.headers["Content-Security-Policy"]
    assert "sandbox" in policy
    assert "script-src" not in policy
    assert "frame-ancestors 'self'" in policy  # the page of the job shows it


def test_missing_report_is_answered_with_the_reason(site: Site, place: Place) -> None:
    place.create(make_job("orders").obj())
    answer = site.get("/jobs/orders/report")
    assert answer.status == 502
    assert "FineTuneJob orders has no report yet" in text_of(answer.text)


def test_report_on_a_cluster_is_not_fetched_by_the_page(place: Place) -> None:
    place.create(make_job("orders").obj())
    report_file(runs_of(place).runs, "orders").write_text("<html>the report</html>")
    with serve_site(place.client, Caller("kubectl tunegate"), is_cluster=True) as site:
        answer = site.get("/jobs/orders/report")
    assert "kubectl tunegate report orders" in text_of(answer.text)


def test_unreadable_folder_is_reported_and_the_page_tries_again(site: Site, place: Place) -> None:
    place.set_status(place.create(make_job("orders").obj()), **training())
    status_file(runs_of(place).runs, "orders").write_text("{")
    answer = site.get("/")
    assert answer.status == 502
    assert "cannot be read" in text_of(answer.text)
    assert 'data-refresh="10"' in answer.text


@pytest.mark.parametrize("page", ["0", "-1", "x", "99999999999", "%F0%9D%9F%97"])
def test_odd_page_numbers_are_answered_with_a_list(site: Site, page: str) -> None:
    assert site.get(f"/?page={page}").status == 200
