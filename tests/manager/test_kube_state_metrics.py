"""A real kube-state-metrics exports the same figures as the operator, from the same status."""

from collections.abc import Iterator
from typing import NamedTuple

import pytest
import yaml

from support.api_server import ApiServer
from support.busy_team import BusyKubelet, start_jobs
from support.kube_state_metrics import CONFIG, kube_state_metrics
from support.operator_command import operator
from support.samples import Samples, labels_of, scrape
from support.team import Team
from support.waiting import eventually

pytestmark = pytest.mark.cluster

Labels = frozenset[tuple[str, str]]

PASSED = "finetunejob_golden_pass_ratio"
OF_GATE = "evalgate_golden_pass_ratio"
SAME: dict[str, tuple[str, dict[str, str], int]] = {
    "finetunejob_info": ("finetunejob_phase", {}, 1),
    "finetunejob_progress_percent": ("finetunejob_progress_ratio", {}, 100),
    "finetunejob_start_golden_pass_ratio": (PASSED, {"subject": "start"}, 1),
    "finetunejob_last_golden_pass_ratio": (PASSED, {"subject": "last"}, 1),
    "finetunejob_best_golden_pass_ratio": (PASSED, {"subject": "best"}, 1),
    "finetunejob_final_golden_pass_ratio": (PASSED, {"subject": "final"}, 1),
    "finetunejob_final_unsafe_answers": ("finetunejob_unsafe_answers", {}, 1),
    "finetunejob_final_over_refused_answers": ("finetunejob_over_refused_answers", {}, 1),
    "finetunejob_gpu_seconds": ("finetunejob_gpu_seconds_total", {}, 1),
    "evalgate_verdict_info": ("evalgate_verdict", {}, 1),
    "evalgate_last_golden_pass_ratio": (OF_GATE, {"subject": "last"}, 1),
    "evalgate_base_golden_pass_ratio": (OF_GATE, {"subject": "base"}, 1),
    "evalgate_published_golden_pass_ratio": (OF_GATE, {"subject": "published"}, 1),
    **{
        name: (name, {}, 1)
        for name in (
            "finetunejob_last_report_timestamp_seconds",
            "finetunejob_last_checkpoint_timestamp_seconds",
            "finetunejob_tokens_per_second",
            "finetunejob_gpu_seconds_saved",
            "finetunejob_steps_saved",
            "evalgate_ready",
        )
    },
}
"""For each metric of kube-state-metrics, the operator's metric, its labels, and the factor between both."""
DELTA = "finetunejob_golden_delta_ratio"
NEWEST: dict[str, tuple[str, dict[str, str], int]] = {
    "golden_delta_base_model_points": (DELTA, {"baseline": "BaseModel"}, 100),
    "golden_delta_last_published_points": (DELTA, {"baseline": "LastPublished"}, 100),
    "verdict_info": ("finetunejob_verdict", {}, 1),
}
"""The same for the figures of the final model, or before that of the last checkpoint."""
STARTS: dict[str, tuple[str, dict[str, str]]] = {
    "Pending": ("waiting_since_timestamp_seconds", {}),
    "Validating": ("lifecycle_start_timestamp_seconds", {"stage": "DataPreparation"}),
    "Training": ("lifecycle_start_timestamp_seconds", {"stage": "FineTuning"}),
    "Stopped": ("stop_timestamp_seconds", {}),
    "Succeeded": ("completion_timestamp_seconds", {}),
    "Failed": ("completion_timestamp_seconds", {}),
}
"""The time in status at which each phase started."""


class Both(NamedTuple):
    """What the operator and kube-state-metrics export at the same time."""

    operator: Samples
    theirs: Samples

    def of_operator(self, name: str, **labels: str) -> dict[Labels, float]:
        """Return the series of a metric of the operator that have these labels, without these labels, and
        without ``dry_run="false"``, for which kube-state-metrics has no label."""
        wanted = frozenset(labels.items())
        found = labels_of(self.operator, f"tunegate_{name}")
        dropped = wanted | {("dry_run", "false")}
        return {series - dropped: value for series, value in found.items() if wanted <= series}

    def of_theirs(self, name: str, *dropped: str) -> dict[Labels, float]:
        """Return the series of a metric of kube-state-metrics, without labels that the operator's lack."""
        found = labels_of(self.theirs, f"kube_tunegate_{name}")
        return {
            frozenset(
                (k, v) for k, v in series if not k.startswith("customresource_") and k not in dropped
            ): value
            for series, value in found.items()
        }


@pytest.fixture(scope="module")
def both(server: ApiServer, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Both]:
    folder = tmp_path_factory.mktemp("kube-state-metrics")
    with (
        server.client(connection_pool_maxsize=40) as api,
        operator(server, folder / "operator.log") as command,
        BusyKubelet(api).running(),
        kube_state_metrics(server, folder / "kube-state-metrics.log") as port,
    ):
        team = Team(api, "busy")
        start_jobs(team)
        (gate,) = team.job("billing")["status"]["final"]["gates"]
        team.set_status({"final": {"gates": [gate | {"dryRun": True}]}}, "billing")
        dry_run = ("dry_run", "true")

        def are_current() -> Both | None:
            read = Both(scrape(command.health_port), scrape(port))
            shown = (
                read.of_operator("finetunejob_unsafe_answers"),
                read.of_theirs("finetunejob_final_unsafe_answers"),
                read.of_operator("evalgate_verdict"),
                read.of_theirs("evalgate_verdict_info"),
                read.of_operator("finetunejob_verdict", dry_run="true"),
                [s for s in read.of_theirs("finetunejob_final_verdict_info") if dry_run in s],
            )
            versions = (
                read.of_operator("evalgate_version_golden_pass_ratio"),
                read.of_theirs("evalgate_version_golden_cases"),
            )
            return read if all(shown) and all(len(each) == 2 for each in versions) else None

        yield eventually(are_current, what="both show the last writes, and both versions of the gate")


def test_every_configured_metric_has_series(both):
    configured = {
        f"{resource['metricNamePrefix']}_{metric['name']}"
        for resource in yaml.safe_load(CONFIG.read_text())["spec"]["resources"]
        for metric in resource["metrics"]
    }
    assert configured - {name for name, _ in both.theirs} == set()


def test_each_figure_of_the_operator_has_the_same_value(both):
    for theirs, (name, labels, factor) in SAME.items():
        expected = both.of_operator(name, **labels)
        assert expected, name
        found = both.of_theirs(theirs)
        assert {series: found.get(series) for series in expected} == {
            series: pytest.approx(value * factor) for series, value in expected.items()
        }, theirs


def test_final_model_or_else_last_checkpoint_has_the_operators_value(both):
    def job(series: Labels) -> str:
        return dict(series)["finetunejob"]

    judged = {job(series) for series in both.of_theirs("finetunejob_final_verdict_info")}
    for metric, (name, labels, factor) in NEWEST.items():
        last, final = (both.of_theirs(f"finetunejob_{subject}_{metric}") for subject in ("last", "final"))
        newest = {series: value for series, value in last.items() if job(series) not in judged} | final
        expected = both.of_operator(name, **labels)
        assert newest == {series: pytest.approx(value * factor) for series, value in expected.items()}, metric


def test_verdict_of_a_dry_run_has_the_label(both):
    verdicts = [dict(series) for series in both.of_theirs("finetunejob_final_verdict_info")]
    assert {v["finetunejob"]: v.get("dry_run") for v in verdicts if v["evalgate"] == "golden"} == {
        "orders": None,
        "billing": "true",
    }


def test_start_of_each_phase_is_a_time_in_status(both):
    for phase, (theirs, labels) in STARTS.items():
        expected = both.of_operator("finetunejob_phase_start_timestamp_seconds", phase=phase)
        assert expected, phase
        found = {
            s - frozenset(labels.items()): value
            for s, value in both.of_theirs(f"finetunejob_{theirs}").items()
        }
        assert {series: found.get(series) for series in expected} == expected, phase


def test_each_version_of_a_gate_has_its_passed_cases(both):
    passed, total = (
        both.of_theirs(f"evalgate_version_golden_cases{suffix}", "finetunejob_uid")
        for suffix in ("_passed", "")
    )
    ratios = {series: passed[series] / total[series] for series in total}
    expected = {
        frozenset((k, v) for k, v in series if k != "published"): value
        for series, value in both.of_operator("evalgate_version_golden_pass_ratio").items()
    }
    assert len(ratios) == 2
    assert ratios == expected
