"""A controller of FineTuneJobs that decides with a function."""

from collections.abc import Callable, Iterable
from datetime import datetime

from tunegate_operator.engine.cluster import Key, Object
from tunegate_operator.engine.controller import Decision, View

Decide = Callable[[Object, View, datetime], Decision | None]


class FunctionController:
    """A controller that decides with the test's function."""

    kind = "FineTuneJob"

    def __init__(self, decide: Decide) -> None:
        self._decide = decide
        self.decisions = 0
        self.concerned: list[Key] = []

    def decide(self, obj: Object, view: View, now: datetime) -> Decision | None:
        self.decisions += 1
        return self._decide(obj, view, now)

    def references(self, obj: Object) -> Iterable[Key]:
        del obj
        return []

    def index(self, obj: Object) -> Iterable[tuple[Key, str]]:
        del obj
        return []

    def concerns(self, changed: Object, view: View) -> Iterable[Key]:  # noqa: ARG002 - a Protocol's
        return self.concerned if changed["kind"] == "EvalGate" else []
