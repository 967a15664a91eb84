"""Jobs with many golden cases and checkpoints, whose reports are sent one by one."""

from collections.abc import Sequence
from random import Random

from kubernetes import client

from support.fake_kubelet import Address, FakeKubelet, FakePod
from support.helm import NAMESPACE
from support.operator_command import SERVICE
from support.world import STAGE
from tunegate_api.contract.digests import sha256_text
from tunegate_api.contract.process import Role
from tunegate_api.contract.results import Evaluation, Results, Subject, golden_set, task_set
from tunegate_api.verdict.outcomes import CaseSet

LAST_STEP = 50
"""The step of the last checkpoint."""
ROWS = 100
"""The number of dev rows, which is also the number of test rows."""


class WaitingKubelet(FakeKubelet):
    """A kubelet that starts training and gate pods, whose reports are sent later. Other pods complete."""

    def __init__(self, api: client.ApiClient) -> None:
        super().__init__(api, Address(api, NAMESPACE, SERVICE))
        self.started: dict[Role, list[FakePod]] = {Role.TRAIN: [], Role.GATE: []}

    def run_pod(self, pod: FakePod) -> None:
        if pod.role in self.started:
            pod.start()
            self.started[pod.role].append(pod)
        else:
            super().run_pod(pod)


def stage_results(golden: str, cases: int, checkpoints: int) -> Results:
    """Return the results of a starting model and of checkpoints every two steps, each better than the one
    before. With 20 checkpoints, the last one is at ``LAST_STEP``. ``golden`` is the text of the golden
    set."""
    steps = [(Subject.CHECKPOINT, 10 + 2 * n) for n in range(1, checkpoints + 1)]
    return _results(golden, cases, [(Subject.START, 0), *steps])


def final_results(golden: str, cases: int) -> Results:
    """Return the results of a gate pod: of the base model and of the final model."""
    return _results(golden, cases, [(Subject.BASE, 0), (Subject.FINAL, LAST_STEP)])


def _results(golden: str, cases: int, steps: Sequence[tuple[Subject, int]]) -> Results:
    random = Random(0)
    name, dev, test = golden_set("golden"), task_set("dev", "exact_match"), task_set("test", "exact_match")
    rows = CaseSet(sha256="d" * 64, ids=[f"row-{i}" for i in range(ROWS)])
    sets = {
        name: CaseSet(sha256=sha256_text(golden), ids=[f"case-{i}" for i in range(cases)]),
        dev: rows,
        test: rows,
    }
    return Results(
        sets=sets,
        evaluations=[
            Evaluation(
                subject=subject,
                stage=STAGE,
                step=step,
                digest="d" * 64,
                outcomes={each: _letters(len(found.ids), step, random) for each, found in sets.items()},
                seconds=5.0,
            )
            for subject, step in steps
        ],
    )


def _letters(count: int, step: int, random: Random) -> str:
    """Return outcomes of which 40 % pass at step 0, and 90 % at ``LAST_STEP``."""
    return "".join("p" if random.random() < 0.4 + step / 100 else "f" for _ in range(count))
