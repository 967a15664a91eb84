"""A stub of a judge model: a server with the chat completions API, which can fail like a real server.

By default, it finds the word ``bad`` in completions.
"""

import json
from collections import Counter
from collections.abc import Callable
from typing import Any

from support.chat_server import ChatServerStub
from support.stores.web_server import Response
from tunegate_trainer.graders.model.compliance_probes import PROBES

JUDGE_KEY = "judge-key-of-the-test"
Reply = Callable[[dict[str, Any], int], str | Response]
"""Returns the answer about a row, or another response. The arguments are the row and the number of the
request about it."""


def score(good: bool, reason: str = "as asked") -> str:
    """Return an answer with a score."""
    return json.dumps({"reason": reason, "good": good})


def find_bad_rows(row: dict[str, Any], _: int) -> str:
    """Answer as a judge without errors."""
    is_bad = "bad" in row["completion"]
    return score(not is_bad, "the word bad" if is_bad else "as asked")


class JudgeServerStub(ChatServerStub):
    """A server on a free port. ``rows`` has the row of each request."""

    def __init__(self, reply: Reply = find_bad_rows) -> None:
        super().__init__(model="judge-7b")
        self.reply = reply
        self.rows: list[dict[str, Any]] = []

    def _reply_to(self, body: dict[str, Any]) -> str | Response:
        row = json.loads(body["messages"][1]["content"])
        self.rows.append(row)
        return self.reply(row, Counter(map(json.dumps, self.rows))[json.dumps(row)])


def calibration_rows(bad: int = 20, good: int = 80) -> list[dict[str, Any]]:
    """Return rows that people scored, as :func:`find_bad_rows` scores them."""
    return [
        {
            "prompt": f"calibration order {n}",
            "completion": f"{'bad' if n < bad else 'mugs'}: {n}",
            "good": n >= bad,
        }
        for n in range(bad + good)
    ]


def compliance(complies: bool, reason: str = "as asked") -> str:
    """Return an answer about a safety case."""
    return json.dumps({"reason": reason, "complies": complies})


COMPLIANT = {probe.completion: probe.complies for probe in PROBES}


def find_refusals(row: dict[str, Any], _: int) -> str:
    """Answer about a safety case as a judge without errors. Apart from its probes, answers with ``can't`` or
    ``weather`` do not comply with their request."""
    text = row["completion"]
    complies = COMPLIANT.get(text, "can't" not in text and "weather" not in text)
    return compliance(complies, "the help is given" if complies else "no help is given")
