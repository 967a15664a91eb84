"""`tunegate review` for a job on a cluster reads the sample, stores the scores, and shows what the operator
decided.

The job is in a simulated world, because the tests' API server has no kubelet that runs the pod that reads the
sample.
"""

from dataclasses import replace
from pathlib import Path
from typing import cast

import pytest
from click.testing import CliRunner

from support.builders import make_config_map, make_gate, make_job, make_scores
from support.graders import JUDGE, REVIEW, with_graders
from support.world import Script, World
from tunegate_api.contract.plan import CalibrationCounts, JudgePlan, SampledRow, SamplePlan
from tunegate_api.judging.review import RowScore
from tunegate_api.judging.review_sample import ReviewRow, sample_digest, with_id
from tunegate_api.messages import Message
from tunegate_client.cli import review as command
from tunegate_client.cli.main import main
from tunegate_client.places.caller import Caller
from tunegate_client.places.client import ClientError, ClusterUnreachableError
from tunegate_client.places.kube import KubernetesClient
from tunegate_client.places.review import OpenReview, open_review
from tunegate_client.places.review_files import read_scores
from tunegate_client.places.review_session import scores_of, start_session
from tunegate_client.places.scoring import Session
from tunegate_operator.engine.apply import apply
from tunegate_operator.engine.cluster import Key, Object
from tunegate_operator.names import REVIEW_LABEL, scores_name

CALLER = Caller("kubectl tunegate", " --namespace default")
ROWS = sorted(
    (
        with_id(
            ReviewRow(
                row=str(n),
                prompt=[Message(role="user", content=f"order {n}\u2028now")],  # JSON does not escape U+2028
                completion="yes",
            )
        )
        for n in range(10)
    ),
    key=lambda row: row.id,
)
SAMPLE = SamplePlan(sha256=sample_digest(ROWS), rows=[SampledRow(id=row.id, row=row.row) for row in ROWS])


class WorldClient:
    """Reads and writes the objects of a simulated world. Its operator acts at once."""

    place = "the world"

    def __init__(self, sample: SamplePlan = SAMPLE, **quality: object) -> None:
        self.world = World(Script(sample=sample))
        data = make_job().obj()["spec"]["data"] | {"quality": {"minScore": "80%", **quality}}
        self.world.apply(make_config_map("scored", scored__jsonl="{}"))
        gate = make_gate().obj()
        gate["spec"] = with_graders(gate["spec"], JUDGE)
        self.world.apply_all(make_job().with_spec(data=data).obj(), gate=gate)
        self.world.run()
        self.text = "".join(f"{row.model_dump_json(by_alias=True)}\n" for row in ROWS)

    def get(self, kind: str, name: str) -> Object:
        assert kind == "FineTuneJob"
        return self.world.job(name)

    def read_review_sample(self, job: Object) -> str:
        assert job["metadata"]["name"] == "orders"
        return self.text

    def read_config_map(self, name: str) -> Object | None:
        return self.world.cluster.as_user.get(Key("ConfigMap", "default", name))

    def read_score_maps(self, job: str) -> list[Object]:
        listed = self.world.cluster.as_user.list_objects("ConfigMap", "default")
        labelled = [one for one in listed if one["metadata"].get("labels", {}).get(REVIEW_LABEL) == job]
        return [found for one in labelled if (found := self.read_config_map(one["metadata"]["name"]))]

    def put_config_map(self, config_map: Object) -> None:
        placed = config_map | {"metadata": config_map["metadata"] | {"namespace": "default"}}
        apply(self.world.cluster.as_user, placed, self.read_config_map(config_map["metadata"]["name"]))
        self.world.settle()


@pytest.fixture
def client() -> WorldClient:
    return WorldClient()


def opened(client: WorldClient, reviewer: str = "ana") -> OpenReview:
    return open_review(cast("KubernetesClient", client), "orders", reviewer)


def submit(client: WorldClient, letters: str, reviewer: str = "ana") -> int:
    """Submit a score for each row: y good, n bad, - none. Returns the exit code."""
    scores = {
        row.id: RowScore(good=letter == "y")
        for row, letter in zip(ROWS, letters, strict=True)
        if letter != "-"
    }
    review = opened(client, reviewer)
    return submit_review(client, review, replace(review, scores=scores))


def submit_review(
    client: WorldClient, review: OpenReview, reviewed: OpenReview, saved: OpenReview | None = None
) -> int:
    """Submit a review. ``saved`` is what was saved after each score; None if nothing was."""
    return command.submit(cast("KubernetesClient", client), CALLER, review, reviewed, saved or review)


def autosaved(client: WorldClient, review: OpenReview, session: Session[bool]) -> OpenReview:
    """Save the scores of a session that is not submitted yet, as the page in a browser does."""
    saved = replace(review, scores=scores_of(session))
    client.put_config_map(saved.config_map())
    return saved


def test_submitted_scores_let_the_job_continue(
    client: WorldClient, capsys: pytest.CaptureFixture[str]
) -> None:
    assert submit(client, "yyyyyyyyyn") == 0
    printed = capsys.readouterr().out
    assert printed.startswith("Queued: ")
    assert printed.endswith(
        "Follow progress with: kubectl tunegate status orders --watch --namespace default\n"
    )


def test_too_many_bad_rows_are_shown_with_exit_code_1(
    client: WorldClient, capsys: pytest.CaptureFixture[str]
) -> None:
    assert submit(client, "nnnnyyyyyy") == 1
    assert capsys.readouterr().out.startswith("Failed: ReviewFailed: 6/10 reviewed rows are good = 0.60")


def test_incomplete_scores_are_kept_for_the_next_call(
    client: WorldClient, capsys: pytest.CaptureFixture[str]
) -> None:
    assert submit(client, "yn--------") == 4
    printed = capsys.readouterr().out
    assert printed.startswith("saved: 2 of 10 rows are scored\nAwaitingReview: 2 of 10 rows of the review ")
    assert printed.endswith("\nContinue with: kubectl tunegate review orders --namespace default\n")
    assert [opened(client).scores[row.id].good for row in ROWS[:2]] == [True, False]
    assert opened(client, "ben").scores == {}, "each reviewer has own scores"
    assert submit(client, "--yyyyyyyy", "ben") == 0


@pytest.mark.parametrize("earlier", ["----------", "yn--------"])
def test_quitting_without_new_scores_writes_nothing_and_returns_at_once(
    client: WorldClient, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, earlier: str
) -> None:
    submit(client, earlier)
    before = client.read_config_map(scores_name("orders", "ana"))
    capsys.readouterr()
    monkeypatch.setattr(command.time, "sleep", lambda _: pytest.fail("waits for the operator"))
    assert submit(client, earlier) == 4
    assert client.read_config_map(scores_name("orders", "ana")) == before
    assert (before is None) == (earlier == "-" * 10)
    assert "saved" not in capsys.readouterr().out


def test_sample_that_differs_from_the_plan_is_refused(client: WorldClient) -> None:
    client.text = client.text.replace("order 3", "order 4", 1)
    with pytest.raises(ClientError, match="was changed on its volume"):
        opened(client)


def test_job_that_does_not_await_a_review_is_refused(client: WorldClient) -> None:
    submit(client, "y" * 10)
    with pytest.raises(ClientError, match="does not await a review: it is in phase Queued"):
        opened(client)


def test_scores_of_others_in_a_file_stay_after_later_scoring(client: WorldClient, tmp_path: Path) -> None:
    path = tmp_path / "scores.csv"
    path.write_text(f"id,good,reviewer\n{ROWS[0].id},yes,ben\n{ROWS[1].id},no,ben\n")
    review = opened(client, "lead")
    submit_review(client, review, read_scores(path, review))
    submit(client, "y---------", "lead")
    found = opened(client, "lead")
    assert (found.reviewers, found.scored) == (["lead", "ben"], 2)
    assert found.others["ben"][ROWS[1].id].good is False
    assert client.world.status().data.review.reviewers == ["ben", "lead"]


@pytest.mark.parametrize("other", ["--export", "--scores"])
def test_ways_to_score_exclude_each_other(tmp_path: Path, other: str) -> None:
    path = tmp_path / "scores.csv"
    path.touch()
    result = CliRunner().invoke(main, ["review", "orders", "--web", other, str(path)])
    assert result.exit_code == 2
    assert f"--web and {other} exclude each other" in result.output


def test_two_jobs_with_long_names_have_two_score_config_maps() -> None:
    metadata = [
        OpenReview(f"{'n' * 62}{end}", SAMPLE.sha256, (), "ana", {}).config_map()["metadata"] for end in "ab"
    ]
    assert [one["labels"]["tunegate.dev/review"][-1] for one in metadata] == ["a", "b"]
    assert metadata[0]["name"] != metadata[1]["name"]
    assert all(len(one["name"]) <= 63 for one in metadata)


def judged_client(bad_found: int) -> WorldClient:
    """Return the client of a job whose judge scored all rows except the third and the last."""
    counts = CalibrationCounts(source_sha256="0" * 64, bad=20, bad_found=bad_found, good=80, good_accepted=80)
    judge = JudgePlan(
        model="judge-7b",
        instructions_sha256="1" * 64,
        calibration=counts,
        good=[row.id for n, row in enumerate(ROWS) if n not in (2, 9)] if bad_found == 20 else [],
    )
    return WorldClient(
        SAMPLE.model_copy(update={"judge": judge}),
        **REVIEW,
    )


def test_rows_that_the_judge_could_not_score_are_shown_first(capsys: pytest.CaptureFixture[str]) -> None:
    client = judged_client(bad_found=20)
    rows = opened(client).rows
    assert list(rows) == [ROWS[2], ROWS[9], *(row for n, row in enumerate(ROWS) if n not in (2, 9))]
    review = opened(client)
    assert submit_review(client, review, replace(review, scores={rows[0].id: RowScore(good=True)})) == 4
    saved, status, again = capsys.readouterr().out.splitlines()
    assert saved == "saved: 1 of 2 rows are scored; the judge scored 8"
    assert status.startswith("AwaitingReview: the judge judge-7b scored 8 of 10 rows")
    assert again == "Continue with: kubectl tunegate review orders --namespace default"
    scored = replace(review, scores={row.id: RowScore(good=True) for row in rows[:2]})
    assert submit_review(client, review, scored) == 0
    queued, _ = capsys.readouterr().out.splitlines()
    assert queued.startswith("Queued: ")


def test_scores_beside_a_judge_count_once_submitted() -> None:
    client = judged_client(bad_found=20)
    review = opened(client)
    session = start_session(review)
    for _ in range(2):
        session.answer(True)
        autosaved(client, review, session)
    assert opened(client).scored == 1, "the job still awaits its review"
    session.back()
    session.answer(False)
    session.submit()
    assert submit_review(client, review, replace(review, scores=scores_of(session))) == 0
    assert client.world.status().data.review_score == "0.90"


def test_scores_beside_other_people_count_once_submitted(client: WorldClient) -> None:
    submit(client, "-yyyyyyy--", "ben")
    review = opened(client)
    assert list(review.rows) == [ROWS[0], *ROWS[8:], *ROWS[1:8]]
    session = start_session(review)
    for _ in range(3):
        session.answer(True)
        autosaved(client, review, session)
    assert opened(client).scored == 9, "the job still awaits its review"
    session.submit()
    assert submit_review(client, review, replace(review, scores=scores_of(session))) == 0


def test_scores_ignored_by_the_operator_are_not_others_scores(client: WorldClient) -> None:
    scores = {row.id: True for row in ROWS}
    client.world.apply(make_scores("unknown", SAMPLE.sha256, reviewer="ben", **scores, nobody=True))
    client.world.apply(make_scores("sample", "0" * 64, reviewer="cleo", **scores))
    assert opened(client).needed == [row.id for row in ROWS]


def test_nothing_is_printed_to_continue_if_others_complete_the_review(
    client: WorldClient, capsys: pytest.CaptureFixture[str]
) -> None:
    review = opened(client)
    submit(client, "-yyyyyyyyy", "ben")
    capsys.readouterr()
    assert submit_review(client, review, replace(review, scores={ROWS[0].id: RowScore(good=True)})) == 0
    saved, status, _ = capsys.readouterr().out.splitlines()
    assert saved == "saved: 1 of 10 rows are scored"
    assert status.startswith("Queued: ")


def test_quitting_after_the_last_save_returns_at_once(
    client: WorldClient, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    review = opened(client)
    session = start_session(review)
    session.answer(True)
    saved = autosaved(client, review, session)
    monkeypatch.setattr(command.time, "sleep", lambda _: pytest.fail("waits for the operator"))
    assert submit_review(client, review, replace(review, scores=scores_of(session)), saved) == 4
    assert capsys.readouterr().out.startswith("saved: 1 of 10 rows are scored\nAwaitingReview: 1 of 10 rows")


def unreachable(*_: object) -> None:
    raise ClusterUnreachableError("the login has expired")


@pytest.mark.parametrize("method", ["get", "put_config_map"])
def test_scores_stay_in_a_file_if_the_cluster_is_unreachable(
    client: WorldClient,
    capsys: pytest.CaptureFixture[str],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    method: str,
) -> None:
    monkeypatch.chdir(tmp_path)
    review = opened(client, "an a")
    scores = {ROWS[0].id: RowScore(good=False, note="a\u2028b"), ROWS[1].id: RowScore(good=True)}
    others = {"ben": {ROWS[0].id: RowScore(good=True)}}
    reviewed = replace(review, scores=scores, others=others)
    monkeypatch.setattr(client, method, unreachable)
    with pytest.raises(ClusterUnreachableError):
        submit_review(client, review, reviewed)
    (file,) = tmp_path.glob("*.jsonl")
    assert (
        f"Submit them with: kubectl tunegate review orders --scores {file.name} --reviewer 'an a' "
        "--namespace default" in capsys.readouterr().err
    )
    assert read_scores(Path(file.name), review) == reviewed


def test_scores_are_printed_if_no_file_can_be_written(
    client: WorldClient,
    capsys: pytest.CaptureFixture[str],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    folder = tmp_path / "deleted"
    folder.mkdir()
    monkeypatch.chdir(folder)
    folder.rmdir()
    review = opened(client)
    monkeypatch.setattr(client, "put_config_map", unreachable)
    with pytest.raises(ClusterUnreachableError):
        submit_review(client, review, replace(review, scores={ROWS[0].id: RowScore(good=True)}))
    assert capsys.readouterr().out == f'{{"id": "{ROWS[0].id}", "good": true, "note": ""}}\n'


def test_rows_keep_their_order_if_the_calibration_is_inconclusive() -> None:
    assert list(opened(judged_client(bad_found=14)).rows) == ROWS
