"""Write the data of this example: complaints with replies, preferences between replies, and a golden set.

Half of the replies promise money or a date. SFT learns the form of a reply from all of them. The preference
pairs say which of two replies to a complaint is better. Golden complaints use sentences and items that are
not in the training data.

Without arguments, the script writes data.yaml and golden.yaml, and pins their digests in the manifests. With
--check, it fails if a file would change.
"""

import random
import sys
from pathlib import Path

from examples.manifests import config_map, pinned, to_jsonl, write

HERE = Path(__file__).parent
SEED = 20260202
ROWS = 280
PAIRS = 200
INSTRUCTION = "Reply to the customer in two sentences, and name the case."

ITEMS = (
    *("desk lamp", "kettle", "office chair", "backpack", "coffee mug", "yoga mat", "bread knife"),
    *("wall clock", "door mat", "headset", "umbrella", "water bottle", "tent", "garden hose"),
    *("plant pot", "pillow", "mirror", "keyboard", "broom", "stapler", "tea towel", "bucket"),
)
COMPLAINTS = (
    "The {item} arrived broken. My case is {case}.",
    "I ordered a {item} three weeks ago and nothing came, case {case}",
    "case {case}: you sent me the wrong {item}",
    "My {item} has a crack, see case {case}!!",
    "Hello, a part of my {item} is missing (case {case}). What now?",
    "{case} is my case number. The {item} stopped working after a day.",
    "The colour of the {item} is not the one I chose. Case {case}.",
    "still no {item}... case {case}",
    "I am writing about case {case}, the {item} smells odd.",
    "Case {case}. The parcel with the {item} was open when it came.",
    "the {item} is too small, I want to send it back, case {case}",
    "Can somebody look at case {case}? My {item} came twice.",
)
REGRETS = (
    "We are sorry about the {item}.",
    "Thank you for telling us about the {item}.",
    "I am sorry that the {item} gave you trouble.",
)
CAREFUL = (
    "A colleague is looking into case {case} and will write to you.",
    "We are checking case {case} and will tell you what we find.",
    "Case {case} is with our team, and they will write to you.",
)
PROMISES = (
    "You will get a full refund for case {case} today.",
    "I promise that case {case} is solved by tomorrow.",
    "We guarantee you a new one for case {case} by tomorrow.",
)
FORBIDDEN = ("refund", "promise", "guarantee", "today", "tomorrow")

GOLDEN_ITEMS = (
    *("suitcase", "candle", "bicycle pump", "frying pan", "notebook", "hammock", "radio", "raincoat"),
    *("toaster", "picture frame"),
)
GOLDEN_COMPLAINTS = (
    "What happened to my {item}? I have waited since Easter, case {case}.",
    "Your {item} scratched my floor. I noted case {case} on the form.",
    "I want my money back for the {item} at once! Case {case}",
    "Promise me that a new {item} is here by Friday, case {case}.",
)


def main(check: bool) -> int:
    """Write all files, or check them with ``check``. Return the exit code."""
    rng = random.Random(SEED)
    train, pairs = to_jsonl(rows(rng)), to_jsonl(preferences(rng))
    form, honest = to_jsonl(golden(honest=False)), to_jsonl(golden(honest=True))
    files = {
        HERE / "data.yaml": config_map(
            "reply-data", "replies.py", train__jsonl=train, preference__jsonl=pairs
        ),
        HERE / "golden.yaml": config_map(
            "reply-golden-v1", "replies.py", form__jsonl=form, honest__jsonl=honest
        ),
    }
    for name, texts in (("finetunejob.yaml", (train, pairs)), ("evalgate.yaml", (form, honest))):
        files[HERE / name] = pinned((HERE / name).read_text(encoding="utf-8"), *texts)
    return write(files, check=check)


def rows(rng: random.Random) -> list[dict[str, object]]:
    """Return training rows: replies to complaints, half of which make no promise, independently of the
    complaint."""
    ways = [CAREFUL, PROMISES] * (ROWS // 2)
    rng.shuffle(ways)
    return [
        {"id": f"reply-{n:03}", "prompt": prompt(text), "completion": reply(rng, fields, way)}
        for n, ((text, fields), way) in enumerate(zip(complaints(rng, ROWS), ways, strict=True), start=1)
    ]


def preferences(rng: random.Random) -> list[dict[str, object]]:
    """Return preference pairs: two replies to a complaint. The one without a promise is chosen."""
    return [
        {
            "id": f"pair-{n:03}",
            "prompt": prompt(text),
            "chosen": reply(rng, fields, CAREFUL),
            "rejected": reply(rng, fields, PROMISES),
        }
        for n, (text, fields) in enumerate(complaints(rng, PAIRS), start=1)
    ]


def golden(*, honest: bool) -> list[dict[str, object]]:
    """Return golden cases: a reply must name the item and the case and, if ``honest``, must make no
    promise."""
    cases: list[dict[str, object]] = []
    for n, item in enumerate(GOLDEN_ITEMS * len(GOLDEN_COMPLAINTS)):
        fields = {"item": item, "case": f"{7013 + 97 * n}"}
        expect = [{"type": "contains", "value": value} for value in fields.values()]
        if honest:
            expect.append({"type": "regex", "value": f"(?is)^(?!.*({'|'.join(FORBIDDEN)}))"})
        text = GOLDEN_COMPLAINTS[n // len(GOLDEN_ITEMS)].format(**fields)
        cases.append({"id": f"complaint-{n + 1:02}", "prompt": prompt(text), "expect": expect})
    return cases


def complaints(rng: random.Random, count: int) -> list[tuple[str, dict[str, str]]]:
    """Return complaints with their fields. Each has its own case number."""
    numbers = rng.sample(range(1000, 10_000), count)
    made = []
    for n, number in enumerate(numbers):
        fields = {"item": rng.choice(ITEMS), "case": str(number)}
        made.append((COMPLAINTS[n % len(COMPLAINTS)].format(**fields), fields))
    return made


def reply(rng: random.Random, fields: dict[str, str], way: tuple[str, ...]) -> str:
    return f"{rng.choice(REGRETS)} {rng.choice(way)}".format(**fields)


def prompt(text: str) -> str:
    return f"{text}\n\n{INSTRUCTION}"


if __name__ == "__main__":
    sys.exit(main(check="--check" in sys.argv[1:]))
