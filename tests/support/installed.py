"""Install a package that has entry points for scorers, without pip."""

from collections.abc import Mapping
from pathlib import Path

from tunegate_trainer.graders.custom import GROUP


def install(folder: Path, package: str, points: Mapping[str, str], version: str = "1.0") -> None:
    """Write the metadata of a package to a folder of ``sys.path``. ``points`` maps each entry point to
    ``MODULE:OBJECT``."""
    metadata = folder / f"{package.replace('-', '_')}-{version}.dist-info"
    metadata.mkdir()
    (metadata / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {package}\nVersion: {version}\n")
    lines = [f"[{GROUP}]", *(f"{name} = {value}" for name, value in points.items())]
    (metadata / "entry_points.txt").write_text("\n".join(lines))
