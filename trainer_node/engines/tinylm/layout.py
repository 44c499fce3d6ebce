"""Where things lie in the output folder of a language model: for the stages that write them, and for who looks later.

Nothing is imported here, so the command line asks without PyTorch. A name that changes leaves older folders behind.
"""

from __future__ import annotations

CONFIG = "config.yaml"  # the settings in force, of a training in the foreground

TEXTS = "texts"  # that were written for want of others
CORPUS, TOKENIZER, TOKENS = "corpus", "tokenizer", "tokens"
TOKENIZER_FACTS = "tokenizer.json"  # in its folder, with the sums of the files beside it
CHECKPOINTS = "checkpoints"
SAMPLES = "samples"  # written while it trained

BEST, FINAL = "best_model.pt", "final_model.pt"
MODELS = (BEST, FINAL)
HISTORY = "training_history.json"

PAGE, CURVE, CARD, REPORT_JSON = "report.md", "loss.svg", "README.md", "report.json"
TRAINING_CONFIG = "training_config.json"
REPORT_FILES = (PAGE, CURVE, CARD, REPORT_JSON, TRAINING_CONFIG)

RECORDS = "stages"
TRAINING = "training"  # the stage whose record says that the models are finished

# Every name in the folder that is written over or removed; logs only grow.
WRITTEN = frozenset(
    (CONFIG, TEXTS, CORPUS, TOKENIZER, TOKENS, CHECKPOINTS, SAMPLES, RECORDS, *MODELS, HISTORY, *REPORT_FILES)
)


def record_of(stage: str) -> str:
    """The file that says what a stage was made of, relative to the output folder."""
    return f"{RECORDS}/{stage}.json"
