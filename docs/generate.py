"""Write the reference pages that the code already says: settings, errors, api, cli, configuration.

`make docs` writes them into docs/reference; a test compares them with what this writes, so they cannot go stale. With a
folder as argument, the pages are written there.
"""

from __future__ import annotations

import inspect
import re
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

import click
import grpc_tools
from google.protobuf import descriptor_pb2
from grpc_tools import protoc

ROOT = Path(__file__).resolve().parents[1]
PROTO = ROOT / "proto"
sys.path[:0] = [str(ROOT), str(PROTO)]

from hatch_build import validate_descriptor  # noqa: E402  (needs the path above)

from tunesmith.setting_words import default_words  # noqa: E402  (needs the path above)
from tunesmith.spec import choices, settings  # noqa: E402  (needs the path above)
from tunesmith.v1 import job_spec_pb2  # noqa: E402  (needs the path above)

MADE = "<!-- Written by docs/generate.py from {source}; change that, then run `make docs`. -->\n"
SETTINGS_INTRO = """\
# Settings of a training

What stands in a `JobSpec`: in the file given to `tunesmith run submit` and `tunesmith train`, in an experiment's
defaults, and in `CreateRun`. A run's own setting stands above its experiment's, and that above the default below. An
unknown key is refused with a suggestion; a value outside its range is refused with the range.

The kinds are `supervised`, `dpo`, `ranking`, `tiny_lm` and `generate`; one that no node offers is refused with
[TRAINING_KIND_UNAVAILABLE](errors.md#training_kind_unavailable). A default with a condition, such as “`10` with
`loss=ipo`”, holds where the setting is left open and the condition is met.

```yaml
dpo:
  adapter:
    base_model: facebook/musicgen-small
  training:
    epochs: 5
```

A file may also name the training and hold the settings beside the name: `training_type: supervised` is `supervised:`
with them below it, `training_type: preference` is `dpo:`, and `ranking`, `tiny_lm` and `generate` are called as their
kinds are.

```yaml
training_type: preference
loss: ipo
adapter:
  base_model: facebook/musicgen-small
training:
  epochs: 5
```

A language model takes no data set: it learns from texts. In `CreateRun` they are `corpus.corpus_files`, at most 1,000,
each a name such as `es/quijote.txt` and the digest of a blob that is uploaded; the command line uploads what
`corpus_path` names in the file, relative to it, or `--corpus-path`. Without either, the corpus is
`corpus.corpus_source`.

```yaml
training_type: tiny_lm
corpus_path: [texts/en.txt, texts/es]
training:
  epochs: 20
```

Clips are no training and take no data set either: their settings say who plays and what. The command line also takes
the prompts from `prompts_file`, a file with a prompt a line, relative to the YAML file, or `--prompts-file`; and the
adapter by its name, as `adapter` or `--adapter`. In `CreateRun`, `player.base_model` may be left out where there is a
`player.adapter_id`.

```yaml
training_type: generate
adapter: calmer@2
prompts_file: prompts.txt
generation:
  clips_per_prompt: 4
```
"""
ERRORS_INTRO = """\
# Errors

Every error of the API carries a `google.rpc.ErrorInfo` with the `domain` `tunesmith.v1` and one of these reasons. The
gRPC code says what a program should do, the reason says what happened, and the message ends in the next step.
`BadRequest` names the fields that are wrong; `RetryInfo` says when to try again. Reasons are never renamed.

A reason marked *a training failed* stands in a run's `failure`, not in the status of a call.
"""
API_INTRO = """\
# The API

Package `tunesmith.v1`, served with reflection and the standard health service. A recipe for each method stands in
[Use grpcurl](../how-to/use-grpcurl.md); fields are documented where they are defined, in
[proto/tunesmith/v1](../../proto/tunesmith/v1). Reasons in capitals are explained under [Errors](errors.md).
"""
CLI_INTRO = """\
# The command line

What `--help` prints, for every command. Exit codes are explained in [Exit codes](exit-codes.md).
"""
CONFIGURATION_INTRO = """\
# Configuration of the programs

`tunesmith control-plane` and `tunesmith node` read a TOML file (`--config FILE`), above it the environment, above
that flags. One file may hold the tables of both. A key that is not listed here is refused with a suggestion, and a bad
combination with the name of its key, both before anything starts. Examples stand in [deploy](../../deploy/README.md).

`tunesmith up` is set by its flags and the table `local`, by the environment only.
"""
SERVICE_ORDER = ("Server", "Experiment", "Dataset", "Run", "Telemetry", "Adapter", "Model", "Node", "Blob", "Trainer")


def descriptors() -> list[descriptor_pb2.FileDescriptorProto]:
    """The files of the contract with their comments."""
    own = sorted(str(path) for path in PROTO.glob("tunesmith/**/*.proto"))
    with tempfile.TemporaryDirectory() as folder:
        known, out = Path(folder, "validate.binpb"), Path(folder, "out.binpb")
        known.write_bytes(validate_descriptor())
        well_known = Path(grpc_tools.__file__).parent / "_proto"
        inputs = ["protoc", f"-I{PROTO}", f"-I{well_known}", f"--descriptor_set_in={known}"]
        if protoc.main([*inputs, "--include_source_info", f"--descriptor_set_out={out}", *own]):
            raise SystemExit("protoc failed")
        return list(descriptor_pb2.FileDescriptorSet.FromString(out.read_bytes()).file)


def comments(file: descriptor_pb2.FileDescriptorProto) -> dict[tuple[int, ...], str]:
    """The comment above each element of a file, by its path of field numbers and indexes, on one line."""
    places = file.source_code_info.location
    return {tuple(place.path): " ".join(place.leading_comments.split()) for place in places if place.leading_comments}


def all_comments(files: list[descriptor_pb2.FileDescriptorProto]) -> dict[str, str]:
    """The comment of every message, field, enum value, service and method, by its full name."""
    found: dict[str, str] = {}
    for file in files:
        said = comments(file)
        for m, message in enumerate(file.message_type):
            found[message.name] = said.get((4, m), "")
            for f, field in enumerate(message.field):
                found[f"{message.name}.{field.name}"] = said.get((4, m, 2, f), "")
        for e, enum in enumerate(file.enum_type):
            for v, value in enumerate(enum.value):
                found[value.name] = said.get((5, e, 2, v), "")
        for s, service in enumerate(file.service):
            found[service.name] = said.get((6, s), "")
            for r, method in enumerate(service.method):
                found[f"{service.name}.{method.name}"] = said.get((6, s, 2, r), "")
    return found


def settings_page(said: dict[str, str]) -> str:
    """Every setting of every kind of training, with its default and its range."""
    parts = [
        MADE.format(source="proto/tunesmith/v1/job_spec.proto"),
        SETTINGS_INTRO,
    ]
    for kind in job_spec_pb2.JobSpec.DESCRIPTOR.fields:
        parts += [
            f"## {kind.name}\n",
            said[kind.message_type.name] + "\n",
            "| setting | default | meaning |",
            "|---|---|---|",
        ]
        for path, field in settings(kind.message_type):
            shown = re.sub(r"\S*[^\s;]", code, default_words(field, kind=kind.name))
            meaning = said[f"{field.containing_type.name}.{field.name}"]
            if field.enum_type:
                values = ", ".join(f"`{name}`" for name in choices(field))
                meaning += f" One of {values}; see [their meaning](#values-of-{field.enum_type.name.lower()})."
            parts.append(f"| `{path}` | {shown} | {cell(meaning)} |")
        parts.append("")
    for name in ("DpoLoss", "RankingLoss", "LoraTargets", "Precision", "CorpusSource", "LmHead"):
        enum = job_spec_pb2.DESCRIPTOR.enum_types_by_name[name]
        parts += [f"## Values of {name}\n", "| value | meaning |", "|---|---|"]
        parts += [f"| `{value.name}` | {cell(said[value.name])} |" for value in enum.values]
        parts.append("")
    return "\n".join(parts)


def code(word: re.Match[str]) -> str:
    """A word of a default, as code where it is a value or a condition: not `with`, `or`, `for`, `and`."""
    return word[0] if word[0] in ("with", "or", "for", "and") else f"`{word[0]}`"


def errors_page(said: dict[str, str]) -> str:
    """Every reason with its gRPC code, what it means, and what the message may say."""
    parts = [
        MADE.format(source="proto/tunesmith/v1/error_reason.proto"),
        ERRORS_INTRO,
    ]
    for name, comment in said.items():
        reason = name.removeprefix("ERROR_REASON_")
        if reason == name or reason == "UNSPECIFIED":
            continue
        kind, _, rest = comment.partition(": ")
        meaning, _, example = rest.partition(' "')
        code = f"`{kind}`" if kind.isupper() else kind
        said_for_example = f" For example: “{example.rstrip('.').rstrip(chr(34))}”." if example else ""
        parts += [f"## {reason}\n", f"{code}: {meaning}{said_for_example}\n"]
    return "\n".join(parts)


def api_page(files: list[descriptor_pb2.FileDescriptorProto], said: dict[str, str]) -> str:
    """Every service and its methods."""
    parts = [
        MADE.format(source="proto/tunesmith/v1/*.proto"),
        API_INTRO,
    ]
    found = {service.name: (file, service) for file in files for service in file.service}
    for noun in SERVICE_ORDER:
        file, service = found[f"{noun}Service"]
        link = f"[{Path(file.name).name}](../../proto/{file.name})"
        parts += [
            f"## {service.name}\n",
            f"{said[service.name]} Defined in {link}.\n",
            "| method | what it does |",
            "|---|---|",
        ]
        for method in service.method:
            streams = {(True, False): "client stream", (False, True): "server stream"}
            stream = streams.get((method.client_streaming, method.server_streaming))
            mark = f" *({stream})*" if stream else ""
            parts.append(f"| `{method.name}`{mark} | {cell(said[f'{service.name}.{method.name}'])} |")
        parts.append("")
    return "\n".join(parts)


def cli_page() -> str:
    """The help of every command."""
    from services.cli.main import cli

    parts = [
        MADE.format(source="services/cli"),
        CLI_INTRO,
    ]
    for path, command in commands(cli, ("tunesmith",)):
        context = click.Context(command, info_name=" ".join(path), terminal_width=100)
        help_text = "\n".join(line.rstrip() for line in command.get_help(context).splitlines())
        parts += [f"## {' '.join(path)}\n", f"```text\n{help_text.strip()}\n```\n"]
    return "\n".join(parts)


def configuration_page() -> str:
    """Every key of the configuration, its environment variable and its default."""
    from control_plane.config import ControlPlaneConfig
    from services.main_local import LocalConfig
    from services.settings import describe
    from trainer_node.config import TrainerNodeConfig

    parts = [MADE.format(source="the configuration classes"), CONFIGURATION_INTRO]
    for kind, own in ((ControlPlaneConfig, "control_plane"), (TrainerNodeConfig, "node"), (LocalConfig, "local")):
        explained = said_beside_fields(sys.modules[kind.__module__])
        shown = ""
        for key, variable, default in describe(kind, own):
            table, _, name = key.rpartition(".")
            if table != shown:
                parts += [f"\n## {table}\n", "| key | variable | default | meaning |", "|---|---|---|---|"]
                shown = table
            parts.append(f"| `{name}` | `{variable}` | {value(default)} | {cell(explained[name])} |")
        parts.append("")
    return re.sub(r"\n{3,}", "\n\n", "\n".join(parts))


def said_beside_fields(module: object) -> dict[str, str]:
    """The comment behind each field of the module's dataclasses."""
    lines = inspect.getsource(module).splitlines()  # type: ignore[arg-type]  # a module, as sys.modules has it
    found = (re.match(r"    (\w+): .+?  # (.+)$", line) for line in lines)
    return {match.group(1): match.group(2) for match in found if match}


def value(default: object) -> str:
    """A default as the file would hold it."""
    if default is None or default == "":
        return ""
    return f"`{str(default).lower() if isinstance(default, bool) else default}`"


def commands(command: click.Command, path: tuple[str, ...]) -> Iterator[tuple[tuple[str, ...], click.Command]]:
    """A command and all below it, with their full names."""
    yield path, command
    if isinstance(command, click.Group):
        context = click.Context(command, info_name=path[-1])
        for name in command.list_commands(context):
            child = command.get_command(context, name)
            if child is not None and not child.hidden:
                yield from commands(child, (*path, name))


def cell(text: str) -> str:
    """A text as the cell of a table."""
    return re.sub(r"([|])", r"\\\1", text)


def main(folder: Path) -> None:
    """Write every page into `folder`."""
    files = descriptors()
    said = all_comments(files)
    pages = {
        "settings.md": settings_page(said),
        "errors.md": errors_page(said),
        "api.md": api_page(files, said),
        "cli.md": cli_page(),
        "configuration.md": configuration_page(),
    }
    for name, text in pages.items():
        (folder / name).write_text(text.rstrip("\n") + "\n", encoding="utf-8")


if __name__ == "__main__":
    main(Path(sys.argv[1]) if len(sys.argv) > 1 else ROOT / "docs" / "reference")
