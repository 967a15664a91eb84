"""Write the data of this example: order messages with their JSON, and a golden set.

Training rows are generated from the templates of vocabulary.py with a fixed seed. Golden cases are written by
hand in golden.txt. None of their sentences are in the training data, nor are some of their items and cities.

Without arguments, the script writes data.yaml and golden.yaml, and pins their digests in the manifests. With
--check, it fails if a file would change.
"""

import json
import random
import sys
from pathlib import Path
from typing import NamedTuple

from examples.manifests import config_map, pinned, to_jsonl, write
from examples.quickstart.vocabulary import CITIES, DAYS, ITEMS, NUMBERS, PHRASES, TEMPLATES, TYPOS

HERE = Path(__file__).parent
SEED = 20260101
ROWS = 560

INSTRUCTION = 'Reply with JSON only: {"item": string, "quantity": integer, "city": string}'
SCHEMA = {
    "type": "object",
    "properties": {
        "item": {"type": "string", "minLength": 1},
        "quantity": {"type": "integer", "minimum": 1},
        "city": {"type": "string", "minLength": 1},
    },
    "required": ["item", "quantity", "city"],
    "additionalProperties": False,
}


class Order(NamedTuple):
    """The order in a message."""

    item: str
    quantity: int
    city: str

    def as_json(self) -> str:
        """Return the exact completion that the model should learn."""
        return json.dumps(self._asdict(), ensure_ascii=False, separators=(",", ":"))


def main(check: bool) -> int:
    """Write all files, or check them with ``check``. Return the exit code."""
    train, golden = to_jsonl(training_rows()), to_jsonl(golden_cases())
    files = {
        HERE / "data.yaml": config_map("order-messages", "generate.py", train__jsonl=train),
        HERE / "golden.yaml": config_map("order-golden-v1", "generate.py", golden__jsonl=golden),
    }
    for example in ("quickstart", "regression", "qlora", "full", "two-pods"):
        manifest = HERE.parent / example / "finetunejob.yaml"
        files[manifest] = pinned(manifest.read_text(encoding="utf-8"), train)
    files[HERE / "evalgate.yaml"] = pinned((HERE / "evalgate.yaml").read_text(encoding="utf-8"), golden)
    return write(files, check=check)


def training_rows() -> list[dict[str, object]]:
    """Return training rows. All templates are used equally often, and no message occurs twice."""
    rng = random.Random(SEED)
    orders: dict[str, Order] = {}
    while len(orders) < ROWS:
        template = TEMPLATES[len(orders) % len(TEMPLATES)]
        order = Order(rng.choice(list(ITEMS)), quantity(rng, template), rng.choice(CITIES))
        orders.setdefault(message(rng, template, order), order)
    shuffled = list(orders.items())
    rng.shuffle(shuffled)
    return [
        {"id": f"order-{n:04}", "prompt": prompt(text), "completion": order.as_json()}
        for n, (text, order) in enumerate(shuffled, start=1)
    ]


def golden_cases() -> list[dict[str, object]]:
    """Return the hand-written cases, each with its right answer."""
    lines = (HERE / "golden.txt").read_text(encoding="utf-8").splitlines()
    cases: list[dict[str, object]] = []
    for line in lines:
        if line.startswith("#"):
            continue
        name, tag, text, item, count, city = line.split("|")
        expect = [
            {"type": "json_schema", "schema": SCHEMA},
            {"type": "json_equals", "value": Order(item, int(count), city)._asdict()},
        ]
        cases.append({"id": name, "tags": [tag], "prompt": prompt(text), "expect": expect})
    return cases


def prompt(text: str) -> str:
    return f"{text}\n\n{INSTRUCTION}"


def quantity(rng: random.Random, template: str) -> int:
    """Return a random quantity: mostly small, and at least 2 if the template uses the plural."""
    usual = [rng.randint(2, 20), rng.randint(1, 9), rng.choice(list(PHRASES)), rng.randint(21, 250)]
    count = rng.choice(usual) if rng.random() < 0.5 else rng.randint(2, 20)
    return max(2, count) if "{items}" in template else count


def message(rng: random.Random, template: str, order: Order) -> str:
    """Return an informal message for ``order``, with typos, and sometimes in upper or lower case."""
    for plain, typos in TYPOS.items():
        if rng.random() < 0.4:
            template = template.replace(plain, rng.choice(typos))
    others = [count for count in range(2, 15) if count != order.quantity]
    text = template.format(
        order=order_phrase(rng, order),
        count=count_phrase(rng, order.quantity).removesuffix(" of"),
        digits=order.quantity,
        item=order.item,
        items=ITEMS[order.item],
        other=count_phrase(rng, rng.choice(others)).removesuffix(" of"),
        number=rng.randint(11, 399),
        city=order.city,
        day=rng.choice(DAYS),
    )
    way = rng.random()
    return text.lower() if way < 0.15 else text.upper() if way < 0.19 else text


def order_phrase(rng: random.Random, order: Order) -> str:
    """Return a quantity with its item: "3 desk lamps", "desk lamps (3)", "a desk lamp"."""
    if order.quantity == 1:
        article = "an" if order.item[0] in "aeiouAEIO" else "a"
        return rng.choice([f"1 {order.item}", f"one {order.item}", f"{article} {order.item}"])
    items = ITEMS[order.item]
    if rng.random() < 0.7:
        return f"{count_phrase(rng, order.quantity)} {items}"
    return rng.choice(
        [
            f"{order.quantity}x {order.item}",
            f"{order.quantity} x {items}",
            f"{order.item} x{order.quantity}",
            f"{items} ({order.quantity})",
        ]
    )


def count_phrase(rng: random.Random, count: int) -> str:
    """Return a way to write a quantity before its item: 12 is "12", "twelve" or "a dozen"."""
    ways = [str(count)]
    if count < len(NUMBERS):
        ways.append(NUMBERS[count])
    if count in PHRASES:
        ways += [PHRASES[count]] * 2
    return rng.choice(ways)


if __name__ == "__main__":
    sys.exit(main(check="--check" in sys.argv[1:]))
