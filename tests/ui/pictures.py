"""Take the pictures of docs/ui.md and docs/review.md in a real browser: the pages of a job, a gate and a
review.

::

    tunegate run examples/quickstart
    python tests/ui/pictures.py runs order-extractor

The job is a real run in a runs folder; without arguments, its picture is not taken. The history of the gate
is simulated: the operator judges models with chosen results. The rows of the review are those of an example.
Needs Debian's packages chromium and chromium-driver.
"""

import argparse
import base64
import io
import json
import os
import sys
import tempfile
from pathlib import Path
from typing import Any

import yaml
from PIL import Image

ROOT = Path(__file__).parents[2]
sys.path.insert(0, str(ROOT / "tests"))

from support.browser import DESK, open_browser, show
from support.builders import golden_text, make_config_map, make_gate, make_job
from support.places import runs_place, write_status
from support.scoring_page import serve_review
from support.site import serve_site
from support.world import Script, World
from tunegate_api.judging.review_sample import ReviewRow, with_id
from tunegate_api.messages import Message
from tunegate_client.places.runs import RunsClient
from tunegate_operator.engine.cluster import Key

COLOURS = 128
"""The number of colours in a picture, so that it stays below 200 KB."""
MOST_BYTES = 200 * 1024
MARGIN = 24
DAY = 86_400
REVIEWED, MOST_TURNS = 20, 3
"""The number of rows in the review, and the maximum number of turns in a prompt."""
VERSIONS = {1: 82, 2: 85, 3: 84, 4: 89, 5: 78, 6: 91, 7: 93, 8: 94}
"""How many of the 100 golden cases each simulated version passes."""


def main() -> None:
    """Write docs/ui-job.png, docs/ui-gate.png and docs/ui-review.png."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("runs", type=Path, nargs="?", help="the runs folder")
    parser.add_argument("job", nargs="?", help="the job whose page is shown")
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder, open_browser(Path(folder, "profile")) as browser:
        if arguments.runs:
            runs = arguments.runs.resolve()
            os.chdir(runs.parent)  # the pages show the path of the folder
            with serve_site(RunsClient(Path(runs.name))) as site:
                take(browser, f"{site.address}/jobs/{arguments.job}", "ui-job.png", last="report")
        os.chdir(folder)
        simulate_history(Path("runs"))
        with serve_site(RunsClient(Path("runs"))) as site:
            take(browser, f"{site.address}/gates/golden", "ui-gate.png", last="history")
        with serve_review(conversations()) as page:
            for good in (True, True, False, True, True):
                page.session.comment("" if good else "the city is the old one")
                page.session.answer(good)
            take(browser, page.address, "ui-review.png", last="act")


def conversations() -> list[ReviewRow]:
    """Return short conversations of an example as rows of a review sample."""
    config_map = yaml.safe_load((ROOT / "examples" / "sft-lora" / "data.yaml").read_text())
    rows = []
    for line in config_map["data"]["train.jsonl"].splitlines():
        row = json.loads(line)
        *prompt, answer = [Message.model_validate(message) for message in row["messages"]]
        if len(prompt) <= MOST_TURNS:
            rows.append(with_id(ReviewRow(row=row["id"], prompt=prompt, completion=answer.content)))
    return rows[:REVIEWED]


def simulate_history(runs: Path) -> None:
    """Let the operator judge the versions of a model, one a day, and write the jobs and the gate to a runs
    folder."""
    place = runs_place(runs)
    world = World(Script(base=31))
    world.cluster.as_user.watch(lambda event: write_status(runs, event))
    world.apply(
        make_config_map("rows", train__jsonl="{}"),
        make_config_map("cases", golden__jsonl=golden_text()),
        make_gate().obj(),
    )
    for number, passed in VERSIONS.items():
        name = f"order-extractor-{number}"
        world.script.final = passed
        job = make_job(name).with_publish("pvc://models/order-extractor")
        world.apply(job.obj())
        world.run(name)
        world.outbox.clear()
        world.advance(DAY)
    gate = world.cluster.get(Key("EvalGate", "default", "golden"))
    assert gate
    place.set_status(place.create(gate), **gate["status"])


def take(browser: Any, address: str, name: str, *, last: str) -> None:
    """Write a page down to the section ``last`` to docs/NAME, and fail if the picture is too large for a
    repository."""
    show(browser, address, DESK)
    section = browser.find_element("id", last).rect
    height = section["y"] + section["height"] + MARGIN
    clip = {"x": 0, "y": 0, "width": DESK, "height": height, "scale": 1}
    options = {"format": "png", "captureBeyondViewport": True, "clip": clip}
    taken = browser.execute_cdp_cmd("Page.captureScreenshot", options)
    picture = Image.open(io.BytesIO(base64.b64decode(taken["data"]))).convert("RGB")
    path = ROOT / "docs" / name
    picture.quantize(COLOURS).save(path, optimize=True)
    size = path.stat().st_size
    print(f"{path.relative_to(ROOT)}: {size / 1024:.0f} KB")
    if size > MOST_BYTES:
        raise SystemExit(f"{path} is larger than {MOST_BYTES // 1024} KB: lower its height or COLOURS")


if __name__ == "__main__":
    main()
