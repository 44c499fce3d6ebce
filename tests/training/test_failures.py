"""Every failure has a reason and ends in the next step; none leaves an adapter."""

from __future__ import annotations

import errno
import shutil
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file

from tests.training import preference_studio
from tests.training.studio import Studio, metric_rows, spec
from trainer_node import preflight
from trainer_node.checkpoints import CheckpointFolder
from trainer_node.engines import memory
from trainer_node.engines.musicgen import family, remedies
from trainer_node.errors import BaseModelUnavailable, DataInvalid, DiskFull, LossNotFinite, OutOfMemory
from trainer_node.training import TrainingSample


def allocate_a_pebibyte(*_: object, **__: object) -> torch.Tensor:
    """What PyTorch does on a CPU whose memory is full."""
    return torch.empty(1 << 50, dtype=torch.uint8)


def onednn_is_full(*_: object, **__: object) -> torch.Tensor:
    """What its convolutions and matrix products do under a memory limit (seen with ulimit -v)."""
    raise RuntimeError("could not create a primitive")


def gpu_is_full(*_: object, **__: object) -> torch.Tensor:
    raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB.")


def python_is_full(*_: object, **__: object) -> torch.Tensor:
    raise MemoryError


@pytest.mark.parametrize(
    ("failing", "where"),
    [(allocate_a_pebibyte, "CPU"), (onednn_is_full, "CPU"), (gpu_is_full, "GPU"), (python_is_full, "CPU")],
)
def test_out_of_memory_names_the_computed_remedy(
    studio: Studio, monkeypatch: pytest.MonkeyPatch, failing: object, where: str
) -> None:
    monkeypatch.setattr(family, "score", failing)

    with pytest.raises(OutOfMemory) as failed:
        studio.train(studio.samples(10), training={"batch_size": 8})

    assert failed.value.message == (
        f"memory ran out on the {where}; reduce batch_size from 8 to 4 and set gradient_accumulation_steps from 1 to 2 "
        "to keep the effective batch of 8"
    )


@pytest.mark.parametrize(
    ("training", "remedy"),
    [
        (
            {"batch_size": 7, "gradient_accumulation_steps": 2},
            "batch_size from 7 to 3 and set gradient_accumulation_steps from 2 to 5",
        ),
        ({"batch_size": 1}, "set gradient_checkpointing to true"),
        ({"batch_size": 1, "gradient_checkpointing": True, "max_clip_s": 30}, "reduce max_clip_s from 30 to 15"),
    ],
)
def test_the_remedy_fits_the_settings(training: dict[str, object], remedy: str) -> None:
    assert remedy in remedies.smaller_step(spec(training=training).supervised.training)


def test_a_long_list_can_be_made_shorter_before_its_clips_are_cut() -> None:
    training = spec(training={"batch_size": 1, "gradient_checkpointing": True, "max_clip_s": 30}).supervised.training

    named = {clips: remedies.smaller_step(training, longest_list=clips) for clips in (64, 7, 2)}

    assert named[64] == "freeze the data as ranked lists with max_list_size 32 (the longest has 64 clips)"
    assert named[7].startswith("freeze the data as ranked lists with max_list_size 3 ")
    assert named[2] == remedies.smaller_step(training) == remedies.shorter_clips(training)


def test_out_of_memory_in_a_ranking_counts_the_clips_of_its_longest_list(
    studio: Studio, monkeypatch: pytest.MonkeyPatch
) -> None:
    compared = [
        *preference_studio.comparisons(studio, 1, size=3),
        *preference_studio.comparisons(studio, 2, size=5)[1:],
    ]
    monkeypatch.setattr(family, "score", python_is_full)

    with pytest.raises(OutOfMemory, match=r"max_list_size 2 \(the longest has 5 clips\)"):
        preference_studio.train(
            studio,
            "ranking",
            compared,
            relative_to_reference=False,
            training={"batch_size": 1, "gradient_checkpointing": True},
        )


def test_out_of_memory_while_encoding_and_while_listening_name_their_own_settings(
    studio: Studio, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    samples = studio.samples(4)
    with monkeypatch.context() as patched, pytest.raises(OutOfMemory, match="reduce max_clip_s from 30 to 15"):
        patched.setattr(family.BaseModel, "encode_audio", allocate_a_pebibyte)
        studio.cache_dir = tmp_path / "empty"
        studio.train(samples)

    with monkeypatch.context() as patched, pytest.raises(OutOfMemory, match=r"reduce preview_s from 5 to 2\.5"):
        patched.setattr("trainer_node.engines.musicgen.previews.play", allocate_a_pebibyte)
        studio.train(samples, previews={"preview_prompts": ["low sine drone"]})


def test_another_runtime_error_is_not_taken_for_a_lack_of_memory() -> None:
    with pytest.raises(RuntimeError, match="something else"), memory.out_of_memory_names("nothing"):
        raise RuntimeError("something else")


def test_a_loss_that_is_no_number_ends_the_training_and_stands_in_the_metrics(studio: Studio) -> None:
    broken = studio.folder / "models" / "broken"
    shutil.copytree(studio.models_dir / "tiny", broken)
    weights = load_file(broken / "model.safetensors")
    weights["decoder.lm_heads.0.weight"][0, 0] = float("nan")
    save_file(weights, broken / "model.safetensors", metadata={"format": "pt"})
    studio.models_dir = broken.parent

    with pytest.raises(
        LossNotFinite, match=r"loss is nan at step 1; reduce learning_rate from 0.005 to 0.0005"
    ) as failed:
        studio.train(studio.samples(4), adapter={"base_model": "broken"})

    [(step, row)] = metric_rows(studio.telemetry.events)
    assert (step, failed.value.metadata["step"], str(row["loss"])) == (1, "1", "nan")
    assert not (studio.folder / "training-1" / "adapter").exists()


def test_gradients_that_are_no_numbers_never_reach_the_weights(studio: Studio, monkeypatch: pytest.MonkeyPatch) -> None:
    real = family.score

    def explode(*args: object, **kwargs: object) -> torch.Tensor:
        logits = real(*args, **kwargs)  # type: ignore[arg-type]  # passed through
        if logits.requires_grad:
            logits.register_hook(lambda gradient: gradient * float("inf"))  # type: ignore[no-untyped-call]  # untyped in torch
        return logits

    monkeypatch.setattr(family, "score", explode)

    with pytest.raises(LossNotFinite, match="the grad_norm is nan at step 1"):
        studio.train(studio.samples(4))


@pytest.mark.parametrize("kind", ["supervised", "dpo", "ranking"])
def test_a_validation_loss_that_is_no_number_ends_the_training(
    studio: Studio, monkeypatch: pytest.MonkeyPatch, kind: str
) -> None:
    real = family.score

    def broken_when_validating(model: Any, batch: Any, **rest: Any) -> torch.Tensor:
        scored_alone = len(batch["labels_BKS"]) == 1  # for the reference
        return real(model, batch, **rest) * (1 if model.training or scored_alone else float("nan"))

    monkeypatch.setattr(family, "score", broken_when_validating)

    with pytest.raises(LossNotFinite, match="the eval_loss is nan at step 1; reduce learning_rate") as failed:
        if kind == "supervised":
            studio.train(studio.samples(6), training={"batch_size": 8}, validation={"validation_fraction": 0.4})
        else:
            preference_studio.train(studio, kind, preference_studio.comparisons(studio, 3))

    assert failed.value.metadata["step"] == "1"
    assert [str(row["eval_loss"]) for _, row in metric_rows(studio.telemetry.events) if "eval_loss" in row] == ["nan"]
    assert not list(studio.folder.rglob("step-*"))


def test_a_base_model_that_is_nowhere_says_where_to_put_it(studio: Studio) -> None:
    with pytest.raises(BaseModelUnavailable) as failed:
        studio.train(studio.samples(4), adapter={"base_model": "large"})

    assert failed.value.message == (
        "the models directory has no folder 'large' (it has: tiny, tiny-stereo); put the base model there, or give "
        "tunesmith/micro, which comes with Tunesmith, or a Hugging Face id such as facebook/musicgen-small; in the "
        "foreground, --base-model DIR names any folder"
    )


def test_a_hub_model_without_a_network_says_so_at_once(studio: Studio, monkeypatch: pytest.MonkeyPatch) -> None:
    def unreachable(*_: object, **__: object) -> None:
        raise ConnectionError("Name or service not known")

    monkeypatch.setattr("huggingface_hub.HfApi.model_info", unreachable)

    with pytest.raises(
        BaseModelUnavailable, match=r"Name or service not known.*put its folder into the models directory"
    ):
        studio.train(studio.samples(4), adapter={"base_model": "nobody/musicgen-nothing"})


def lose_weights(folder: Path, part: str) -> None:
    """Such as a shard that was not copied; transformers would draw these at random and train."""
    weights = {name: tensor for name, tensor in load_file(folder / "model.safetensors").items() if part not in name}
    save_file(weights, folder / "model.safetensors", metadata={"format": "pt"})


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        (lambda folder: (folder / "config.json").write_text('{"model_type": "t5"}'), "is of type 't5', not MusicGen"),
        (lambda folder: (folder / "config.json").unlink(), "has no readable config.json"),
        (lambda folder: (folder / "model.safetensors").unlink(), "cannot be read: .*copy the whole model folder again"),
        (lambda folder: (folder / "model.safetensors").write_bytes(b"cut"), "cannot be read"),
        (lambda folder: lose_weights(folder, "lm_heads.0"), "1 of its weights are missing, such as decoder.lm_heads.0"),
        (lambda folder: lose_weights(folder, "codebook"), "4 of its weights are missing, such as audio_encoder"),
        (lambda folder: [path.unlink() for path in folder.glob("*tokenizer*")], "its tokenizer is missing"),
    ],
)
def test_a_damaged_base_model_is_refused(studio: Studio, damage: object, message: str) -> None:
    folder = studio.folder / "models" / "damaged"
    shutil.copytree(studio.models_dir / "tiny", folder)
    (folder / "spiece.model").unlink()
    damage(folder)  # type: ignore[operator]  # a lambda above
    studio.models_dir = folder.parent

    with pytest.raises(BaseModelUnavailable, match=message):
        studio.train(studio.samples(4), adapter={"base_model": "damaged"})


def test_a_pickle_in_a_base_model_is_never_read(studio: Studio) -> None:
    folder = studio.folder / "models" / "pickled"
    shutil.copytree(studio.models_dir / "tiny", folder)
    (folder / "model.safetensors").unlink()
    ran = studio.folder / "ran"
    (folder / "pytorch_model.bin").write_bytes(f"cposix\nsystem\n(S'touch {ran}'\ntR.".encode())
    studio.models_dir = folder.parent

    with pytest.raises(BaseModelUnavailable, match=r"model\.safetensors"):
        studio.train(studio.samples(4), adapter={"base_model": "pickled"})
    assert not ran.exists()


def test_an_empty_data_set_and_missing_audio_are_refused(studio: Studio) -> None:
    with pytest.raises(DataInvalid, match="the data set has no samples; add some, or lower min_rating"):
        studio.train([])

    samples = studio.samples(3)
    samples[1].audio_path.unlink()
    with pytest.raises(DataInvalid, match="the audio of sample 2 is missing"):
        studio.train(samples)


def test_a_single_clip_cannot_be_split(studio: Studio) -> None:
    with pytest.raises(DataInvalid, match="add clips, or set validation_fraction to 0"):
        studio.train(studio.samples(1))

    done = studio.train(studio.samples(1), validation={"validation_fraction": 0})
    assert done.report().best_step == done.report().steps == 2


@pytest.mark.parametrize(
    ("count", "fraction", "held_out"), [(10, 0.1, 1), (10, 0.5, 5), (2, 0.01, 1), (30, 0.1, 3), (5, 0, 0)]
)
def test_the_split_holds_out_whole_clips_and_repeats_by_seed(count: int, fraction: float, held_out: int) -> None:
    samples = [
        TrainingSample(prompt=f"prompt {i}", audio_path=Path(), audio_digest=f"{i % count:064x}")
        for i in range(2 * count)
    ]  # each clip under two prompts

    training, validation = preflight.split(samples, fraction=fraction, seed=1)

    assert len({sample.audio_digest for sample in validation}) == held_out
    assert not {sample.audio_digest for sample in validation} & {sample.audio_digest for sample in training}
    assert sorted(training + validation, key=samples.index) == samples
    assert preflight.split(samples, fraction=fraction, seed=1) == (training, validation)


def test_a_disk_without_room_is_noticed_before_the_first_step(studio: Studio, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(shutil, "disk_usage", lambda _: shutil._ntuple_diskusage(10**9, 10**9, 10**6))

    with pytest.raises(DiskFull, match=r"the checkpoints need 8 MB and 1 MB are free; free 7 MB on the disk"):
        studio.train(studio.samples(4))

    assert studio.telemetry.events == []


def test_a_disk_that_fills_up_in_the_middle_says_what_to_free(studio: Studio, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*_: object, **__: object) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(CheckpointFolder, "prune", full)

    with pytest.raises(DiskFull, match=r"is full; free at least 1\.0 GB and resume the run"):
        studio.train(studio.samples(4))
