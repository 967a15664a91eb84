"""A controller for the objects on which one process works."""

from collections.abc import Callable
from datetime import datetime

from tunegate_operator.engine.cluster import Object
from tunegate_operator.engine.controller import Controller, Decision, View


class FilteredController:
    """A controller that decides only about the objects on which this process works. Other objects stay
    unchanged."""

    def __init__(self, controller: Controller, is_ours: Callable[[Object, str], bool]) -> None:
        self.kind = controller.kind
        self._controller = controller
        self._is_ours = is_ours
        self.references, self.index = controller.references, controller.index
        self.concerns = controller.concerns

    def decide(self, obj: Object, view: View, now: datetime) -> Decision | None:
        if not self._is_ours(obj, obj["metadata"]["name"]):
            return None
        return self._controller.decide(obj, view, now)
