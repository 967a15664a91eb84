"""Find the data files in the folder of a data set.

Two layouts are read: that of ``save_to_disk`` of the library ``datasets``, and that of repositories on the
Hugging Face Hub, which is also that of any folder with files of one format. In the second layout, the names
of files and folders name the splits, with the same words as in ``datasets``.
"""

import json
import re
from collections import defaultdict
from collections.abc import Collection
from pathlib import Path
from typing import Any

from tunegate_api.meta import summarize
from tunegate_trainer.fetch.sources import source_files
from tunegate_trainer.process.errors import BadDataError

_STATE, _SPLITS = "state.json", "dataset_dict.json"
"""The files in which ``save_to_disk`` lists the files of a data set, and its splits."""
_NO_DATA = (_STATE, _SPLITS, "dataset_info.json", "dataset_infos.json")
_WORDS = {
    "train": ("train", "training"),
    "validation": ("validation", "valid", "val", "dev"),
    "test": ("test", "testing", "eval", "evaluation"),
}
"""The words in the name of a file or folder that name its split."""
_SHARD = re.compile(r"(?P<split>\w+)-\d{5}-of-\d{5}\.")
"""The names of files that ``push_to_hub`` writes."""
_SHOWN = 8
"""Maximum number of names in an error."""


def data_files(folder: Path, field: str, endings: Collection[str]) -> list[Path]:
    """Return the files of the training split in their order. If there is only one split, it is used.

    Files are found by the ``endings`` of their names. Raises :class:`BadDataError` if the folder has no data
    files, if it has several splits but none is called train, and if the files are in several folders, because
    these may be different data sets.
    """
    if (folder / _SPLITS).is_file():
        split = _choose_split([str(split) for split in _listed(folder / _SPLITS, field, "splits")], field)
        return data_files(_child(folder, split, _SPLITS, field), field, endings)
    if (folder / _STATE).is_file():
        listed = _listed(folder / _STATE, field, "_data_files")
        names = [one.get("filename") if isinstance(one, dict) else one for one in listed]
        return [_child(folder, name, _STATE, field) for name in names]
    by_split: dict[str, list[Path]] = defaultdict(list)
    for file in source_files(folder):
        if file.suffix.lower() in endings and file.name not in _NO_DATA:
            by_split[_split(file.relative_to(folder))].append(file)
    if not by_split:
        present = [entry.name for entry in sorted(folder.iterdir())]
        raise BadDataError(
            f"{field}: the folder has no data files ({', '.join(sorted(endings))})",
            f"it has: {summarize(present, _SHOWN)}" if present else "it is empty",
        )
    chosen = by_split[_choose_split(list(by_split), field)]
    parents = sorted({file.parent.relative_to(folder).as_posix() for file in chosen})
    if len(parents) > 1:
        raise BadDataError(
            f"{field}: the data files are in several folders: {summarize(parents, _SHOWN)}",
            "they may be different data sets: set uri to one of these folders",
        )
    return chosen


def _choose_split(splits: list[str], field: str) -> str:
    if len(splits) == 1:
        return splits[0]
    if "train" in splits:
        return "train"
    found = summarize(sorted(split or "(files without a split)" for split in splits), _SHOWN)
    raise BadDataError(
        f"{field}: the folder has the splits {found}, but none is called train",
        "set uri to the folder or file of one split",
    )


def _split(relative: Path) -> str:
    """Return the split that the path of a file names, or an empty string. The name of the file comes first,
    and then those of its folders, from the inner ones to the outer ones."""
    for part in reversed(relative.parts):
        words = set(re.split(r"[^a-z0-9]+", part.lower()))
        for split, names in _WORDS.items():
            if not words.isdisjoint(names):
                return split
    shard = _SHARD.match(relative.name)
    return shard["split"] if shard else ""


def _listed(path: Path, field: str, key: str) -> list[Any]:
    """Return a list in a file that ``save_to_disk`` wrote."""
    try:
        found = json.loads(path.read_bytes())[key]
    except (ValueError, KeyError, TypeError):
        found = None
    if not isinstance(found, list) or not found:
        raise BadDataError(f"{field}: {path.name} has no list {key}", "save the data set again")
    return found


def _child(folder: Path, name: Any, listed_in: str, field: str) -> Path:
    """Return a file or folder in ``folder`` that the file ``listed_in`` names."""
    path = folder / str(name)
    if path.parent != folder or not path.exists():
        raise BadDataError(
            f"{field}: {listed_in} lists {name}, which is not in the folder", "copy the whole data set"
        )
    return path
