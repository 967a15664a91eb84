"""The session in which one person ranks the completions of prompts, on a terminal or a page.

A ranking is the text of the keys that make it: ``2=1x3`` ranks completion 2 first, 1 as equally good, and
marks 3 as unusable. The numbers are those of the shown completions. Their order depends on the prompt and the
person, so that a preference for the first one is spread over all completions.
"""

import hashlib
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field

from tunegate_api.preference import Candidates, Completion, Ranking
from tunegate_client.pairs.files import Known
from tunegate_client.places.client import ClientError
from tunegate_client.places.scoring import Session

EQUAL, BAD = "=", "x"
MAX_KEYS = 9
"""Maximum number of completions that can be ranked with keys."""


@dataclass
class RankingSession(Session[str]):
    """Rankings of one person by the id of their prompt, and rankings that are not finished yet."""

    known: Known = field(kw_only=True)
    rater: str = field(kw_only=True)
    drafts: dict[str, str] = field(default_factory=dict)

    @property
    def draft(self) -> str:
        """The keys for the prompt on the screen since its last complete ranking."""
        return self.drafts.get(self.current, "")

    @property
    def kept_answers(self) -> dict[str, str]:
        """All complete rankings: none of them decides anything, so they are saved at once."""
        return dict(self.answers)

    def answer(self, value: str) -> None:
        """Set the keys for the prompt on the screen. If all completions are ranked, go to the next prompt."""
        self.drafts[self.current] = value
        if sum(map(str.isdigit, value)) == len(self.known[self.current].completions):
            del self.drafts[self.current]
            super().answer(value)

    def press(self, key: str) -> None:
        """Press a key. Keys that have no meaning now have no effect."""
        self.answer(self.pressed(self.current, key))

    def pressed(self, id: str, key: str) -> str:
        """Return the keys for a prompt after another one."""
        return press(self.drafts.get(id, ""), key, len(self.known[id].completions))

    def keys(self, id: str) -> str:
        """Return the keys to show for a prompt: the unfinished ones, else those of its ranking."""
        return self.drafts.get(id) or self.answers.get(id, "")

    def shown(self, id: str) -> Sequence[Completion]:
        """Return the completions of a prompt in the order in which the person sees them."""
        return shown(self.known[id], self.rater)

    def back(self) -> None:
        """Undo the last key, or go back to the prompt that was on the screen before."""
        if self.draft and not self.is_done:
            is_mark = self.draft[-1] in (EQUAL, BAD)
            self.drafts[self.current] = self.draft[:-1] if is_mark else self.draft[:-1].rstrip(EQUAL + BAD)
        else:
            super().back()


def press(keys: str, key: str, count: int) -> str:
    """Return the keys after another one, which may have no effect. There are ``count`` completions."""
    if key in (EQUAL, BAD):
        before = keys.rstrip(EQUAL + BAD)
        is_off = keys.endswith(key) or (key == EQUAL and not groups_of(before)[0])
        return before if is_off else before + key
    is_number = key.isascii() and key.isdigit() and 0 < int(key) <= count
    return keys + key if is_number and key not in keys else keys


def groups_of(keys: str) -> tuple[list[list[int]], list[int]]:
    """Return the numbers of the ranked completions, the best first, and those of the unusable ones."""
    ranked, bad, mode = list[list[int]](), list[int](), ""
    for key in keys:
        if key in (EQUAL, BAD):
            mode = key
            continue
        if mode == BAD:
            bad.append(int(key))
        elif mode == EQUAL:
            ranked[-1].append(int(key))
        else:
            ranked.append([int(key)])
        mode = ""
    return ranked, bad


def keys_text(keys: str) -> str:
    """Return the keys for people: ``2 = 1 > 4, unusable: 3``."""
    ranked, bad = groups_of(keys)
    order = " > ".join(" = ".join(map(str, equal)) for equal in ranked)
    unusable = f"unusable: {' '.join(map(str, bad))}" if bad else ""
    return ", ".join(part for part in (order, unusable) if part)


def state_text(keys: str, number: int) -> str:
    """Return the place of a completion, or that it is unusable; empty if it has none yet."""
    ranked, bad = groups_of(keys)
    place = next((n for n, equal in enumerate(ranked, start=1) if number in equal), 0)
    return "unusable" if number in bad else f"place {place}" if place else ""


def shown(one: Candidates, rater: str) -> Sequence[Completion]:
    """Return the completions of a prompt in the order in which a person sees them."""

    def position(completion: Completion) -> bytes:
        return hashlib.sha256("\0".join((rater, one.id, completion.id)).encode()).digest()

    return sorted(one.completions, key=position)


def start_ranking(known: Known, rater: str, earlier: Iterable[Ranking]) -> RankingSession:
    """Return the session of a person, with the rankings from ``earlier`` that are theirs.

    Raises ClientError if a prompt has more completions than there are keys."""
    for one in known.values():
        if len(one.completions) > MAX_KEYS:
            raise ClientError(
                f"prompt {one.id} has {len(one.completions)} completions, but at most {MAX_KEYS} can be "
                "ranked with keys: rank them in a file, see --export"
            )
    own = [ranking for ranking in earlier if ranking.rater == rater]
    return RankingSession(
        list(known),
        {ranking.id: _keys(ranking, known[ranking.id]) for ranking in own},
        {ranking.id: ranking.note for ranking in own if ranking.note},
        known=known,
        rater=rater,
    )


def rankings_of(session: RankingSession) -> list[Ranking]:
    """Return the complete rankings of the session, in the order of the prompts."""
    found = []
    for id in session.ids:
        if id in session.answers:
            ids = [completion.id for completion in session.shown(id)]
            ranked, bad = groups_of(session.answers[id])
            found.append(
                Ranking(
                    id=id,
                    rater=session.rater,
                    ranking=[[ids[n - 1] for n in equal] for equal in ranked],
                    bad=[ids[n - 1] for n in bad],
                    note=session.notes.get(id, ""),
                )
            )
    return found


def _keys(ranking: Ranking, one: Candidates) -> str:
    """Return the keys that give a ranking."""
    number = {completion.id: str(n) for n, completion in enumerate(shown(one, ranking.rater), start=1)}
    equal = (EQUAL.join(number[id] for id in ids) for ids in ranking.ranking)
    return "".join([*equal, *(BAD + number[id] for id in ranking.bad)])
