"""Settings of a language model: flag over environment over file over the contract's default.

A file may have the contract's form (`tiny_lm:` with groups), the groups alone, or bare names (`epochs: 3`), and the
command's own keys beside them. The environment has TUNESMITH_LM_<NAME>. Nothing here knows a setting by name.
"""

from __future__ import annotations

import difflib
import os
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click
import yaml

from services.cli.setting_flags import settings_of
from services.cli.settings_input import read_mapping, spec_of
from tunesmith.errors import FieldProblem, InvalidField

if TYPE_CHECKING:
    from google.protobuf.descriptor import FieldDescriptor

    from tunesmith.v1.job_spec_pb2 import JobSpec

KIND = "tiny_lm"
OTHER_KINDS = ("supervised", "dpo", "ranking", "generate")
PREFIX = "TUNESMITH_LM_"
OWN = ("corpus_path", "output", "threads", "cache_dir")  # keys of the command itself, beside the contract's
HEADING = "# The settings in force."  # how config.yaml begins


@dataclass(frozen=True)
class Layer:
    """What one source gives. where: by setting, such as `--epochs`. own: values of the command's own keys."""

    spec: JobSpec
    where: Mapping[str, str] = field(default_factory=dict)
    own: Mapping[str, Any] = field(default_factory=dict)


def of_file(file: Path | None) -> Layer:
    """The settings in a YAML file; paths in it are relative to it. Raises InvalidField."""
    body, own = of_mapping(read_mapping(file), file)
    for name in ("output", "cache_dir"):
        if name in own:
            own[name] = _folder(file) / Path(str(own[name])).expanduser()
    if "threads" in own:
        own["threads"] = _threads(own["threads"], f"{file}: threads")
    spec = spec_of({KIND: body})
    return Layer(spec, {**dict.fromkeys(given_in(spec), str(file)), **dict.fromkeys(own, str(file))}, own)


def of_mapping(mapping: Mapping[str, Any], file: Path | None) -> tuple[dict[str, Any], dict[str, Any]]:
    """The settings in what a file holds, by their groups, and the values of the command's own keys.

    Paths of the corpus are made relative to the file. Raises InvalidField.
    """
    body = dict(_body(mapping, str(file)))
    own = {name: body.pop(name) for name in OWN if name in body}
    if "corpus_path" in own:
        own["corpus_path"] = _corpus_paths(own["corpus_path"], file)
    paths = {path.rpartition(".")[2]: path for path, _ in settings_of(KIND)}
    bare = {name: body.pop(name) for name in list(body) if name in paths}
    for name, value in bare.items():
        group = paths[name].partition(".")[0]
        inside = body.get(group) or {}
        if not isinstance(inside, Mapping):
            raise InvalidField.of([FieldProblem(f"{file}: {group}", "must be a mapping of settings")])
        body[group] = {**inside, name: value}
    return body, own


def of_environment(environ: Mapping[str, str]) -> Layer:
    """The settings in TUNESMITH_LM_…. Raises InvalidField, which names the variables."""
    from tunesmith import spec as specs

    fields, problems, own = _fields(), [], dict[str, Any]()
    spec = spec_of({KIND: {}})
    where = {}
    for variable, text in sorted(environ.items()):
        if not variable.startswith(PREFIX):
            continue
        name = variable.removeprefix(PREFIX).lower()
        try:
            if name in fields:
                spec = specs.merge(spec, spec_of({KIND: {}}, (), {name: _of_text(fields[name], text)}))
            elif name in OWN:
                own[name] = _own_of_text(name, text, variable)
            else:
                near = difflib.get_close_matches(name, [*fields, *OWN], n=1, cutoff=0.6)
                what = f"did you mean {PREFIX}{near[0].upper()}?" if near else "there is no such setting"
                problems.append(FieldProblem(variable, what))
                continue
        except InvalidField as error:
            problems += [FieldProblem(variable, one.what) for one in error.fields]
        where[name] = variable
    if problems:
        raise InvalidField.of(problems)
    return Layer(spec, where, own)


def of_flags(flags: Mapping[str, Any], assignments: tuple[str, ...], own: Mapping[str, Any]) -> Layer:
    """The settings given as flags and by --set."""
    spec = spec_of({KIND: {}}, assignments, flags)
    given = {name: value for name, value in own.items() if value not in (None, ())}
    where = {name: f"--{name.replace('_', '-')}" for name in (*given_in(spec), *given)}
    return Layer(spec, where, given)


def merged(layers: Sequence[Layer]) -> Layer:
    """All layers, the later above the earlier."""
    from tunesmith import spec as specs

    spec = spec_of({KIND: {}})
    where: dict[str, str] = {}
    own: dict[str, Any] = {}
    for layer in layers:
        spec = specs.merge(spec, layer.spec)
        where |= layer.where
        own |= layer.own
    return Layer(spec, where, own)


def text_or_source(where: str) -> click.UsageError:
    """The error of a corpus_source beside text. where: it was given, such as `--corpus-source`."""
    return click.UsageError(
        f"corpus_source ({where}) says where text comes from that nobody gives, and there is a corpus_path; leave one "
        "of them out"
    )


def require_text_or_source(layer: Layer) -> None:
    """Raises UsageError where text is given, and also said where text comes from that nobody gives."""
    if "corpus_source" in layer.where and "corpus_path" in layer.own:
        raise text_or_source(layer.where["corpus_source"])


def written(resolved: JobSpec, layer: Layer) -> str:
    """config.yaml: every setting in force, and the command's own keys, to be given to --config again."""
    body: dict[str, Any] = {}
    for path, value in in_force(resolved).items():
        group, _, name = path.rpartition(".")
        if name == "corpus_source" and name not in layer.where:
            continue
        body.setdefault(group, {})[name] = value
    mapping: dict[str, Any] = {KIND: {group: values for group, values in body.items() if values}}
    if layer.own.get("corpus_path"):
        mapping["corpus_path"] = [str(path.resolve()) for path in layer.own["corpus_path"]]
    if layer.own.get("cache_dir"):
        mapping["cache_dir"] = str(layer.own["cache_dir"].resolve())
    if layer.own.get("threads"):
        mapping["threads"] = layer.own["threads"]
    open_source = "# corpus_source: download   # nobody gave it: where there is no network, synthetic\n"
    return (
        f"{HEADING} Train so again with: tunesmith lm train --config config.yaml --output ELSEWHERE\n"
        + ("" if "corpus_source" in layer.where or "corpus_path" in mapping else open_source)
        + yaml.safe_dump(mapping, sort_keys=False, allow_unicode=True)
    )


def in_force(resolved: JobSpec) -> dict[str, Any]:
    """Every setting by its dotted name, enums by their short names."""
    from tunesmith import spec as specs

    return specs.in_force(getattr(resolved, KIND))


def in_words(resolved: JobSpec, layer: Layer, *, given: bool = False) -> Iterator[str]:
    """Every setting in force and where it comes from, `training.epochs=3 (--epochs)`. given: without the defaults."""
    for path, value in in_force(resolved).items():
        where = layer.where.get(path.rpartition(".")[2])
        if where or not given:
            yield f"{path}={value} ({where or 'default'})"


def _fields() -> dict[str, FieldDescriptor]:
    return {one.name: one for _, one in settings_of(KIND)}


def _body(mapping: Mapping[str, Any], where: str) -> Mapping[str, Any]:
    """The settings of a file, wherever they stand in it."""
    others = [key for key in OTHER_KINDS if key in mapping]
    others += [str(kind) for kind in [mapping.get("training_type", KIND)] if kind != KIND]
    if others:
        raise InvalidField.of([FieldProblem(where, f"`{others[0]}` is no language model; leave it out")])
    inner = mapping.get(KIND, {})
    if not isinstance(inner, Mapping):
        raise InvalidField.of([FieldProblem(f"{where}: {KIND}", "must be a mapping of settings")])
    return {**inner, **{key: value for key, value in mapping.items() if key not in (KIND, "training_type")}}


def _folder(file: Path | None) -> Path:
    """What paths in a file are relative to."""
    return file.parent if file else Path()


def _corpus_paths(given: Any, file: Path | None) -> list[Path]:
    paths = given if isinstance(given, list) else [given]
    if not paths or not all(isinstance(path, str) and path for path in paths):
        what = f"must be a path or a list of paths (given: {given!r})"
        raise InvalidField.of([FieldProblem(f"{file}: corpus_path", what)])
    return [_folder(file) / Path(path).expanduser() for path in paths]


def given_in(spec: JobSpec) -> Iterator[str]:
    """The names of the settings that a spec gives."""
    from tunesmith import spec as specs

    for _, one, holder in specs.leaves(getattr(spec, KIND)):
        if holder.HasField(one.name) if one.has_presence else getattr(holder, one.name):
            yield one.name


def _of_text(one: FieldDescriptor, text: str) -> Any:
    """A variable's text as the setting's value. A list is written as in YAML; other text is a list of one."""
    if one.is_repeated:
        try:
            value = yaml.safe_load(text)
        except yaml.YAMLError:
            value = text
        return [str(each) for each in value] if isinstance(value, list) else [text]
    if one.type == one.TYPE_BOOL:
        words = {
            "true": True,
            "1": True,
            "yes": True,
            "on": True,
            "false": False,
            "0": False,
            "no": False,
            "off": False,
        }
        if text.lower() not in words:
            raise InvalidField.of([FieldProblem("", f"must be true or false (given: {text!r})")])
        return words[text.lower()]
    return text


def _own_of_text(name: str, text: str, variable: str) -> Any:
    if name == "corpus_path":
        return [Path(part).expanduser() for part in text.split(os.pathsep) if part]
    return _threads(text, variable) if name == "threads" else Path(text).expanduser()


def _threads(value: object, where: str) -> int:
    if isinstance(value, bool) or not str(value).isdecimal() or int(str(value)) < 1:
        raise InvalidField.of([FieldProblem(where, f"must be a whole number from 1 (given: {value!r})")])
    return int(str(value))
