"""The conformance tests for ``clients.client.Client``. They run with both implementations."""

from contextlib import closing

import pytest

from support import manifests
from support.places import Place
from tunegate_api.contract.request import Request
from tunegate_api.v1alpha2 import FineTuneJobSpec
from tunegate_client.places.client import ClientError, Kind, UnknownNameError
from tunegate_client.places.kube import KubernetesClient
from tunegate_operator.engine.cluster import Key, Object
from tunegate_operator.engine.objects import uid_of
from tunegate_operator.names import REQUEST_KEY, REVIEW_LABEL, request_name


@pytest.fixture(params=["runs", pytest.param("kubernetes", marks=pytest.mark.cluster)])
def place(request: pytest.FixtureRequest) -> Place:
    found: Place = request.getfixturevalue(request.param)
    return found


@pytest.mark.parametrize("kind", ["FineTuneJob", "EvalGate"])
def test_objects_of_a_kind_are_listed_by_name(place: Place, kind: Kind) -> None:
    assert place.client.list_objects(kind) == []
    for name in ("pens", "cups", "mugs"):
        place.create(manifests.finetunejob(), name)
        place.create(manifests.evalgate(), name)
    listed = place.client.list_objects(kind)
    assert [obj["metadata"]["name"] for obj in listed] == ["cups", "mugs", "pens"]
    assert {obj["kind"] for obj in listed} == {kind}


@pytest.mark.parametrize("kind", ["FineTuneJob", "EvalGate"])
def test_an_object_is_read_by_name_with_its_status(place: Place, kind: Kind) -> None:
    made = manifests.finetunejob() if kind == "FineTuneJob" else manifests.evalgate("orders")
    place.set_status(place.create(made), observedGeneration=1)
    found = place.client.get(kind, "orders")
    assert (found["kind"], found["metadata"]["name"]) == (kind, "orders")
    assert found["status"]["observedGeneration"] == 1


def test_an_unknown_name_is_refused_with_the_existing_names(place: Place) -> None:
    with pytest.raises(UnknownNameError, match=r"there is no FineTuneJob oders in .*FineTuneJobs: none"):
        place.client.get("FineTuneJob", "oders")
    place.create(manifests.finetunejob())
    for read in (place.client.get, lambda *what: next(place.client.watch(*what))):
        with pytest.raises(UnknownNameError, match="its FineTuneJobs: orders"):
            read("FineTuneJob", "oders")


@pytest.mark.parametrize("kind", ["FineTuneJob", "EvalGate"])
def test_a_watch_yields_each_change_until_the_object_is_deleted(place: Place, kind: Kind) -> None:
    made = manifests.finetunejob() if kind == "FineTuneJob" else manifests.evalgate("orders")
    obj = place.create(made)
    place.create(made, "another")
    with closing(place.client.watch(kind, "orders")) as states:
        assert "status" not in next(states)
        for generation in (1, 2):
            place.set_status(obj, observedGeneration=generation)
            assert next(states)["status"]["observedGeneration"] == generation
        place.cluster.delete(Key.of(obj), uid_of(obj))
        assert list(states) == []


def test_events_about_an_object_are_listed_oldest_first(place: Place) -> None:
    job, another = place.create(manifests.finetunejob()), place.create(manifests.finetunejob(), "another")
    for reason in ("Validating", "Queued", "Training"):
        place.cluster.record_event(job, "Normal", reason, f"it is {reason}")
        place.cluster.record_event(another, "Normal", "Other", "another job")
    events = place.client.list_events(job)
    assert [event["reason"] for event in events] == ["Validating", "Queued", "Training"]


def test_pods_of_a_job_are_listed_oldest_first(place: Place) -> None:
    earlier = place.create(manifests.finetunejob())
    place.create_pod(earlier, attempt=1)
    place.delete(earlier)
    job, another = place.create(manifests.finetunejob()), place.create(manifests.finetunejob(), "another")
    pods = [place.create_pod(job, attempt=attempt) for attempt in (1, 2, 3)]
    place.create_pod(another, attempt=1)
    assert [uid_of(pod) for pod in place.client.list_pods(job)] == [uid_of(pod) for pod in pods]


def request_of(job: Object) -> Request:
    """Return the request of a job without gates."""
    metadata, spec = job["metadata"], FineTuneJobSpec.model_validate(job["spec"])
    names = {"name": metadata["name"], "namespace": metadata["namespace"], "uid": metadata["uid"]}
    return Request(**names, spec=spec, gates=[])


def test_request_of_a_job_is_read_after_its_start(place: Place) -> None:
    job = place.create(manifests.finetunejob())
    assert place.client.read_request(job) is None
    name = request_name("orders", uid_of(job))
    request = request_of(job)
    place.create(manifests.config_map(name, {REQUEST_KEY: request.model_dump_json(by_alias=True)}))
    assert place.client.read_request(job) == request


def test_a_request_that_was_edited_is_named_in_the_error(place: Place) -> None:
    job = place.create(manifests.finetunejob())
    name = request_name("orders", uid_of(job))
    place.create(manifests.config_map(name, {REQUEST_KEY: "{}"}))
    with pytest.raises(ClientError, match=rf"ConfigMap {name}, .* FineTuneJob orders started, was edited"):
        place.client.read_request(job)


def test_a_job_without_a_report_is_named_in_the_error(place: Place) -> None:
    job = place.create(manifests.finetunejob())
    with pytest.raises(ClientError, match="FineTuneJob orders has no report yet"):
        place.client.read_report(job)


def test_job_without_review_sample_is_named_in_the_error(place: Place) -> None:
    job = place.create(manifests.finetunejob())
    with pytest.raises(ClientError, match="review sample"):
        place.client.read_review_sample(job)


def test_a_config_map_is_read_by_name(place: Place) -> None:
    assert place.client.read_config_map("scores") is None
    place.create(manifests.config_map("scores", {"scores.json": "{}"}))
    found = place.client.read_config_map("scores")
    assert found is not None
    assert found["data"] == {"scores.json": "{}"}


def test_scores_for_a_job_are_listed_with_their_content(place: Place) -> None:
    for name, job in (("later", "orders"), ("earlier", "orders"), ("other", "pens")):
        made = manifests.config_map(name, {"ana.json": name})
        made["metadata"]["labels"] = {REVIEW_LABEL: job}
        place.create(made)
    place.create(manifests.config_map("unlabelled", {"ana.json": "{}"}))
    assert [found["data"] for found in place.client.read_score_maps("orders")] == [
        {"ana.json": "earlier"},
        {"ana.json": "later"},
    ]


@pytest.mark.cluster
def test_scores_on_a_cluster_are_created_and_then_replaced(kubernetes: Place) -> None:
    client = kubernetes.client
    assert isinstance(client, KubernetesClient)
    for text in ("{}", '{"scores": {}}'):
        made = manifests.config_map("scores", {"scores.json": text})
        made["metadata"]["labels"] = {REVIEW_LABEL: "orders"}
        client.put_config_map(made)
        found = client.read_config_map("scores")
        assert found is not None
        assert (found["data"], found["metadata"]["labels"]) == (made["data"], made["metadata"]["labels"])
