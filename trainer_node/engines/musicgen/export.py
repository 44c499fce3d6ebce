"""An adapter in a form that other programs load: PEFT's folder, one whole model, or audiocraft's files.

A folder is written aside and takes its place when it is whole. What needs the base model is refused where its weights
are not those that the adapter was trained on: the matrices would fit, and the sound would be wrong.
"""

from __future__ import annotations

import json
import shutil
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from google.protobuf import json_format
from peft import PeftConfig, PeftModel
from safetensors import SafetensorError

from trainer_node import peft_folder, preflight, report
from trainer_node.engines.musicgen import adapter_files, family, model_folder, quiet
from trainer_node.engines.musicgen.family import BaseModel
from trainer_node.engines.musicgen.interop import writing
from trainer_node.engines.musicgen.interop.errors import BaseModelMismatch, ExportRefused
from trainer_node.engines.musicgen.model_card import Card, Format, licence_of
from trainer_node.errors import BaseModelUnavailable
from tunesmith.v1 import job_event_pb2


@dataclass(frozen=True, kw_only=True)
class Adapter:
    """An adapter to export. folder: its PEFT folder. config: None where nobody knows what decided its training.

    outcome: the report of its training, where it is at hand. name: such as `my-taste@2`; empty where it has none.
    """

    folder: Path
    config: job_event_pb2.TrainingConfig | None
    outcome: job_event_pb2.TrainingReport | None = None
    name: str = ""

    @property
    def base_model(self) -> str:
        """The base model's name, as the adapter has it."""
        path = self.folder / peft_folder.CONFIG
        try:
            return str(json.loads(path.read_text(encoding="utf-8"))["base_model_name_or_path"])
        except (OSError, ValueError, KeyError, TypeError) as error:
            what = f"{self.folder} is no PEFT folder: its {peft_folder.CONFIG} cannot be read; pull the adapter again"
            raise ExportRefused(what) from error


def local_adapter(folder: Path) -> Adapter:
    """An adapter in a folder, with what lies in it or beside it about its training.

    Raises ExportRefused where the former is damaged: what it was trained on could not be checked.
    """
    report_path = folder.parent / "report.json"
    config = _read(folder / report.CONFIG, job_event_pb2.TrainingConfig())
    if config is None and (folder / report.CONFIG).exists():
        what = f"{folder / report.CONFIG} cannot be read, so nobody knows what the adapter was trained on; "
        raise ExportRefused(f"{what}pull the adapter again")
    outcome = _read(report_path, job_event_pb2.TrainingReport())
    if outcome is not None and outcome.config != config:
        outcome = None  # of another training
    return Adapter(folder=folder, config=config, outcome=outcome)


def _read(path: Path, message: Any) -> Any:
    try:
        return json_format.Parse(path.read_text(encoding="utf-8"), message, ignore_unknown_fields=True)
    except (OSError, ValueError, json_format.ParseError):
        return None


def export(
    adapter: Adapter, folder: Path, form: Format, *, models_dir: Path, base_model: str = "", text_encoder: str = ""
) -> None:
    """Write an adapter into a folder that is new or empty.

    base_model: see preflight.find_base_model; the adapter's own where it is empty. text_encoder: the name by which
    audiocraft fetches T5, where it cannot be told. Raises BaseModelUnavailable, BaseModelMismatch, ExportRefused.
    """
    with quiet.quietly(), model_folder.written_whole(folder) as beside:
        if form is Format.PEFT:
            source = _source(adapter, models_dir, base_model)
            for path in [path for path in adapter.folder.iterdir() if path.is_file()]:  # `beside` may lie there, too
                shutil.copy(path, beside)
        else:
            source = preflight.find_base_model(models_dir, base_model or adapter.base_model)
            base = merged(adapter, family.load_base(source, name=base_model or adapter.base_model))
            if form is Format.MERGED:
                model_folder.write(base, beside)
            else:
                text_encoder = writing.write(base, beside, text_encoder_name=text_encoder)
            if adapter.config is not None:
                report.write_json(beside / report.CONFIG, adapter.config)
        _card(adapter, source, text_encoder).write(beside, form)


def _source(adapter: Adapter, models_dir: Path, base_model: str) -> Path | str:
    """Where the base model is, for its licence alone: it may be missing."""
    try:
        return preflight.find_base_model(models_dir, base_model or adapter.base_model)
    except BaseModelUnavailable:
        return ""


def _card(adapter: Adapter, source: Path | str, text_encoder: str) -> Card:
    name = adapter.base_model
    return Card(
        base_model=name,
        licence=licence_of(name, source) or licence_of(str(source), None),
        config=adapter.config,
        outcome=adapter.outcome,
        name=adapter.name,
        text_encoder=text_encoder,
    )


def merged(adapter: Adapter, base: BaseModel) -> BaseModel:
    """The base model with the adapter added to its weights; `base` is changed. Raises BaseModelMismatch."""
    trained_on = adapter.config.base_model_fingerprint if adapter.config is not None else ""
    found = base.fingerprint()
    if trained_on and trained_on != found:
        raise BaseModelMismatch(
            f"the adapter was trained on another base model than {base.name}: its weights had the fingerprint "
            f"{trained_on[:12]}…, these have {found[:12]}…; name with --base-model the one that it was trained on"
        )
    try:
        tensors, config = adapter_files.read(adapter.folder), PeftConfig.from_pretrained(str(adapter.folder))
        model = PeftModel(base.model, config)
        fits = adapter_files.put(model, tensors)
    except (OSError, SafetensorError, ValueError, TypeError) as error:
        first_line = str(error).strip().partition("\n")[0][:300]
        what = f"the adapter in {adapter.folder} cannot be put on {base.name}: {first_line}; pull the adapter again"
        raise ExportRefused(what) from error
    if not fits:
        raise BaseModelMismatch(
            f"the adapter does not fit on {base.name}: its matrices are for other layers or sizes; name with "
            "--base-model the one that it was trained on"
        )
    model.merge_and_unload(safe_merge=True)
    return base
