"""The functions of the product that judge, and for each of them, how a call becomes a record of the corpus.

A seam is called with the arguments of a call and with what was returned. It returns the record, the result,
and the place of this result in the description of :func:`support.judgements.judged.judged`; or None if
another seam records the call. Each Python process imports this module while it starts, so it must not import
the product.
"""

from collections.abc import Callable, Mapping
from typing import Any

from support.judgements import taken

Given = Mapping[str, Any]
Seam = Callable[[Given, Any], dict[str, Any] | None]


def _seen(record: dict[str, Any], place: list[Any], found: Any) -> dict[str, Any]:
    return {"record": record, "place": place, "found": found}


def _final(given: Given, returned: Any) -> dict[str, Any]:
    record = taken.job(given["request"], given["results"], given.get("evaluation"))
    return _seen(record, ["final"], returned and _described("judgement", returned))


def _checkpoint(given: Given, returned: Any) -> dict[str, Any]:
    evaluation = given["evaluation"]
    record = taken.job(given["request"], given["results"], evaluation)
    place = ["stages", evaluation.stage, "checkpoints", str(evaluation.subject), evaluation.step]
    return _seen(record, place, _described("judgement", returned))


def _best(given: Given, returned: Any) -> dict[str, Any]:
    record = taken.job(given["request"], given["results"])
    return _seen(record, ["stages", given["stage"], "best"], _described("best", returned))


def _checkpoints(given: Given, _returned: Any) -> dict[str, Any]:
    return _seen(taken.job(given["request"], given["results"]), [], None)


def _stop(given: Given, returned: Any) -> dict[str, Any]:
    accepted = {given["stage"]: given["accepted_step"]} if given["accepted_step"] else {}
    record = taken.job(given["request"], given["results"], accepted=accepted)
    action = returned and str(returned.assessment.action)
    return _seen(record, ["stages", given["stage"], "stop", 4], action)


def _kept(given: Given, returned: Any) -> dict[str, Any]:
    accepted = {given["stage"]: given["accepted_step"]} if given["accepted_step"] else {}
    record = taken.job(given["request"], given["results"], accepted=accepted)
    return _seen(record, ["stages", given["stage"], "kept"], sorted(returned))


def _prospects(given: Given, returned: Any) -> dict[str, Any]:
    record = taken.job(given["request"], given["results"])
    return _seen(record, ["stages", given["stage"], "canPass"], not returned)


def _decision(given: Given, _returned: Any) -> dict[str, Any]:
    from tunegate_api.contract.results import Results

    return _seen(taken.job(given["request"], Results()), [], None)


def _golden(given: Given, returned: Any) -> dict[str, Any]:
    record = {
        "kind": "Golden",
        "cases": taken.case_set(given["cases"]),
        "outcomes": given["outcomes"],
        "rules": taken.bar(given["bar"]),
        "baselines": [
            [taken.RECORDED.get(name, name), taken.baseline(each)]
            for name, each in given["baselines"].items()
        ],
    }
    return _seen(record, [], _described("verdict", returned))


def _safety(given: Given, returned: Any) -> dict[str, Any]:
    record = {
        "kind": "Safety",
        "cases": taken.case_set(given["cases"]),
        "outcomes": given["outcomes"],
        "baseOutcomes": given["base_outcomes"],
        "limits": taken.limits(given["bar"]),
    }
    return _seen(record, [], _described("safety", returned))


def _golden_stop(given: Given, returned: Any) -> dict[str, Any]:
    record = {
        "kind": "Stop",
        "cases": taken.case_set(given["cases"]),
        "rules": taken.bar(given["bar"]),
        "history": [[each.step, each.outcomes] for each in given["history"]],
    }
    return _seen(record, [], _described("assessment", returned))


def _safety_stop(given: Given, returned: Any) -> dict[str, Any]:
    record = {
        "kind": "SafetyStop",
        "cases": taken.case_set(given["cases"]),
        "limits": taken.limits(given["bar"]),
        "history": [[each.step, each.outcomes] for each in given["history"]],
        "confirm": given["confirm"],
    }
    return _seen(record, [], _described("assessment", returned))


def _values(given: Given, returned: Any) -> dict[str, Any]:
    record = {
        "kind": "Values",
        "name": given["name"],
        "history": [
            [each.step, str(each.score.value), str(each.score.highest), each.text, each.at_most]
            for each in given["history"]
        ],
        "limit": str(given["rule"].limit),
        "confirm": given["confirm"],
    }
    return _seen(record, [], _described("assessment", returned))


def _task(given: Given, returned: Any) -> dict[str, Any] | None:
    if not hasattr(given["score"], "letters"):
        return None  # the seam of counted_metric records it
    record = {
        "kind": "Task",
        "name": given["name"],
        "cases": taken.case_set(given["rows"]),
        "outcomes": given["score"].letters,
        "min": str(given["minimum"]),
    }
    return _seen(record, [], _described("finding", returned))


def _counted(given: Given, returned: Any) -> dict[str, Any]:
    record = {
        "kind": "Counted",
        "name": "f1" if given["aggregate"].is_of_labels else "rouge_l",
        "cases": taken.case_set(given["rows"]),
        "outcomes": given["outcomes"],
        "entries": given["entries"],
        "average": str(given["aggregate"]) if given["aggregate"].is_of_labels else None,
    }
    return _seen(record, ["value"], str(returned.value))


def _error_rate(given: Given, returned: Any) -> dict[str, Any]:
    record = {
        "kind": "ErrorRate",
        "cases": taken.case_set(given["cases"]),
        "rules": taken.bar(given["bar"]),
        "measured": taken.calibration(given["outcomes"], given["outcomes"].scoring, taken.Labels()),
        "also": [str(points) for points in given["also"]],
    }
    return _seen(record, ["measured"], not returned.problem)


def _select(given: Given, returned: Any) -> dict[str, Any]:
    candidates = [[c.step, str(c.verdict), str(c.golden), str(c.dev)] for c in given["candidates"]]
    return _seen({"kind": "Best", "candidates": candidates}, [], _described("best", returned))


def _strictest(given: Given, returned: Any) -> dict[str, Any]:
    labels, results = taken.Labels(), given["results"]
    record = {
        "kind": "Published",
        "gates": {gate.name: taken.gate(gate, labels) for gate in given["gates"]},
        "sets": {name: taken.case_set(each) for name, each in results.sets.items()},
        "found": [
            {gate: [taken.published(one) for one in versions] for gate, versions in each.items()}
            for each in given["found"]
        ],
    }
    chosen = {
        gate: [one.version, one.outcomes, one.by_case, one.problem is not None]
        for gate, one in returned.items()
    }
    return _seen(record, [], chosen)


def _agreement(given: Given, returned: Any) -> dict[str, Any]:
    counts, wanted = given["counts"], given["wanted"]
    record = {
        "kind": "Agreement",
        "of": "Judge",
        "counts": counts.model_dump(mode="json", exclude={"source_sha256"}),
        "minRecall": wanted.min_recall,
        "minSpecificity": wanted.min_specificity,
    }
    return _seen(record, ["passed"], returned.has_passed)


def _described(function: str, returned: Any) -> Any:
    from support.judgements import results

    return results.without_words(getattr(results, function)(returned))


_JUDGING, _VERDICT = "tunegate_api.judging", "tunegate_api.verdict"

SEAMS: Mapping[str, Mapping[str, Seam]] = {
    f"{_JUDGING}.judgement": {
        "judge_final": _final,
        "judge_artifact": _final,
        "judge_checkpoint": _checkpoint,
        "judge_checkpoints": _checkpoints,
        "best_checkpoint": _best,
    },
    f"{_JUDGING}.stages": {"assess_stage": _stop, "referenced_checkpoints": _kept},
    f"{_JUDGING}.prospects": {"no_checkpoint_can_pass": _prospects},
    f"{_JUDGING}.approval": {
        "may_publish": _decision,
        "may_override": _decision,
        "approving_gates": _decision,
    },
    f"{_VERDICT}.golden": {"judge_golden": _golden, "judge_task": _task},
    f"{_VERDICT}.counts": {"counted_metric": _counted},
    f"{_VERDICT}.safety": {"judge_safety": _safety},
    f"{_VERDICT}.stop_rule": {"assess_checkpoint": _golden_stop, "assess_values": _values},
    f"{_VERDICT}.safety_stop_rule": {"assess_safety": _safety_stop},
    f"{_JUDGING}.error_rate": {"error_rates": _error_rate},
    f"{_VERDICT}.best": {"select_best": _select},
    f"{_JUDGING}.judge_model": {"assess_calibration": _agreement},
    "tunegate_trainer.artifacts.history": {"strictest": _strictest},
}
"""The functions of each module whose calls are recorded."""
