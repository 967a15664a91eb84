"""Send metrics to MLflow: one run for the job in an experiment, and a nested run for each stage."""

import json
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import islice
from pathlib import Path
from typing import TypeVar

from mlflow.entities import Metric, Param, Run, RunTag, ViewType
from mlflow.exceptions import MlflowException, RestException
from mlflow.protos.databricks_pb2 import RESOURCE_ALREADY_EXISTS, RESOURCE_DOES_NOT_EXIST, ErrorCode
from mlflow.tracking import MlflowClient

from tunegate_trainer.process.files import write_atomic
from tunegate_trainer.tracking.runs import (
    ATTEMPT_SECONDS,
    EVALUATED,
    JOB,
    TRAINED,
    MetricPoint,
    RunState,
    TrackedRun,
    Value,
)

PREFIX = "tunegate."
"""The prefix of our tags. A run is found again by ``tunegate.uid`` and ``tunegate.run``."""
REPORT_TAG = f"{PREFIX}report_sha256"
VALUE_LENGTH = 500
"""Maximum length of a parameter value in characters that every version of the MLflow server accepts."""
TAG_LENGTH = 4000
PARAMETERS, METRICS = 100, 1000
"""The maximum number of parameters or tags, and of metrics, in one request."""
_STATES = {
    RunState.RUNNING: "RUNNING",
    RunState.FINISHED: "FINISHED",
    RunState.FAILED: "FAILED",
    RunState.STOPPED: "KILLED",
}
T = TypeVar("T")


@dataclass
class _ServerState:
    """The state of one run at the server: what the server reported at first, updated after each request."""

    id: str
    parameters: set[str]
    tags: dict[str, str]
    status: str
    trained: int
    evaluated: int


@dataclass
class MlflowTracker:
    """Sends runs to one MLflow experiment. Requests are sent one after another, so it is known what the
    server has."""

    uri: str
    experiment: str
    uid: str
    """The uid of the job."""
    ids: Path
    """A file with the server's ids of the runs, by key. If the file is missing, runs are found by their
    tags."""
    _server_states: dict[str, _ServerState] = field(default_factory=dict)

    pause = 10.0
    """Seconds between two attempts."""
    attempt_seconds = ATTEMPT_SECONDS

    def send(self, runs: Sequence[TrackedRun]) -> None:
        """Send everything that the server does not have yet. Errors of the client are not caught."""
        client = MlflowClient(tracking_uri=self.uri)
        try:
            for run in runs:
                self._send_run(client, run)
            for run in runs:  # last, so that a server that rejects files has everything else
                self._send_report(client, run)
        except Exception:
            self._server_states.clear()  # ask the server which part of the failed request arrived
            raise

    def _send_run(self, client: MlflowClient, run: TrackedRun) -> None:
        known = self._server_states.get(run.key) or self._open(client, run)
        texts = dict(parameter_texts(run.parameters))
        missing = [Param(key, text) for key, text in texts.items() if key not in known.parameters]
        for some in _batches(missing, PARAMETERS):
            client.log_batch(known.id, params=some)
            known.parameters |= {one.key for one in some}
        self._send_tags(client, run, known)
        points = [p for p in run.training if p.step > known.trained]
        for batch in _point_batches(points):
            client.log_batch(known.id, metrics=batch)
            known.trained = batch[-1].step
        points = [p for p in run.evaluations if p.step > known.evaluated]
        for batch in _point_batches(points):
            client.log_batch(known.id, metrics=batch)
            known.evaluated = batch[-1].step
        status = _STATES[run.state]
        if status != known.status:
            if run.state is RunState.RUNNING:
                client.update_run(known.id, status=status)
            else:
                client.set_terminated(known.id, status)
            known.status = status

    def _send_report(self, client: MlflowClient, run: TrackedRun) -> None:
        known = self._server_states[run.key]
        if run.report and known.tags.get(REPORT_TAG) != run.report_sha256:
            client.log_artifact(known.id, str(run.report))
            client.set_tag(known.id, REPORT_TAG, run.report_sha256)
            known.tags[REPORT_TAG] = run.report_sha256

    def _send_tags(self, client: MlflowClient, run: TrackedRun, known: _ServerState) -> None:
        wanted = {f"{PREFIX}{name}": text[:TAG_LENGTH] for name, text in run.tags.items()}
        changed = [RunTag(key, text) for key, text in wanted.items() if known.tags.get(key) != text]
        for some in _batches(changed, PARAMETERS):
            client.log_batch(known.id, tags=some)
            known.tags |= {one.key: one.value for one in some}
        for key in known.tags.keys() - wanted.keys() - {f"{PREFIX}run", REPORT_TAG}:
            client.delete_tag(known.id, key)
            del known.tags[key]

    def _open(self, client: MlflowClient, run: TrackedRun) -> _ServerState:
        """Find the run at the server by the id on the volume or by its tags, or create it."""
        ids = self._read_ids()
        found = _get(client, ids.get(run.key)) or self._find(client, run.key) or self._create(client, run)
        if ids.get(run.key) != found.info.run_id:
            write_atomic(self.ids, json.dumps(ids | {run.key: found.info.run_id}, indent=2) + "\n")
        metrics = found.data.metrics
        known = _ServerState(
            id=found.info.run_id,
            parameters=set(found.data.params),
            tags={key: text for key, text in found.data.tags.items() if key.startswith(PREFIX)},
            status=found.info.status,
            trained=int(metrics.get(TRAINED, -1)),
            evaluated=int(metrics.get(EVALUATED, -1)),
        )
        self._server_states[run.key] = known
        return known

    def _read_ids(self) -> dict[str, str]:
        try:
            ids: dict[str, str] = json.loads(self.ids.read_bytes())
        except (FileNotFoundError, ValueError):
            return {}
        return ids

    def _find(self, client: MlflowClient, key: str) -> Run | None:
        runs = client.search_runs(
            [self._experiment_id(client)],
            f"tags.`{PREFIX}uid` = '{self.uid}' and tags.`{PREFIX}run` = '{key}'",
            ViewType.ACTIVE_ONLY,
            max_results=1,
            order_by=["attributes.start_time ASC"],
        )
        return runs[0] if runs else None

    def _create(self, client: MlflowClient, run: TrackedRun) -> Run:
        tags = {f"{PREFIX}uid": self.uid, f"{PREFIX}run": run.key, "mlflow.source.name": "tunegate"}
        if run.key != JOB:
            tags["mlflow.parentRunId"] = self._server_states[JOB].id
        started_at = int(1000 * (run.started_at or time.time()))
        return client.create_run(
            self._experiment_id(client), start_time=started_at, tags=tags, run_name=run.name
        )

    def _experiment_id(self, client: MlflowClient) -> str:
        found = client.get_experiment_by_name(self.experiment)
        if found is None:
            try:
                return str(client.create_experiment(self.experiment))
            except RestException as error:  # another job may have created it in the meantime
                found = client.get_experiment_by_name(self.experiment)
                if error.error_code != ErrorCode.Name(RESOURCE_ALREADY_EXISTS) or found is None:
                    raise
        return str(found.experiment_id)


def _get(client: MlflowClient, run_id: str | None) -> Run | None:
    """Return the run, or None if it does not exist or was deleted."""
    if run_id is None:
        return None
    try:
        run = client.get_run(run_id)
    except MlflowException as error:
        if error.error_code != ErrorCode.Name(RESOURCE_DOES_NOT_EXIST):
            raise
        return None
    return run if run.info.lifecycle_stage == "active" else None


def parameter_texts(parameters: Mapping[str, Value]) -> Iterator[tuple[str, str]]:
    """Yield parameters as text. A value that is too long is continued in ``NAME.2``, ``NAME.3`` and so on."""
    for name, value in parameters.items():
        for number, part in enumerate(_parts(_text(value)), start=1):
            yield name if number == 1 else f"{name}.{number}", part


def _text(value: Value) -> str:
    if isinstance(value, list):
        return ", ".join(map(str, value))
    return json.dumps(value) if isinstance(value, bool) else str(value)


def _parts(text: str) -> Iterator[str]:
    """Split ``text`` into parts of at most ``VALUE_LENGTH``, after a comma if possible."""
    while len(text) > VALUE_LENGTH:
        comma = text.rfind(", ", 0, VALUE_LENGTH)
        end = comma + 2 if comma > 0 else VALUE_LENGTH
        yield text[:end].rstrip()
        text = text[end:]
    yield text


def _point_batches(points: Sequence[MetricPoint]) -> Iterator[list[Metric]]:
    """Yield the metrics of whole steps in batches that fit a request.

    A step always has the same timestamp, so the server counts a step that is sent twice only once.
    """
    batch: list[Metric] = []
    for point in points:
        metrics = [Metric(k, v, int(1000 * point.time), point.step) for k, v in point.metrics.items()]
        if batch and len(batch) + len(metrics) > METRICS:
            yield batch
            batch = []
        batch += metrics
    if batch:
        yield batch


def _batches(items: Sequence[T], size: int) -> Iterator[list[T]]:
    rest = iter(items)
    while some := list(islice(rest, size)):
        yield some
