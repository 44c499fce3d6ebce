"""A disk that fills up: a typed error that says where, and nothing that looks whole."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from trainer_node.engines.tinylm import corpus as corpora
from trainer_node.engines.tinylm import synthetic
from trainer_node.engines.tinylm.corpus import Corpus
from trainer_node.engines.tinylm.errors import CorpusInvalid, TokenizerInvalid
from trainer_node.engines.tinylm.tokenizer import load

# The kernel refuses to let any file of this process grow further, as it does where a disk is full.
WITH_LITTLE_ROOM = """
import resource, sys
from pathlib import Path
from trainer_node.engines.tinylm import corpus, synthetic, tokenizer
from trainer_node.errors import DiskFull
source, folder = Path(sys.argv[1]), Path(sys.argv[2])
made = corpus.load(source)
texts = [made.path("train", language.code) for language in made.languages]
resource.setrlimit(resource.RLIMIT_FSIZE, (5_000, 5_000))
try:
    {what}
except DiskFull as full:
    print(full.message, end="")
"""


def message(what: str, corpus: Corpus, folder: Path) -> str:
    """What a process says that does this with little room."""
    done = subprocess.run(
        [sys.executable, "-c", WITH_LITTLE_ROOM.format(what=what), str(corpus.folder), str(folder)],
        capture_output=True, text=True, check=True, env={**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)},
    )  # fmt: skip
    return done.stdout


@pytest.mark.parametrize(
    ("what", "place"),
    [
        ("corpus.prepare(texts, folder, seed=1)", "/.fresh/whole"),
        ("tokenizer.train(made, folder, vocab_size=600)", ""),
        ("synthetic.write_synthetic(folder, size_bytes=40_000)", ""),
    ],
    ids=["corpus", "tokenizer", "synthetic"],
)
def test_a_full_disk_is_said_and_leaves_nothing_that_looks_whole(corpus: Corpus, tmp_path: Path, what: str, place: str):
    folder = tmp_path / "made"

    said = message(what, corpus, folder)

    assert said == (f"there is no room left on the disk of {folder}{place}; free some space there and try again")
    assert {path.name for path in folder.rglob("*") if path.is_file()} <= {synthetic.MARK}
    with pytest.raises(CorpusInvalid):
        corpora.load(folder)
    with pytest.raises(TokenizerInvalid):
        load(folder)
