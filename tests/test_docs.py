"""The manifests in the documentation are valid."""

import re
from pathlib import Path

import pytest
import yaml

from tunegate_api import API_VERSION
from tunegate_api.validation.problems import find_problems

ROOT = Path(__file__).parents[1]
PAGES = [
    ROOT / "README.md",
    *sorted((ROOT / "docs").rglob("*.md")),
    *sorted((ROOT / "examples").rglob("*.md")),
]
BLOCK = re.compile(r"^( *)```(yaml|sh)\n(.*?)^\1```$", re.MULTILINE | re.DOTALL)
HEREDOC = re.compile(r"<<'?EOF'?\n(.*?)^ *EOF$", re.MULTILINE | re.DOTALL)
WALKED = re.compile(r"^\| .*\]\(\.\./([^)]+)\) \| `([^`]+)` \|$", re.MULTILINE)


def manifests(page: Path) -> list[str]:
    """Return the YAML blocks of a page, and the YAML that its commands pass to kubectl."""
    found = []
    for block in BLOCK.finditer(page.read_text()):
        text = re.sub(f"^{block[1]}", "", block[3], flags=re.MULTILINE)
        found += [text] if block[2] == "yaml" else HEREDOC.findall(text)
    return found


@pytest.mark.parametrize(
    "page", [page for page in PAGES if manifests(page)], ids=lambda page: str(page.relative_to(ROOT))
)
def test_manifests_of_a_page_are_valid(page):
    for text in manifests(page):
        try:
            objects = list(yaml.safe_load_all(text))
        except yaml.YAMLError as error:
            pytest.fail(f"{error}\n{text}")
        ours = [obj for obj in objects if isinstance(obj, dict) and obj.get("apiVersion") == API_VERSION]
        assert [problem for obj in ours for problem in find_problems(obj)] == [], text


def test_manifests_are_found_in_blocks_and_commands():
    assert "kind: PersistentVolumeClaim" in "".join(manifests(ROOT / "docs" / "install.md"))
    assert "kind: Safety" in "".join(manifests(ROOT / "docs" / "safety-sets.md"))


def test_examples_do_not_overwrite_each_others_objects():
    """All examples may be applied to one namespace. Jobs of a model in two sizes have one name."""
    specs: dict[tuple[str, str], list[object]] = {}
    for path in sorted((ROOT / "examples").rglob("*.yaml")):
        for obj in yaml.safe_load_all(path.read_text()):
            if obj["kind"] != "FineTuneJob":
                content = {key: value for key, value in obj.items() if key != "metadata"}
                specs.setdefault((obj["kind"], obj["metadata"]["name"]), []).append(content)
    assert ("EvalGate", "order-golden") in specs
    assert [name for name, found in specs.items() if any(one != found[0] for one in found)] == []


def test_walks_name_functions_and_count_their_files():
    text = (ROOT / "docs" / "architecture.md").read_text()
    for walk in text.partition("## Walks through the code")[2].partition("\n## ")[0].split("\nWhat ")[1:]:
        rows = WALKED.findall(walk)
        assert rows
        for path, function in rows:
            found = [ROOT / path] if path.endswith(".py") else [*(ROOT / path).glob("*.py")]
            name = function.rpartition(".")[2]
            defined = re.compile(rf"^ *(?:def|class) {name}\b|^{name}\b.* = ", re.MULTILINE)
            assert any(defined.search(file.read_text()) for file in found), f"{path} has no {function}"
        counted = re.match(r"[^\n]* in (\d+) files", walk)
        assert counted is None or int(counted[1]) == len({path for path, _ in rows})
