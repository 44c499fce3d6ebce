"""Every code block of the documentation runs, and prints what the page shows."""

from __future__ import annotations

import re
from contextlib import nullcontext
from dataclasses import dataclass
from pathlib import Path

import pytest
import soundfile

from tests.docs.blocks import Reader
from tests.rules.sources import ROOT, markdown_files, report
from tests.support import audiocraft
from trainer_node.data.demo_synth import Piece, render


@dataclass(frozen=True)
class Page:
    """A page whose blocks run. clips: audio files that its reader brings along; audiocraft: that, and a base model."""

    path: str
    clips: tuple[str, ...] = ()
    audiocraft: bool = False


PAGES = (
    Page("docs/explanation/dpo.md"),
    Page("docs/explanation/ranking.md"),
    *(
        Page(f"docs/explanation/training/{name}.md")
        for name in (
            *("corpus", "tokenization", "embeddings", "attention", "loss", "backpropagation", "training-loop"),
            *("evaluation", "sampling", "hyperparameters"),
        )
    ),
    Page("docs/how-to/export-to-audiocraft.md", audiocraft=True),
    Page("docs/how-to/from-ratings-to-pairs.md"),
    Page("docs/how-to/generate-clips.md"),
    Page("docs/how-to/import-ratings.md", clips=("clips/night.wav", "clips/rain.mp3")),
    Page("docs/how-to/rate-clips.md"),
    Page("docs/how-to/train-a-language-model.md"),
    Page("docs/how-to/train-from-preferences.md"),
    Page("docs/how-to/train-without-a-control-plane.md"),
    Page("docs/troubleshooting/language-model.md"),
    Page("docs/tutorials/02-from-a-wish-to-an-adapter.md"),
)
# Pages with commands that do not run here, each with its reason.
ELSEWHERE = {
    "README.md": "make demo installs everything; tests/cli/test_demo.py runs the demo",
    "CONTRIBUTING.md": "make install and make check are what runs this test",
    "docs/how-to/evaluate-an-adapter.md": "needs an adapter of the reader's; tests/cli evaluates some",
    "docs/how-to/resume-a-run.md": "needs a run that was lost; tests/contract and tests/system resume some",
    "docs/how-to/run-the-services.md": "needs root and systemd; tests/rules/test_deploy.py checks the units",
    "docs/how-to/train-the-micro-model.md": "trains for an hour; tests/cli/test_train_micro.py takes fewer steps",
    "docs/how-to/train-musicgen-on-a-gpu.md": "needs a GPU and the real weights",
    "docs/how-to/use-grpcurl.md": "tests/clients/test_recipes.py runs it",
    "docs/how-to/use-your-own-postgres.md": "needs a Postgres of the reader's",
    "docs/troubleshooting/memory.md": "shows a command for an experiment of the reader's that failed",
    "docs/tutorials/01-first-adapter.md": "RUN is an id of the reader's; tests/system/test_a_run.py goes the same way",
    "trainer_node/engines/micro/model/README.md": "tests/micro/test_card.py runs the block of such a card",
}


@pytest.mark.timeout(900)
@pytest.mark.parametrize("page", PAGES, ids=lambda page: Path(page.path).stem)
def test_every_block_of_the_page_does_what_the_page_says(page: Page, tmp_path: Path):
    for number, clip in enumerate(page.clips):
        write_clip(tmp_path / clip, seed=number)

    with audiocraft.brought_along(tmp_path) if page.audiocraft else nullcontext():
        blocks = Reader(tmp_path).read(ROOT / page.path)

    assert blocks == (ROOT / page.path).read_text().count("```") // 2


def write_clip(path: Path, *, seed: int) -> None:
    """Two seconds of music, as anyone might have."""
    path.parent.mkdir(parents=True, exist_ok=True)
    piece = Piece(timbre="bell", key="C", mode="major", tempo="slow", register="high", seed=seed)
    soundfile.write(path, render(piece, duration_s=2, rate_hz=32_000, channels=1), 32_000)


def test_every_page_with_commands_runs_here_or_says_where_it_is_checked():
    commands = re.compile(r"^ *```(bash|console|python)$", re.MULTILINE)
    with_commands = {source.path for source in markdown_files() if commands.search(source.text)}
    run = {page.path for page in PAGES}

    assert not (missing := sorted(with_commands - run - set(ELSEWHERE))), report(missing)
    assert not (stale := sorted((run | set(ELSEWHERE)) - with_commands)), report(stale)
    assert not run & set(ELSEWHERE)
