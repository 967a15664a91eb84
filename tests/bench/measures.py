"""Run the parts of a benchmark, print the measurements as a table, and write them to a JSON file."""

import json
import sys
from collections.abc import Callable, Iterable, Mapping
from dataclasses import asdict, dataclass, replace

from support.helm import ROOT

RESULTS = ROOT / "build" / "bench"


@dataclass(frozen=True)
class Measure:
    """One measurement, which is a row of the result table."""

    measure: str
    value: float
    unit: str
    target: str = ""
    peer: str = ""
    versions: str = ""
    part: str = ""


def run(name: str, parts: Mapping[str, Callable[[], Iterable[Measure]]], versions: str) -> int:
    """Run the parts that the command line names, or all parts. The file keeps earlier results of other parts.

    Returns 1 if a part raised SystemExit, else 0: a missed target is a result and not an error. After a part
    that failed, the other parts run.
    """
    file = RESULTS / f"{name}.json"
    RESULTS.mkdir(parents=True, exist_ok=True)
    code = 0
    for part in sys.argv[1:] or parts:
        measured = []
        try:
            for m in parts[part]():
                print(f"{m.measure:<52}  {m.value:>8g} {m.unit:<8} {m.target:<8} {m.peer}", flush=True)
                measured.append(replace(m, versions=versions, part=part))
        except SystemExit as error:
            sys.stderr.write(f"the part {part} failed: {error}\n")
            code = 1
            continue
        # Write after each part, because one may take half an hour.
        before = [Measure(**m) for m in json.loads(file.read_text())] if file.exists() else []
        kept = [m for m in before if m.part != part and m.part in parts]
        in_order = sorted([*kept, *measured], key=lambda m: list(parts).index(m.part))
        file.write_text(json.dumps([asdict(m) for m in in_order], indent=1) + "\n")
    return code
