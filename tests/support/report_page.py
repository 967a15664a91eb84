"""Render a job's report, and read its text."""

from html.parser import HTMLParser

from support.job_folder import NOW, JobFolder
from tunegate_api.contract.process import Outcome
from tunegate_api.v1alpha2.finetunejob_status import Progress
from tunegate_trainer.report import render

BASE = "p" * 10 + "f" * 10
GOOD = "p" * 19 + "f"
LOSSES = [2.0 - i / 60 for i in range(80)]


def page(job: JobFolder) -> str:
    path = render(job.workspace, job.request, job.context().review)
    assert path == job.folder / "report.html"
    return path.read_text(encoding="utf-8")


class PageText(HTMLParser):
    """Collects the text of a page without its styles, and the ids in it."""

    def __init__(self) -> None:
        super().__init__()
        self.parts: list[str] = []
        self.ids: list[str] = []
        self.hidden = 0

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.hidden += tag == "style"
        self.ids += [str(value) for name, value in attrs if name == "id"]

    def handle_endtag(self, tag: str) -> None:
        self.hidden -= tag == "style"

    def handle_data(self, data: str) -> None:
        if not self.hidden:
            self.parts.append(data)


def text_of(html: str) -> str:
    """Return the visible text of a page, with each white space replaced by one space."""
    parser = PageText()
    parser.feed(html)
    return " ".join(" ".join(parser.parts).split())


def train(
    job: JobFolder,
    steps: dict[int, str],
    *,
    dev: dict[int, str] | None = None,
    outcome: Outcome | None = None,
    losses: list[float] = LOSSES,
) -> None:
    """Write a training stage whose checkpoints have these golden outcomes, by step. ``dev`` has the outcomes
    of dev rows."""
    job.write_losses("sft", losses, seconds=3.0)
    evaluations = [
        job.write_checkpoint("sft", step, golden, (dev or {}).get(step, "p" * 8 + "ff"))
        for step, golden in steps.items()
    ]
    progress = Progress(stage="sft", step=len(losses), total_steps=100, percent=80, updated=NOW)
    job.write_training("sft", evaluations, outcome=outcome, progress=progress)
