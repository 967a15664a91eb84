"""Make the corpus of judgements, and show judgements of it. Run it in ``tests/``.

``python -m support.judgements record FOLDER`` stores the judgements that were recorded in a folder.
``python -m support.judgements random`` stores the results of the random judgements.
``python -m support.judgements words`` stores the messages of today, if nothing else differs.
``python -m support.judgements intend REASON`` adds all new differences to the list of intended ones.
``python -m support.judgements show ID|NUMBER`` prints a judgement with its result of today, as JSON.
"""

import json
import sys
from itertools import islice
from pathlib import Path
from typing import Any

from support.judgements.corpus import (
    changed_random,
    changed_recorded,
    differences,
    intend,
    intended,
    random_block,
    read_random,
    read_recorded,
    record_id,
    short_digest,
    write_random,
    write_recorded,
)
from support.judgements.judged import judged
from support.judgements.random_jobs import random_record

MOST = 12
"""The largest number of records of one kind that a test adds. Some tests judge thousands of results."""


def record(folder: Path) -> str:
    """Store what processes recorded in ``folder``. Returns problems: a call that could not be recorded, or a
    result that differs from the result of its record, because the record lacks something."""
    problems, by_id, by_test = set[str](), dict[str, Any](), dict[tuple[str, str], set[str]]()
    for path in sorted(folder.glob("*.jsonl")):
        for line in path.read_text().splitlines():
            each = json.loads(line)
            seen = json.loads(each["seen"])
            if "error" in seen:
                problems.add(seen["error"])
                continue
            name, kind = record_id(seen["record"]), seen["record"]["kind"]
            test = each["test"].partition(" (")[0]
            by_id.setdefault(name, []).append(seen)
            by_test.setdefault((test, kind), set()).add(name)
    chosen = sorted({name for names in by_test.values() for name in sorted(names)[:MOST]})
    for name in chosen:
        result = judged(by_id[name][0]["record"])[0]
        for seen in by_id[name]:
            expected, place = seen["found"], seen["place"]
            found = _at(result, place) if place or expected is not None else None
            for difference in islice(differences(expected, _common(found, expected)), 3):
                problems.add(f"{name} at {place}: {difference}")
    write_recorded([by_id[name][0]["record"] for name in chosen])
    print(f"{len(chosen)} of {len(by_id)} judgements stored")  # noqa: T201 - a command
    return "\n".join(sorted(problems))


def _at(result: Any, place: list[Any]) -> Any:
    for step in place:
        if step in {"Checkpoint", "Start"}:
            result = {number: each for subject, number, each in result if subject == step}
        elif result is not None:
            result = result.get(step) if isinstance(result, dict) else result[step]
    return result


def _common(found: Any, other: Any) -> Any:
    return (
        {key: found.get(key) for key in other}
        if isinstance(found, dict) and isinstance(other, dict)
        else found
    )


def words() -> str:
    """Store the messages of today. Returns which judgements differ in more than their messages."""
    changed = _changed()
    if not changed:
        write_recorded([each.record for each in read_recorded()])
        write_random()
    return "\n".join(changed)


def _changed() -> dict[str, str]:
    """Return the start of the digest of the new result of each judgement that differs today."""
    changed = {each.id: short_digest(result) for each, result in changed_recorded()}
    for block in read_random():
        found = changed_random(block, random_block(block.first))
        changed |= {number: now.split()[-1] for number, (_, now) in found.items()}
    return changed


def show(name: str) -> None:
    found = (
        random_record(int(name))
        if name.isdigit()
        else next(each.record for each in read_recorded() if each.id == name)
    )
    result, messages = judged(found)
    print(json.dumps({"record": found, "result": result, "words": messages}, indent=1))  # noqa: T201 - a command


def main(arguments: list[str]) -> int | str | None:
    """Run one of the commands. Returns the exit code, or why the command failed."""
    match arguments:
        case ["record", folder]:
            return record(Path(folder)) or None
        case ["random"]:
            return write_random()
        case ["words"]:
            return words() or None
        case ["intend", reason]:
            known = intended()
            return intend(reason, {name: new for name, new in _changed().items() if known.get(name) != new})
        case ["show", name]:
            return show(name)
        case _:
            return __doc__


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
