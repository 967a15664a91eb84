"""Links in Markdown: broken links are reported with file and line, valid links pass in every form."""

import subprocess
import sys
from pathlib import Path

import pytest

SCRIPT = Path(__file__).parents[1] / "tools" / "check_links.py"

PAGE = """\
# A *page* of `docs`: what, why?

<a id="by-hand"></a>

## Twice

## Twice

## [Linked](other.md) heading

## Größe & Maß_1
"""


def check(folder: Path, text: str) -> list[str]:
    """Return the problems of a file ``docs/a.md`` with this text. The folder also has ``docs/page.md``."""
    docs = folder / "docs"
    (docs / "sub").mkdir(parents=True, exist_ok=True)
    (docs / "page.md").write_text(PAGE.replace("(other.md)", "(page.md)"), encoding="utf-8")
    (docs / "sub" / "with space.txt").write_text("", encoding="utf-8")
    (docs / "a.md").write_text(text, encoding="utf-8")
    done = subprocess.run(
        [sys.executable, SCRIPT, folder], capture_output=True, text=True, check=False, encoding="utf-8"
    )
    assert done.returncode == (1 if done.stdout else 0), done.stderr
    return done.stdout.splitlines()


@pytest.mark.parametrize(
    "link",
    [
        "[a](page.md)",
        "[a](./page.md)",
        "[a](/docs/page.md)",
        "[a](sub)",
        "[a](<sub/with%20space.txt>)",
        '[a](page.md "title")',
        "![an image](page.md)",
        "[`code`](page.md)",
        "text over\nlines](page.md)",
        "[a]: page.md",
        '<a href="page.md">a</a>',
        "[a](page.md#a-page-of-docs-what-why)",
        "[a](page.md#by-hand)",
        "[a](page.md#twice)",
        "[a](page.md#twice-1)",
        "[a](page.md#linked-heading)",
        "[a](page.md#größe--maß_1)",
        "# Here\n[a](#here)",
        "[a](https://example.org/none)",
        "[a](mailto:someone@example.org)",
        "`[a](none.md)`",
        "```\n[a](none.md)\n```",
        "~~~~\n```\n[a](none.md)\n~~~~",
    ],
)
def test_valid_link_passes(tmp_path: Path, link: str) -> None:
    assert check(tmp_path, link) == []


@pytest.mark.parametrize(
    ("link", "message"),
    [
        ("[a](none.md)", "docs/a.md:1: none.md does not exist"),
        ("\n\n[a](page.md), [b](none/)", "docs/a.md:3: none/ does not exist"),
        ("[a]: none.md", "docs/a.md:1: none.md does not exist"),
        ('<a href="none.md">a</a>', "docs/a.md:1: none.md does not exist"),
        ("[a](page.md#three)", "docs/a.md:1: page.md#three: docs/page.md has no heading #three"),
        ("[a](page.md#twice-2)", "docs/a.md:1: page.md#twice-2: docs/page.md has no heading #twice-2"),
        ("[a](#none)", "docs/a.md:1: #none: docs/a.md has no heading #none"),
        ("```\n# Code\n```\n[a](#code)", "docs/a.md:4: #code: docs/a.md has no heading #code"),
        ("[a](../../etc)", "docs/a.md:1: ../../etc leads out of the repository"),
    ],
)
def test_broken_link_is_reported_with_file_and_line(tmp_path: Path, link: str, message: str) -> None:
    assert check(tmp_path, link) == [message]


def test_repository_has_no_broken_links() -> None:
    done = subprocess.run([sys.executable, SCRIPT], capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout) == (0, "")
