"""`tunesmith lm train`: from nothing to a validated language model, by one command."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click

from services.cli.commands import LocalCommand, session_of
from services.cli.lm_foreground import train_in_foreground
from services.cli.lm_output import DEFAULT_OUTPUT
from services.cli.lm_settings import KIND
from services.cli.setting_flags import setting_flags
from services.cli.settings_input import set_option


@click.command(cls=LocalCommand)
@click.option(
    "--corpus-path",
    multiple=True,
    type=click.Path(path_type=Path),
    help="Text file, or folder of .txt files; names such as en.txt or es/quijote.txt tell the language. Repeatable.",
)
@click.option(
    "--output",
    type=click.Path(file_okay=False, path_type=Path),
    help=f"Folder for checkpoints, models, tokenizer and report. [default: {DEFAULT_OUTPUT}]",
)
@click.option(
    "--config",
    type=click.Path(exists=True, dir_okay=False, path_type=Path),
    help="YAML with settings by their names, and corpus_path, output or threads; paths in it are relative to it.",
)
@click.option("--resume", "choice", flag_value="resume", help="Go on with the training in the output folder.")
@click.option("--restart", "choice", flag_value="restart", help="Begin again; the training that is there goes.")
@click.option(
    "--new-version", "choice", flag_value="new-version", help="Leave what is there; write to OUTPUT-v2, OUTPUT-v3, …"
)
@click.option("--threads", type=click.IntRange(1), default=None, help="CPU threads; they decide the last bits.")
@click.option(
    "--cache-dir",
    type=click.Path(file_okay=False, path_type=Path),
    help="Where downloads are kept. [default: ~/.cache/tunesmith/texts]",
)
@set_option
@setting_flags(KIND)
@click.pass_context
def train(ctx: click.Context, /, **keywords: Any) -> int:
    """Make a small language model: corpus, tokenizer, training, validation, samples, report.

    Without --corpus-path, works in the public domain are downloaded once. Where that fails, the model is trained on a
    SYNTHETIC corpus, which is said loudly; --corpus-source download refuses instead.

    Settings: flags and --set over the environment (TUNESMITH_LM_LEARNING_RATE and so on) over --config over defaults;
    unknown names are refused. Those in force are in config.yaml of the output folder, and --resume takes them from
    there. A stage whose inputs are unchanged is not done again.

    Ctrl-C, or the end of a pipe that nobody reads any more, finishes the step, writes a checkpoint and ends; Ctrl-C
    twice stops at once. Going on comes to the same bits. With -o jsonl every event is printed.

    Exit codes: 0 made, 2 a setting or the text is wrong, 4 the output folder holds a training (see --resume, --restart,
    --new-version) or files of others, 7 the training failed, 9 disk space or packages are missing, 130 Ctrl-C.
    """
    return train_in_foreground(session_of(ctx), keywords)
