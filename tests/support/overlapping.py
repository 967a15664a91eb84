"""Two jobs that publish to one URI. The second is worse."""

import copy
import json
from typing import Any

from support.builders import make_config_map
from support.command import ITEMS, manifests
from tunegate_api.contract.digests import sha256_text

Objects = list[dict[str, Any]]
WORSE_STEPS = 200


def good_and_worse(model: str, **changes: Any) -> tuple[Objects, Objects]:
    """Return the manifests of the job ``good`` with the gate and all inputs, and those of the job ``worse``.

    ``good`` learns to answer ``yes``, which passes all 20 cases. ``worse`` learns ``yes sir``, which passes
    the 15 cases that only require the word. It trains longer, so that it is still training when ``good`` is
    published.
    """
    golden = _golden(20)
    changes = {"publish": [{"uri": "pvc://models/shared"}], "model": {"uri": model}} | changes
    rows, _, gate, good = manifests("", "good", **changes)
    worse = manifests("", "worse", **changes)[-1]
    worse["spec"]["stages"][0]["training"]["maxSteps"] = WORSE_STEPS
    worse["spec"]["data"]["sources"][0]["configMap"] = "worse-rows"
    worse_rows = rows["data"]["train.jsonl"].replace('"yes"', '"yes sir"')
    gate["spec"]["sets"][0]["sha256"] = sha256_text(golden)
    gate["spec"]["sets"][0]["rules"] = [{"name": "all", "minPassRate": "50%"}]
    # The base model is no baseline here: its answers do not end, so their pass rate is arbitrary.
    gate["spec"]["compareWith"] = [{"type": "LastPublished"}]
    inputs = [
        rows,
        make_config_map("worse-rows", train__jsonl=worse_rows),
        make_config_map("cases", golden__jsonl=golden),
    ]
    return [*inputs, gate, good], [worse]


def with_grown_set(good: Objects, worse: Objects) -> Objects:
    """Return the manifests of the job ``worse`` with a gate of its own, whose golden set has five cases more
    than that of ``good``. The job trains as briefly as ``good``."""
    *_, gate, job = copy.deepcopy([*good[:-1], *worse])
    golden = _golden(25)
    gate["metadata"]["name"] = "golden-v2"
    gate["spec"]["sets"][0] = {
        "name": "golden",
        "source": {"configMap": "cases-v2"},
        "sha256": sha256_text(golden),
    }
    job["spec"]["gates"] = [{"name": "golden-v2"}]
    job["spec"]["stages"][0]["training"]["maxSteps"] = good[-1]["spec"]["stages"][0]["training"]["maxSteps"]
    return [make_config_map("cases-v2", golden__jsonl=golden), gate, job]


def with_other_failures(good: Objects, worse: Objects) -> tuple[Objects, Objects]:
    """Return the manifests of the jobs ``good`` and ``worse``, which train equally long and pass half of the
    cases, but not the same: ``good`` learns ``yes``, and ``worse`` learns ``no``."""
    good, (job,) = copy.deepcopy(good), copy.deepcopy(worse)
    rows, worse_rows, cases, gate, first = good
    golden = "".join(
        json.dumps(
            {
                "id": f"case-{i}",
                "prompt": f"golden order {i} {ITEMS[i % 6]}",
                "expect": [{"type": "equals", "value": ("yes", "no")[i % 2]}],
            }
        )
        + "\n"
        for i in range(20)
    )
    cases["data"] = {"golden.jsonl": golden}
    worse_rows["data"] = {"train.jsonl": rows["data"]["train.jsonl"].replace('"yes"', '"no"')}
    gate["spec"]["sets"][0]["sha256"] = sha256_text(golden)
    gate["spec"]["sets"][0]["rules"] = [{"name": "all", "minPassRate": "40%"}]
    job["spec"]["stages"][0]["training"]["maxSteps"] = first["spec"]["stages"][0]["training"]["maxSteps"]
    return good, [job]


def _golden(count: int) -> str:
    """Return a golden set, of which a quarter of the cases requires exactly ``yes``."""
    cases = [
        {
            "id": f"case-{i}",
            "prompt": f"golden order {i} {ITEMS[i % 6]}",
            "expect": [{"type": "contains" if i % 4 else "equals", "value": "yes"}],
        }
        for i in range(count)
    ]
    return "".join(json.dumps(case) + "\n" for case in cases)
