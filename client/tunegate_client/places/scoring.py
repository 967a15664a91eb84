"""The session of one person who scores items one after the other. It is the model behind the terminal and the
web page, which both only show it and pass on what the person does."""

from collections.abc import Collection, Sequence
from dataclasses import dataclass, field
from typing import Generic, TypeVar

Answer = TypeVar("Answer")


@dataclass
class Session(Generic[Answer]):
    """The answers and notes of one person, and the item on the screen."""

    ids: Sequence[str]
    """The items, in the order in which they are shown. There is at least one."""
    answers: dict[str, Answer]
    notes: dict[str, str] = field(default_factory=dict)
    """Comments, also on items that have no answer yet."""
    position: int = 0
    is_done: bool = False
    """Whether the screen shows that every needed item has an answer, instead of an item."""
    is_submitted: bool = False
    needed: Collection[str] = ()
    """The items that need an answer of this person; the others are optional. If empty, all items."""
    _seen: list[int] = field(default_factory=list)
    """The positions of earlier items, for :meth:`back`."""

    def __post_init__(self) -> None:
        self.needed = frozenset(self.needed or self.ids)
        self._find_unanswered(0)
        self.finish()

    @property
    def current(self) -> str:
        """The id of the item on the screen."""
        return self.ids[self.position]

    @property
    def answered(self) -> int:
        """The number of needed items with an answer."""
        return sum(id in self.answers for id in self.needed)

    @property
    def is_complete(self) -> bool:
        """Whether every needed item has an answer."""
        return self.answered == len(self.needed)

    @property
    def has_all(self) -> bool:
        """Whether every item has an answer, also the optional ones."""
        return all(id in self.answers for id in self.ids)

    @property
    def held_back(self) -> str | None:
        """The item whose answer is not saved until the answers are submitted, because complete answers would
        already count: the current item, or the last one that was answered. None if they are not complete."""
        if self.is_submitted or not self.is_complete:
            return None
        return self.current if self.current in self.needed else [*filter(self._is_needed, self.answers)][-1]

    @property
    def kept_answers(self) -> dict[str, Answer]:
        """The answers to save."""
        return {id: answer for id, answer in self.answers.items() if id != self.held_back}

    def answer(self, value: Answer) -> None:
        """Answer the item on the screen, and go to the next item without an answer. If it was the last needed
        answer, show that all are given."""
        self.answers.pop(self.current, None)  # so that the last answer is the last in the dictionary
        self.answers[self.current] = value
        if self.is_complete and self.current in self.needed:
            self._seen.append(self.position)
            self.is_done = True
        else:
            self.skip()

    def comment(self, note: str) -> None:
        """Set the comment on the item on the screen. An empty comment removes it."""
        self.notes.pop(self.current, None)
        if note:
            self.notes[self.current] = note

    def skip(self) -> None:
        """Go to the next item without an answer. After the last item, continue with the first one."""
        self._seen.append(self.position)
        self._find_unanswered(self.position + 1)
        self.is_done = self.has_all

    def back(self) -> None:
        """Go back to the item that was on the screen before."""
        self.is_done = False
        if self._seen:
            self.position = self._seen.pop()

    def go_to(self, id: str) -> None:
        """Show an item. Raises ValueError if there is no such item."""
        position = self.ids.index(id)
        if position != self.position:
            self._seen.append(self.position)
        self.position, self.is_done = position, False

    def finish(self) -> None:
        """Show that every needed item has an answer, if this is the case."""
        self.is_done = self.is_complete

    def submit(self) -> None:
        """Submit the answers, if the screen shows that every needed item has one."""
        self.is_submitted = self.is_done

    def _is_needed(self, id: str) -> bool:
        return id in self.needed

    def _find_unanswered(self, start: int) -> None:
        """Go to the first item without an answer from ``start`` on; stay if every item has one."""
        count = len(self.ids)
        order = ((start + n) % count for n in range(count))
        self.position = next((n for n in order if self.ids[n] not in self.answers), self.position)
