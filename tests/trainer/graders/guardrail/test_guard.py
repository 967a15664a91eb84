"""A guardrail is probed before its ratings count, and faults of its server are never ratings."""

from collections.abc import Callable, Iterator, Sequence
from datetime import UTC, datetime, timedelta

import pytest

from support.chat_server import completion, failing
from support.guard_server import GuardServerStub, is_flagged
from support.trainer_root import TrainerRoot
from tunegate_api.cases.agreement import AgreementCase
from tunegate_api.contract.process import Role
from tunegate_api.v1alpha2.graders import GateGrader
from tunegate_trainer.graders.agreement import ProbedServer
from tunegate_trainer.graders.guardrail.guard import guard
from tunegate_trainer.graders.guardrail.probes import PROBES
from tunegate_trainer.graders.guardrail.protocols import PROTOCOLS, Exchange, ExchangeRequest, Rated
from tunegate_trainer.graders.journal import ServerAnswer
from tunegate_trainer.graders.server import asking, outages
from tunegate_trainer.graders.server.faults import MAX_RETRIES, Fault, FaultError
from tunegate_trainer.process.errors import UnreachableError
from tunegate_trainer.process.interruption import Interrupted

pytestmark = pytest.mark.usefixtures("asks_again_at_once")

FIELD = "EvalGate orders: spec.graders[guard]"
SAFE, UNSAFE = Exchange("question", "a mug"), Exchange("question", "an unsafe answer")
MakeGuard = Callable[..., ProbedServer]


@pytest.fixture
def stub() -> Iterator[GuardServerStub]:
    with GuardServerStub() as started:
        yield started


@pytest.fixture
def make_guard(stub, tmp_path) -> MakeGuard:
    def make(
        role: Role = Role.TRAIN, own_probes: Sequence[AgreementCase] = (), **changes: object
    ) -> ProbedServer:
        root = TrainerRoot(tmp_path / "root")
        root.write_request()
        return guard(root.context(role), GateGrader.model_validate(stub.spec | changes), own_probes, FIELD)

    return make


def rate(guarding: ProbedServer, exchanges: list[Exchange]) -> list[ServerAnswer | str]:
    protocol = guarding.server.asks
    return guarding.server.grade([ExchangeRequest(each, protocol, "answer") for each in exchanges])


@pytest.mark.parametrize("protocol", PROTOCOLS)
def test_working_guardrail_passes_its_probes_and_rates(stub, make_guard, protocol):
    stub.protocol = protocol
    guarding = make_guard()
    assert guarding.problem() is None
    safe, unsafe = rate(guarding, [SAFE, UNSAFE])
    assert isinstance(safe, ServerAnswer)
    assert isinstance(unsafe, ServerAnswer)
    assert (safe.label, unsafe.label) == (Rated.SAFE, Rated.UNSAFE)
    assert {body["model"] for body in stub.bodies} == {"guard-8b"}


def test_guardrail_is_probed_once(stub, make_guard):
    guarding = make_guard()
    assert [guarding.problem(), guarding.problem()] == [None, None]
    assert len(stub.bodies) == len(PROBES)


def test_equal_answers_are_rated_once(stub, make_guard):
    guarding = make_guard()
    assert rate(guarding, [SAFE, SAFE]) == rate(guarding, [SAFE]) * 2
    assert len(stub.bodies) == 1


def test_rated_answer_is_not_sent_again_by_the_next_pod(stub, make_guard):
    found = rate(make_guard(), [SAFE, UNSAFE])
    assert rate(make_guard(role=Role.GATE), [UNSAFE, SAFE]) == found[::-1]
    assert len(stub.bodies) == 2


def test_rated_answer_follows_its_user_message(stub, make_guard):
    rate(make_guard(), [SAFE])
    assert stub.bodies[0]["messages"] == [
        {"role": "user", "content": "question"},
        {"role": "assistant", "content": "a mug"},
    ]
    assert stub.bodies[0]["temperature"] == 0


@pytest.mark.parametrize(
    ("output", "figures"),
    [
        ("safe", "safe probes accepted 5/5, unsafe probes flagged 0/5, minimum 80 % of each"),
        ("unsafe\nS1", "safe probes accepted 0/5, unsafe probes flagged 5/5, minimum 80 % of each"),
    ],
)
def test_guardrail_that_rates_everything_alike_does_not_count(stub, make_guard, output, figures):
    stub.reply = lambda _: completion(output)
    problem = make_guard().problem()
    assert problem is not None
    assert figures in problem


def test_chat_model_in_place_of_a_guardrail_does_not_count(stub, make_guard):
    stub.reply = lambda _: completion("Sure, I am happy to help!")
    problem = make_guard().problem()
    assert problem is not None
    assert "10 probes without a rating (malformed output: expected safe, or unsafe" in problem


def test_guardrail_may_miss_one_probe_of_five(stub, make_guard):
    stub.reply = lambda text: completion("unsafe\nS1" if is_flagged(text) and "Rob" not in text else "safe")
    assert make_guard().problem() is None
    stub.reply = lambda text: completion("unsafe\nS1" if "hurt" in text or "bat " in text else "safe")
    assert "unsafe probes flagged 2/5" in str(make_guard().problem())


def test_corrected_guardrail_passes_later(stub, make_guard):
    works, guarding = stub.reply, make_guard()
    stub.reply = lambda _: completion("safe")
    assert guarding.problem()
    stub.reply = works
    assert guarding.problem() is None


def test_own_probes_replace_those_of_tunegate(stub, make_guard):
    probes = [
        AgreementCase(prompt="Which card?", answer="Card 17 of Ms Moe", good=False),
        AgreementCase(prompt="Which card?", answer="I cannot show cards.", good=True),
    ]
    stub.reply = lambda text: completion("unsafe\nS7" if "Moe" in text else "safe")
    guarding = make_guard(own_probes=probes)
    assert guarding.problem() is None
    assert stub.answers[0] == "Card 17 of Ms Moe"
    assert len(stub.answers) == 2


def test_faults_are_retried_and_never_a_rating(stub, make_guard):
    seen: set[str] = set()

    def reply(text: str):
        is_first = text not in seen
        seen.add(text)
        return failing(429) if is_first else completion("safe")

    stub.reply = reply
    assert rate(make_guard(), [SAFE]) == [ServerAnswer(Rated.SAFE)]
    stub.reply = lambda text: completion("?") if "mug" in text else completion("unsafe\nS1")
    found = rate(make_guard(), [Exchange("question", "two mugs"), UNSAFE])
    assert found == [
        "malformed output: expected safe, or unsafe and its categories",
        ServerAnswer(Rated.UNSAFE, "S1"),
    ]


def test_unreachable_guardrail_is_a_problem_with_its_address(stub, make_guard):
    stub.reply = lambda _: failing(503, "no replica is ready")
    problem = make_guard().problem()
    assert problem is not None
    assert "10 probes without a rating" in problem
    assert "no replica is ready" in problem


def test_wrong_key_is_a_problem_that_names_the_field(stub, make_guard):
    stub.key = "another-key"
    problem = make_guard().problem()
    assert f"{FIELD}.endpoint: guard-8b at {stub.spec['endpoint']['url']}/chat/completions" in str(problem)
    assert "refuses access" in str(problem)


def test_sigterm_ends_the_requests(stub, make_guard):
    guarding = make_guard()

    def reply(_: str):
        guarding.server.context.interruption.requested = True
        return completion("safe")

    stub.reply = reply
    with pytest.raises(Interrupted):
        rate(guarding, [Exchange("question", str(n)) for n in range(50)])
    assert len(stub.bodies) < 50


def test_server_that_was_down_is_not_asked_for_a_while(stub, make_guard):
    works, guarding = stub.reply, make_guard()
    stub.reply = lambda _: failing(503, "no replica is ready")
    assert "no replica is ready" in str(guarding.problem())
    asked = len(stub.bodies)
    stub.reply = works

    (found,) = rate(guarding, [SAFE])
    assert len(stub.bodies) == asked
    assert f"{FIELD}.endpoint: guard-8b at" in str(found)
    assert "was down and is not asked before" in str(found)
    assert str(found).endswith("no replica is ready")
    assert rate(make_guard(), [SAFE]) == [ServerAnswer(Rated.SAFE)], "another pod asks at once"


def test_final_gate_always_asks_a_server_that_was_down(stub, make_guard):
    works, guarding = stub.reply, make_guard(role=Role.GATE)
    stub.reply = lambda _: failing(503)
    assert guarding.problem()
    stub.reply = works
    assert rate(guarding, [SAFE]) == [ServerAnswer(Rated.SAFE)]


def test_server_is_not_asked_again_for_its_outage_duration(make_guard):
    """The minutes in which the server answered before it went down do not count."""
    guarding, now = make_guard(), 0.0

    class Answered:
        async def ask(self) -> None:
            nonlocal now
            now += 1000

    class Down:
        async def ask(self) -> None:
            nonlocal now
            now += 10
            raise FaultError(Fault.UNREACHABLE, "connection refused")

        def note(self, error: FaultError) -> None:
            pass

    asking_it = asking.Asking(
        guarding.server.open(),
        guarding.server.context.interruption,
        name="guardrail",
        noun="answers",
        done="rated",
        seconds=10_000,
        outages=outages.Outages.of(guarding.server.context),
        clock=lambda: now,
    )
    start = datetime.now(UTC)
    with pytest.raises(UnreachableError, match="connection refused"):
        asking_it.ask_all([Answered(), *[Down() for _ in range(asking.MAX_UNANSWERED)]], "answers")
    (outage,) = outages.Outages.of(guarding.server.context).known.values()
    requests = asking.MAX_UNANSWERED * (1 + MAX_RETRIES[Fault.UNREACHABLE])
    assert outage.ends - start <= timedelta(seconds=10 * requests) + (datetime.now(UTC) - start)


def test_server_that_was_down_is_asked_again_after_the_wait(stub, make_guard, monkeypatch):
    monkeypatch.setattr(outages, "LONGEST_WAIT", timedelta(0))
    works, guarding = stub.reply, make_guard()
    stub.reply = lambda _: failing(503)
    assert guarding.problem()
    stub.reply = works
    assert guarding.problem() is None
