"""Find the folder of a PersistentVolumeClaim on a laptop.

It is the folder with the claim's name next to the manifests, or otherwise a folder in ``runs/volumes``.
"""

from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from tunegate_client.laptop.manifests import Project, RefusedError
from tunegate_operator.engine.cluster import Object


def plan_links(volumes: Path, projects: Iterable[Project]) -> dict[Path, Path]:
    """Return the symbolic links to create in ``volumes``, with their targets.

    Raises RefusedError if a claim already refers to another folder than the one next to the manifests, so
    that no job uses the data of other manifests by mistake. Also raises RefusedError if the link of a claim
    is broken, and no folder next to the manifests can replace its target.
    """
    wanted: dict[Path, Path] = {}
    for project in projects:
        for claim in sorted(claims_of(project.objects)):
            link, beside = volumes / claim, project.folder / claim
            if beside.is_dir():
                target = beside.resolve()
                _refuse_other(claim, target, wanted.setdefault(link, target))
            elif link.is_symlink() and not link.exists():
                raise RefusedError(
                    f"claim {claim}: {link} links to {link.readlink()}, which does not exist. Restore this "
                    f"folder, or remove the link {link}."
                )
    return {link: target for link, target in wanted.items() if _must_be_made(link, target)}


def make_links(links: Mapping[Path, Path]) -> None:
    """Create the planned symbolic links. Each link replaces a broken link or an empty folder of this name, if
    there is one."""
    for link, target in links.items():
        link.parent.mkdir(parents=True, exist_ok=True)
        if link.is_symlink():
            link.unlink()
        elif link.is_dir():
            link.rmdir()
        link.symlink_to(target)


def claims_of(objects: Iterable[Object]) -> set[str]:
    """Return the names of the claims that objects refer to, in pvc:// URIs or fields
    ``persistentVolumeClaim``."""
    return {claim for obj in objects if "spec" in obj for claim in _claims(obj["spec"])}


def _claims(value: Any) -> Iterator[str]:
    if isinstance(value, dict):
        if isinstance(claim := value.get("persistentVolumeClaim"), str):
            yield claim
        for part in value.values():
            yield from _claims(part)
    elif isinstance(value, list):
        for part in value:
            yield from _claims(part)
    elif isinstance(value, str) and value.startswith("pvc://"):
        yield urlsplit(value).netloc


def _must_be_made(link: Path, target: Path) -> bool:
    """Return whether the link must be created. Raises RefusedError if the claim refers to another folder than
    ``target``."""
    if link.is_symlink() and link.exists():
        _refuse_other(link.name, target, link.resolve())
        return False
    if link.is_dir() and any(link.iterdir()):
        _refuse_other(link.name, target, link.resolve())
        return False
    return True


def _refuse_other(claim: str, target: Path, present: Path) -> None:
    if target != present:
        raise RefusedError(
            f"claim {claim} already refers to the folder {present}, so it cannot refer to {target}. Give the "
            "claim another name in the manifests, or choose another runs folder with --runs."
        )
