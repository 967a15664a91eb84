"""Write the data of this example: conversations about an order that the customer changes, and a golden set.

The first message of a conversation is generated like those of the quickstart. Each change gives a new
quantity, city or item, and the answer is the whole order after the change. Golden conversations use sentences
that are not in the training data.

Without arguments, the script writes data.yaml and golden.yaml, and pins their digests in the manifests. With
--check, it fails if a file would change.
"""

import random
import sys
from collections.abc import Mapping
from pathlib import Path

from examples.manifests import config_map, pinned, to_jsonl, write
from examples.quickstart.generate import SCHEMA, Order, message, prompt, quantity
from examples.quickstart.vocabulary import CITIES, ITEMS, TEMPLATES

HERE = Path(__file__).parent
SEED = 20260303
CONVERSATIONS = 360

CHANGES = {
    "quantity": (
        "make it {quantity} please",
        "actually {quantity}, not {old}",
        "sorry, we need {quantity} of them",
        "{quantity} instead of {old}",
        "change the quantity to {quantity}",
        "hm, {quantity} will do",
    ),
    "city": (
        "send it to {city} instead",
        "sorry, it must go to {city}",
        "the address changed, deliver to {city}",
        "{city}, not {old}",
        "please ship to {city}, {old} is closed",
        "oh, and to {city} now",
    ),
    "item": (
        "I meant {items}, not {old}",
        "no, {items} please",
        "swap the {old} for {items}",
        "make that {items}",
        "we want {items} instead",
        "wrong item, it should be {items}",
    ),
}
GOLDEN_CHANGES = {
    "quantity": ("On second thought {quantity} are enough.", "Could you raise that to {quantity}?"),
    "city": ("My colleague says it belongs in {city}.", "Redirect this order to {city}, thank you."),
    "item": ("Oops, they asked for {items}.", "Forget the {old}, bring {items}."),
}
GOLDEN_CASES = 48


def main(check: bool) -> int:
    """Write all files, or check them with ``check``. Return the exit code."""
    train, golden = to_jsonl(conversations()), to_jsonl(golden_cases())
    job, gate = HERE / "finetunejob.yaml", HERE / "evalgate.yaml"
    files = {
        HERE / "data.yaml": config_map("order-conversations", "conversations.py", train__jsonl=train),
        HERE / "golden.yaml": config_map("order-desk-golden-v1", "conversations.py", golden__jsonl=golden),
        job: pinned(job.read_text(encoding="utf-8"), train),
        gate: pinned(gate.read_text(encoding="utf-8"), golden),
    }
    return write(files, check=check)


def conversations() -> list[dict[str, object]]:
    """Return conversations of two turns; every third one has three."""
    rng = random.Random(SEED)
    rows: list[dict[str, object]] = []
    for n in range(1, CONVERSATIONS + 1):
        template = TEMPLATES[n % len(TEMPLATES)]
        order = _order(rng, template)
        turns = [*_turn(prompt(message(rng, template, order)), order)]
        for _ in range(2 if n % 3 == 0 else 1):
            text, order = _changed(rng, order, CHANGES)
            turns += _turn(text, order)
        rows.append({"id": f"conversation-{n:04}", "messages": turns})
    return rows


def golden_cases() -> list[dict[str, object]]:
    """Return golden cases: orders that were changed once, with the right answer."""
    rng = random.Random(SEED + 1)
    cases: list[dict[str, object]] = []
    for n in range(1, GOLDEN_CASES + 1):
        template = TEMPLATES[n % len(TEMPLATES)]
        before = _order(rng, template)
        field = list(GOLDEN_CHANGES)[n % 3]
        text, after = _changed(rng, before, {field: GOLDEN_CHANGES[field]})
        turns = [*_turn(prompt(message(rng, template, before)), before), {"role": "user", "content": text}]
        expect = [
            {"type": "json_schema", "schema": SCHEMA},
            {"type": "json_equals", "value": after._asdict()},
        ]
        cases.append({"id": f"change-{n:02}", "tags": [field], "messages": turns, "expect": expect})
    return cases


def _order(rng: random.Random, template: str) -> Order:
    return Order(rng.choice(list(ITEMS)), quantity(rng, template), rng.choice(CITIES))


def _turn(text: str, order: Order) -> list[dict[str, str]]:
    return [{"role": "user", "content": text}, {"role": "assistant", "content": order.as_json()}]


def _changed(rng: random.Random, order: Order, changes: Mapping[str, tuple[str, ...]]) -> tuple[str, Order]:
    """Return a message that changes one field, and the order after it."""
    field = rng.choice(list(changes))
    text = rng.choice(changes[field])
    if field == "quantity":
        count = rng.choice([n for n in range(2, 40) if n != order.quantity])
        return text.format(quantity=count, old=order.quantity), order._replace(quantity=count)
    if field == "city":
        city = rng.choice([c for c in CITIES if c != order.city])
        return text.format(city=city, old=order.city), order._replace(city=city)
    item = rng.choice([i for i in ITEMS if i != order.item])
    return text.format(items=ITEMS[item], old=ITEMS[order.item]), order._replace(item=item)


if __name__ == "__main__":
    sys.exit(main(check="--check" in sys.argv[1:]))
