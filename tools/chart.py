"""Copy the CustomResourceDefinitions into the chart, because Helm packages only files in the chart's
folder."""

import sys
from collections.abc import Sequence
from pathlib import Path

ROOT = Path(__file__).parents[1]
CRDS = ROOT / "crds"
COPIES = ROOT / "helm" / "tunegate" / "files"


def main(arguments: Sequence[str]) -> int:
    """Write the copies. With ``--check``, print which copies are out of date instead, and return 1 if there
    are any."""
    wanted = {path.name: path.read_bytes() for path in CRDS.glob("*.yaml")}
    present = {path.name: path.read_bytes() for path in COPIES.glob("*.yaml")}
    different = sorted(
        name for name in wanted.keys() | present.keys() if wanted.get(name) != present.get(name)
    )
    if "--check" in arguments:
        for name in different:
            print(f"{COPIES.relative_to(ROOT) / name} differs from crds/{name}: run `make generate`")
        return int(bool(different))
    COPIES.mkdir(exist_ok=True)
    for name in different:
        if name in wanted:
            (COPIES / name).write_bytes(wanted[name])
        else:
            (COPIES / name).unlink()
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
