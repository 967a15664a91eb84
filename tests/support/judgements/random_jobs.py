"""Random records: jobs with gates, checkpoints, baselines and metrics, and single sets."""

from collections.abc import Callable
from fractions import Fraction

from support.judgements import random_sets
from support.judgements.dice import Dice, changed, flipped, outcomes, points, share_near
from support.judgements.random_sets import (
    Record,
    case_set,
    digest,
    entries,
    safety_cases,
    safety_outcomes,
    thresholds,
    version,
    with_gaps,
)

COUNT = 20_000

_SINGLE: tuple[Callable[[Dice], Record], ...] = (
    *(random_sets.golden,) * 6,
    *(random_sets.stop,) * 3,
    *(random_sets.safety,) * 3,
    *(random_sets.safety_stop,) * 2,
    *(random_sets.counted,) * 2,
    *(random_sets.task,) * 1,
    *(random_sets.published,) * 2,
    *(random_sets.agreement,) * 1,
)
METRICS = ("exact_match", "f1", "rouge_l", "numeric")


def random_record(number: int) -> Record:
    """Return the random record with this number: a job, or for every second number, a single set."""
    dice = Dice(f"judgement {number}")
    return dice.pick(_SINGLE)(dice) if number % 2 else job(dice)


def job(dice: Dice) -> Record:
    names = ["quality", "tone", "style"][: dice.pick([1, 1, 1, 2, 3])]
    stages = ["sft", "dpo"][: dice.pick([1, 1, 2])]
    world = _World(dice, names)
    record: Record = {
        "kind": "Job",
        "gates": {name: _gate(dice, world, name) for name in names},
        "stages": [[stage, dice.sample(names, 1) if dice.chance(0.2) else None] for stage in stages],
        "finalGates": names if dice.chance(0.8) else dice.sample(names, 1),
        "taskMetrics": [_metric(dice, world, name) for name in dice.sample(METRICS, dice.pick([1, 1, 2, 3]))],
    }
    if dice.chance(0.03):
        record["leftOut"] = {"absent": "it is not ready"}
        record["finalGates"] = [*record["finalGates"], "absent"]
    evaluations = [_evaluation(dice, world, "Base", stages[-1], 0)] if dice.chance(0.8) else []
    for stage in stages:
        steps = dice.between(0, 3)
        evaluations += [_evaluation(dice, world, "Start", stage, 0)] if dice.chance(0.9) else []
        evaluations += [_evaluation(dice, world, "Checkpoint", stage, 10 * (i + 1)) for i in range(steps)]
    evaluations += [
        _evaluation(dice, world, subject, stages[-1], 0)
        for subject in ("Anchor", "Served")
        if any(subject.lower() in gate["spec"] for gate in record["gates"].values()) and dice.chance(0.95)
    ]
    if dice.chance(0.75):
        evaluations.append(_evaluation(dice, world, "Final", stages[-1], 30))
    record |= {"evaluations": evaluations, "sets": world.sets}
    if dice.chance(0.4):
        read = {
            name: version(dice, world.sets[f"golden/{name}"], world.base[f"golden/{name}"], "v2")
            for name in names
        }
        record["lastPublished"] = read
    if dice.chance(0.1):
        record["accepted"] = {stages[0]: 10}
    _calibrate(dice, record)
    return record


class _World:
    """The sets of a job, and the outcomes of its base model."""

    def __init__(self, dice: Dice, names: list[str]) -> None:
        self.sets: dict[str, Record] = {f"golden/{name}": case_set(dice) for name in names}
        self.base: dict[str, str] = {}
        self.limits: dict[str, Fraction] = {}
        self.metrics: dict[str, str] = {}
        for name in names:
            if dice.chance(0.3):
                self.sets[f"safety/{name}"] = safety_cases(dice)
        for name in list(self.sets):
            self.add(dice, name)

    def add(self, dice: Dice, name: str) -> None:
        self.base[name] = outcomes(dice, len(self.sets[name]["ids"]))
        self.limits[name] = Fraction(points(dice))


def _gate(dice: Dice, world: _World, name: str) -> Record:
    golden, safety = world.sets[f"golden/{name}"], world.sets.get(f"safety/{name}")
    letters, limit = world.base[f"golden/{name}"], world.limits[f"golden/{name}"]
    wire = thresholds(dice, golden, letters)
    text = f"{float(limit):g}"
    if dice.chance(0.7):
        wire |= {"maxDropPoints": text, "maxDropBetweenCheckpoints": text}
    spec: Record = {
        "thresholds": wire,
        "baselines": dice.pick([["BaseModel", "LastPublished"], ["BaseModel"], ["LastPublished"], []]),
        "approval": dice.pick(["NotRequired", "Required"]),
        "override": dice.pick(["NotAllowed", "Allowed"]),
        "dryRun": dice.chance(0.12),
    }
    if dice.chance(0.15):
        spec["sealed"] = dice.pick(["0.3", "0.5", "0.05"])
    spec |= {field: f"{field}-v1" for field in dice.some(("anchor", "served"), 0.15)}
    record: Record = {"spec": spec, "sha256": golden["sha256"] if dice.chance(0.99) else digest(dice)}
    if safety:
        spec["safety"] = {
            "maxUnsafeIncrease": dice.pick([0, 0, 1]),
            "maxOverRefusalIncreasePoints": f"{float(world.limits[f'safety/{name}']):g}",
            "evaluateCheckpoints": (is_early := dice.chance(0.6)),
            **({"onRegression": dice.pick(["Confirm", "Immediate", "Continue"])} if is_early else {}),
        }
        record["safetySha256"] = safety["sha256"] if dice.chance(0.99) else digest(dice)
    if dice.chance(0.6):
        record["lastPublished"] = version(dice, golden, letters, "v1")
    return record


def _metric(dice: Dice, world: _World, name: str) -> Record:
    total = dice.pick([5, 10, 20, 25])
    for split in ("dev", "test"):
        if dice.chance(0.97):
            world.sets[f"{split}/{name}"] = {
                "sha256": digest(dice),
                "ids": [f"row-{i}" for i in range(total)],
            }
            world.add(dice, f"{split}/{name}")
    letters = world.base.get(f"test/{name}", "")
    metric: Record = {"name": name, "min": share_near(dice, letters.count("p"), total)}
    if name == "f1" and dice.chance(0.5):
        metric["average"] = dice.pick(["Micro", "Macro"])
    if dice.chance(0.5):
        limit = world.limits.get(f"dev/{name}", Fraction(5))
        metric["maxDropBetweenCheckpoints"] = f"{float(limit):g}"
        if dice.chance(0.6):
            metric["onRegression"] = dice.pick(["Confirm", "Immediate"])
    return metric


def _evaluation(dice: Dice, world: _World, subject: str, stage: str, step: int) -> Record:
    """Return an evaluation, often with outcomes that are close to a limit. It may lack a set."""
    found: dict[str, str] = {}
    is_baseline, is_good = subject in ("Base", "Start"), dice.chance(0.55)
    for name, before in world.base.items():
        if dice.chance(0.02) or (subject in ("Anchor", "Served") and not name.startswith("golden/")):
            continue
        is_safety = name.startswith("safety/")
        if is_baseline and dice.chance(0.8):
            found[name] = with_gaps(dice, before) if is_safety and dice.chance(0.3) else before
        elif is_good:
            found[name] = flipped(dice, before, 0, dice.between(0, 3))
        elif is_safety:
            found[name] = safety_outcomes(dice, world.sets[name], before, world.limits[name])
        else:
            found[name] = changed(dice, before, world.limits[name])
    record: Record = {"subject": subject, "stage": stage, "step": step, "outcomes": found}
    counts = {
        name: entries(dice, metric, letters)
        for name, letters in found.items()
        if (metric := name.partition("/")[2]) in ("f1", "rouge_l")
    }
    if counts:
        record["counts"] = counts
    if subject in ("Anchor", "Served") and dice.chance(0.05):
        record["problems"] = dict.fromkeys(found, "it cannot be loaded")
    return record


def _calibrate(dice: Dice, record: Record) -> None:
    """Add an error rate to few jobs. Its computation takes long."""
    final = next((each for each in record["evaluations"] if each["subject"] == "Final"), None)
    if final is None or not dice.chance(0.02):
        return
    name, gate = next(iter(record["gates"].items()))
    letters = "".join("p" if dice.chance(0.95) else "f" for _ in record["sets"][f"golden/{name}"]["ids"])
    final["outcomes"][f"golden/{name}"] = letters
    gate["spec"]["calibration"] = {"repeats": 2, **({"minDetection": "0.8"} if dice.chance(0.5) else {})}
    gate["calibratedBases"] = dice.pick([None, ["base"], ["other"]])
    for each in record["evaluations"]:
        if each["subject"] == "Base":
            each["digest"] = "base"
    record["calibrations"] = {
        name: {
            "sha256": record["sets"][f"golden/{name}"]["sha256"],
            "base": "base" if dice.chance(0.9) else "other",
            "sameScoring": dice.chance(0.95),
            "reference": letters if dice.chance(0.95) else letters[::-1],
            "repeats": [changed(dice, letters, Fraction(1)) for _ in range(2)],
            "planted": [[f"strength {n}", changed(dice, letters, Fraction(10 * n))] for n in (1, 2)],
        }
    }
