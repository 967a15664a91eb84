"""Check that the target of every relative link in the repository's Markdown exists, and its anchor too.

Usage: ``python tools/check_links.py [FOLDER]``. The script prints ``file:line: problem`` for each broken
link, and exits with 1 if there are broken links. Links to other hosts are not checked, because a build must
not depend on other hosts.
"""

import re
import subprocess
import sys
import unicodedata
from collections.abc import Iterator, Sequence
from functools import cache
from pathlib import Path
from urllib.parse import unquote

LINK = re.compile(r"\]\(\s*<?([^)\s>]+)|^\s*\[[^\]]+\]:\s*<?([^\s>]+)|<a [^>]*href=\"([^\"]+)\"")
ANCHOR = re.compile(r"<[^>]+\b(?:id|name)=\"([^\"]+)\"")
HEADING = re.compile(r"^ {0,3}(#{1,6})\s+(.*?)\s*#*\s*$")
FENCE = re.compile(r"^\s*(`{3,}|~{3,})")
ELSEWHERE = re.compile(r"^[a-z][a-z0-9+.-]*:|^//", re.IGNORECASE)


def broken_links(folder: Path) -> list[str]:
    """Return one line for each broken relative link below ``folder``."""
    root = folder.resolve()
    return [
        f"{file.relative_to(root)}:{line}: {problem}"
        for file in sorted(_markdown_files(root))
        for line, target in _links(file)
        if (problem := _problem(root, file, target))
    ]


def _markdown_files(root: Path) -> list[Path]:
    """Return the Markdown files below ``root`` that Git does not ignore. Without Git, return all Markdown
    files."""
    listed = subprocess.run(
        ["git", "ls-files", "--cached", "--others", "--exclude-standard", "-z", "--", "*.md"],
        cwd=root,
        capture_output=True,
        text=True,
        check=False,
    )
    if listed.returncode:
        return list(root.rglob("*.md"))
    return [path for name in listed.stdout.split("\0") if name and (path := root / name).is_file()]


def _problem(root: Path, file: Path, target: str) -> str | None:
    """Return why a link is broken. Returns None if the link is valid, or leads to another host."""
    if ELSEWHERE.match(target):
        return None
    path, _, anchor = unquote(target).partition("#")
    to = (root / path.lstrip("/") if path.startswith("/") else file.parent / path).resolve() if path else file
    if not to.is_relative_to(root):
        return f"{target} leads out of the repository"
    if not to.exists():
        return f"{target} does not exist"
    if anchor and to.suffix == ".md" and anchor.lower() not in _anchors(to):
        return f"{target}: {to.relative_to(root)} has no heading #{anchor}"
    return None


def _links(file: Path) -> Iterator[tuple[int, str]]:
    for number, line in _prose(file):
        for match in LINK.finditer(re.sub(r"(`+).*?\1", "", line)):
            yield number, next(group for group in match.groups() if group)


@cache
def _anchors(file: Path) -> set[str]:
    """Return the anchors of headings and HTML ids in a file. They are named as on GitHub, where a number is
    appended to a repeated name."""
    anchors: set[str] = set()
    for _, line in _prose(file):
        anchors |= {name.lower() for name in ANCHOR.findall(line)}
        heading = HEADING.match(line)
        if heading is None:
            continue
        name, number = _slug(heading[2]), 0
        while (unique := f"{name}-{number}" if number else name) in anchors:
            number += 1
        anchors.add(unique)
    return anchors


def _slug(heading: str) -> str:
    """Return the anchor of a heading: in lower case, with dashes instead of spaces, and without other
    characters than letters, digits, dashes and underscores."""
    text = re.sub(r"!?\[([^\]]*)\]\([^)]*\)", r"\1", heading).replace("`", "").lower()
    kept = (c for c in text if c in " -_" or unicodedata.category(c)[0] in "LNM")
    return "".join(kept).strip().replace(" ", "-")


def _prose(file: Path) -> Iterator[tuple[int, str]]:
    """Yield the lines outside fenced code blocks, with their numbers."""
    fence = ""
    for number, line in enumerate(file.read_text(encoding="utf-8").splitlines(), start=1):
        match = FENCE.match(line)
        if match and not fence:
            fence = match[1]
        elif match and match[1].startswith(fence):
            fence = ""
        elif not fence:
            yield number, line


def main(arguments: Sequence[str]) -> int:
    """Print each broken link. Return 1 if there are broken links."""
    found = broken_links(Path(arguments[0]) if arguments else Path(__file__).parents[1])
    print("\n".join(found), end="\n" if found else "")
    return int(bool(found))


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
