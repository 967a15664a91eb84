"""What every benchmark does with what it measured: a table, and a file for machines."""

import json
import sys
from collections.abc import Callable, Iterable, Mapping
from dataclasses import asdict, dataclass, replace

from support.helm import ROOT

RESULTS = ROOT / "build" / "bench"


@dataclass(frozen=True)
class Measure:
    """One line of the result."""

    measure: str
    value: float
    unit: str
    target: str = ""
    peer: str = ""
    versions: str = ""


def run(name: str, parts: Mapping[str, Callable[[], Iterable[Measure]]], versions: str) -> int:
    """Run the parts that the command line names, or all, in the order of the table.

    Returns 0: a missed target is a result, not an error.
    """
    measures: list[Measure] = []
    RESULTS.mkdir(parents=True, exist_ok=True)
    for part in sys.argv[1:] or parts:
        for m in parts[part]():
            print(f"{m.measure:<52}  {m.value:>8g} {m.unit:<8} {m.target:<8} {m.peer}", flush=True)
            measures.append(replace(m, versions=versions))
        # After each part, of which one may take half an hour.
        (RESULTS / f"{name}.json").write_text(json.dumps([asdict(m) for m in measures], indent=1) + "\n")
    return 0
