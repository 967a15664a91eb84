"""Random records of one set: of golden cases, of safety cases, of held-out rows."""

from fractions import Fraction
from math import ceil
from typing import Any

from support.judgements.dice import Dice, changed, common, faulty, outcomes, points, share_near

TAGS = ("critical", "style", "pii", "long")
SIZES = (1, 5, 10, 20, 20, 25, 25, 40, 40, 50, 50, 60, 60, 100, 100)

Record = dict[str, Any]


def digest(dice: Dice) -> str:
    return f"{dice.between(0, 15):x}" * 64


def case_set(dice: Dice, total: int | None = None) -> Record:
    total = dice.pick(SIZES) if total is None else total
    record: Record = {"sha256": digest(dice), "ids": [f"case-{i}" for i in range(total)]}
    if dice.chance(0.5):
        record["tags"] = [dice.some(TAGS, 0.15) for _ in range(total)]
    if dice.chance(0.3):
        size = dice.pick([1, 2, 2, 3, 5])
        record["groups"] = [i // size if dice.chance(0.9) else total + i for i in range(total)]
    return record


def _names(dice: Dice, record: Record) -> list[str]:
    """Return tags and ids that rules can name. Rarely, no case has one of them."""
    absent = ["absent"] if dice.chance(0.1) else []
    return [*(TAGS if record.get("tags") else ()), *record["ids"][:3], *absent]


def thresholds(dice: Dice, cases: Record, expected: str) -> Record:
    """Return the thresholds of a gate as records have them, often close to the ``expected`` outcomes."""
    names, total = _names(dice, cases), len(cases["ids"])
    wire: Record = {
        "policy": dice.pick(["Points", "Points", "Points", "NonInferior"]),
        "maxDropPoints": points(dice),
        "maxDropBetweenCheckpoints": points(dice),
        "onRegression": dice.pick(["Confirm", "Confirm", "Immediate"]),
        **(
            common(dice, names) if dice.chance(0.35) else {"mustPass": [], "advisory": [], "requiredTags": []}
        ),
    }
    if dice.chance(0.5):
        wire["minPassRate"] = share_near(dice, expected.count("p"), total)
    if dice.chance(0.25):
        wire["maxRelativeDrop"] = dice.pick(["0.05", "0.1", "0.25", "0.5", "1"])
    if dice.chance(0.4):
        wire["maxNewFailures"] = dice.pick(["0", "1", "2", "3", "5%", "10%", "0%", "2.5%", "100%"])
    return wire


def rules(dice: Dice, cases: Record, expected: str) -> Record:
    """Return the same thresholds as exact numbers."""
    wire = thresholds(dice, cases, expected)
    limit = wire.get("maxNewFailures")
    if limit is not None:
        limit = str(Fraction(limit[:-1]) / 100) if limit.endswith("%") else int(limit)
    return {
        "minPassRate": _exact(wire.get("minPassRate")),
        "policy": wire["policy"],
        "maxDropPoints": _exact(wire["maxDropPoints"]),
        "maxRelativeDrop": _exact(wire.get("maxRelativeDrop")),
        "maxNewFailures": limit,
        "maxDropBetweenCheckpoints": _exact(wire["maxDropBetweenCheckpoints"]),
        "confirm": wire["onRegression"] == "Confirm",
        **{name: wire[name] for name in ("mustPass", "advisory", "requiredTags")},
        "sealed": dice.pick([None, None, None, "3/10", "1/2", "1/20"]),
    }


def _exact(text: str | None) -> str | None:
    return None if text is None else str(Fraction(text))


def golden(dice: Dice) -> Record:
    cases = case_set(dice)
    before = outcomes(dice, len(cases["ids"]))
    drop = Fraction(points(dice))
    now = changed(dice, before, drop)
    limits = rules(dice, cases, now)
    if dice.chance(0.7):
        limits["maxDropPoints"] = str(drop)
    names = dice.some(("BaseModel", "LastPublished", "Anchor"), 0.6)
    baselines = [[name, baseline(dice, cases, before)] for name in names]
    return {"kind": "Golden", "cases": cases, "outcomes": now, "rules": limits, "baselines": baselines}


def baseline(dice: Dice, cases: Record, letters: str) -> Record:
    by_case = dice.chance(0.85)
    return {
        "sha256": cases["sha256"] if dice.chance(0.97) else digest(dice),
        "outcomes": None
        if dice.chance(0.03)
        else letters
        if by_case
        else "".join(sorted(letters, reverse=True)),
        "byCase": by_case,
        "byCaseLater": dice.chance(0.3),
        "version": dice.pick(["", "v1"]),
        "problem": "its server is unreachable" if dice.chance(0.03) else "",
    }


def stop(dice: Dice) -> Record:
    cases = case_set(dice)
    found = history(dice, len(cases["ids"]), limit := Fraction(points(dice)))
    limits = rules(dice, cases, found[-1][1]) | {"maxDropBetweenCheckpoints": str(limit)}
    return {"kind": "Stop", "cases": cases, "rules": limits, "history": found}


def history(dice: Dice, total: int, limit: Fraction) -> list[list[Any]]:
    """Return the outcomes at a few steps. Often, a later one is worse than the best by about ``limit``."""
    found = [[0 if dice.chance(0.8) else 5, outcomes(dice, total)]]
    for number in range(dice.between(0, 4)):
        known = found[-1][1] if dice.chance(0.4) else max((letters for _, letters in found), key=_passed)
        letters = changed(dice, known, limit) if dice.chance(0.8) else outcomes(dice, total)
        found.append([10 * (number + 1), letters])
    return found


def _passed(letters: str) -> int:
    return letters.count("p")


def safety_cases(dice: Dice) -> Record:
    unsafe, harmless = dice.pick([0, 1, 5, 10, 20, 20]), dice.pick([1, 10, 20, 20, 20, 40, 40])
    kinds = [[kind, "drugs"] for kind in ["Unsafe"] * unsafe + ["Harmless"] * harmless]
    if unsafe and dice.chance(0.03):
        kinds = kinds[:unsafe]
    if dice.chance(0.02):
        kinds[0] = dice.pick([[], ["Other"]])
    return {"sha256": digest(dice), "ids": [f"request-{i}" for i in range(len(kinds))], "tags": kinds}


def safety_outcomes(dice: Dice, cases: Record, before: str, limit: Fraction) -> str:
    """Return outcomes whose increase over the outcomes ``before`` is often close to the limit of an axis."""
    found, tags = list(before), cases["tags"]
    for kind in ("Unsafe", "Harmless"):
        places = [i for i, each in enumerate(tags) if kind in each and i < len(before)]
        most = ceil(limit * len(places) / 100) if kind == "Harmless" else dice.pick([0, 1, 2])
        passing = [i for i in places if before[i] == "p"]
        for i in dice.sample(passing, max(0, most + dice.pick([-1, -1, -1, 0, 0, 1]))):
            found[i] = "f"
    return faulty(dice, "".join(found))


def with_gaps(dice: Dice, letters: str) -> str:
    """Return outcomes of which one to three were not measured."""
    found = list(letters)
    for i in dice.sample(range(len(found)), dice.between(1, 3)):
        found[i] = dice.pick("et")
    return "".join(found)


def safety_limits(dice: Dice) -> Record:
    return {
        "maxUnsafeIncrease": dice.pick([0, 0, 0, 1, 2]),
        "maxOverRefusalIncreasePoints": _exact(points(dice)),
    }


def safety(dice: Dice) -> Record:
    cases, limits = safety_cases(dice), safety_limits(dice)
    before = outcomes(dice, len(cases["ids"]))
    now = safety_outcomes(dice, cases, before, Fraction(limits["maxOverRefusalIncreasePoints"]))
    base = None if dice.chance(0.03) else with_gaps(dice, before) if dice.chance(0.4) else before
    return {"kind": "Safety", "cases": cases, "outcomes": now, "baseOutcomes": base, "limits": limits}


def safety_stop(dice: Dice) -> Record:
    cases, limits = safety_cases(dice), safety_limits(dice)
    first, limit = outcomes(dice, len(cases["ids"])), Fraction(limits["maxOverRefusalIncreasePoints"])
    later = [safety_outcomes(dice, cases, first, limit) for _ in range(dice.between(0, 3))]
    found = [[10 * number, letters] for number, letters in enumerate([first, *later])]
    record = {"kind": "SafetyStop", "cases": cases, "limits": limits, "history": found}
    return record | {"confirm": dice.chance(0.6)}


def task(dice: Dice) -> Record:
    cases = case_set(dice, dice.pick([0, 1, 5, 10, 25, 100]))
    letters = outcomes(dice, len(cases["ids"]))
    minimum = str(Fraction(share_near(dice, letters.count("p"), len(letters))))
    return {
        "kind": "Task",
        "name": "exact_match",
        "cases": cases,
        "outcomes": letters,
        "min": minimum,
    }


def counted(dice: Dice) -> Record:
    cases, name = case_set(dice, dice.pick([0, 1, 5, 10, 25])), dice.pick(["f1", "f1", "rouge_l", "custom"])
    letters = outcomes(dice, len(cases["ids"]))
    average = dice.pick([None, "Micro", "Macro"]) if name == "f1" else None
    record = {"kind": "Counted", "name": name, "cases": cases, "outcomes": letters}
    return record | {"entries": entries(dice, name, letters), "average": average}


def entries(dice: Dice, name: str, letters: str) -> str:
    """Return the entries of a count-based metric, rarely with one that is invalid or missing."""
    labels = dice.between(1, 4)
    found = [_entry(dice, name, letter, labels) for letter in letters]
    if found and dice.chance(0.05):
        found[dice.between(0, len(found) - 1)] = dice.pick(["-", "3/2", "x", "0/0", "1>"])
    if dice.chance(0.02):
        found = found[:-1]
    return " ".join(found)


def _entry(dice: Dice, name: str, letter: str, labels: int) -> str:
    if letter not in "pft":
        return "-"
    if name == "f1":
        expected = dice.between(0, labels - 1)
        others = [str(label) for label in range(labels) if label != expected] + ["-"]
        return f"{expected}>{expected if letter == 'p' else dice.pick(others)}"
    most = dice.between(1, 20)
    return f"{most if letter == 'p' else dice.between(0, most)}/{most}"


def published(dice: Dice) -> Record:
    cases = case_set(dice)
    letters = outcomes(dice, len(cases["ids"]))
    limits = thresholds(dice, cases, letters)
    gate = {
        "spec": {"thresholds": limits, "baselines": ["LastPublished"], "approval": "NotRequired"}
        | {"override": "NotAllowed", "dryRun": False},
        "sha256": cases["sha256"] if dice.chance(0.97) else digest(dice),
    }
    found = [
        {"gate": [version(dice, cases, letters, f"v{target}-{i}") for i in range(dice.between(1, 2))]}
        for target in range(dice.between(1, 3))
    ]
    return {"kind": "Published", "gates": {"gate": gate}, "sets": {"golden/gate": cases}, "found": found}


def version(dice: Dice, cases: Record, letters: str, name: str) -> Record:
    """Return a published version whose outcomes are close to ``letters``."""
    by_case = dice.chance(0.85)
    outcomes = changed(dice, letters, Fraction(5)) if dice.chance(0.6) else letters
    record: Record = {
        "sha256": cases["sha256"] if dice.chance(0.97) else digest(dice),
        "outcomes": outcomes if by_case else "".join(sorted(faulty(dice, outcomes), reverse=True)),
        "byCase": by_case,
        "version": f"pvc://models/{name}",
    }
    if dice.chance(0.1):
        record["rejudged"] = True
    if dice.chance(0.04):
        record["problem"] = "its evidence is damaged"
    return record


def agreement(dice: Dice) -> Record:
    """Return counts that are often close to the minimum."""
    totals = [dice.pick([0, 1, 5, 10, 20, 50, 100]) for _ in range(3)]
    found = [max(0, min(each, each * 4 // 5 + dice.pick([-1, 0, 0, 1, each]))) for each in totals]
    of = dice.pick(["Judge", "Guardrail", "Refusals"])
    names = {
        "Judge": ("bad", "bad_found", "good", "good_accepted"),
        "Guardrail": ("safe", "safe_accepted", "unsafe", "unsafe_flagged"),
        "Refusals": ("compliant", "compliant_found", "refused", "refused_found"),
    }[of]
    counts = dict(zip(names, (totals[0], found[0], totals[1], found[1]), strict=True))
    if of == "Guardrail" and dice.chance(0.5):
        counts |= {"refusals": totals[2], "refusals_accepted": found[2]}
    shares = {
        "minRecall": dice.pick(["0.5", "0.7", "0.8"]),
        "minSpecificity": dice.pick(["0.5", "0.8", "0.99"]),
    }
    return {"kind": "Agreement", "of": of, "counts": counts, **(shares if of == "Judge" else {})}
