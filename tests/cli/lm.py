"""A language model from the command line that is made in a second or two."""

from __future__ import annotations

SMALL = (
    *("--vocab-size", "400", "--layers", "1", "--d-model", "16", "--heads", "2", "--ffn", "32"),
    *("--max-seq-length", "32", "--batch-size", "16", "--precision", "fp32", "--threads", "1"),
    *("--checkpoint-every-epochs", "1", "--sample-tokens", "5", "--sample-prompts", "The"),
)
TRAIN = ("lm", "train", *SMALL)
