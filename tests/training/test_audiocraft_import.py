"""audiocraft's checkpoints as base models: the same numbers, whatever made the file, and a clear no to other files."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

import pytest
import torch
import yaml
from transformers import MusicgenForConditionalGeneration

from tests.support import audiocraft
from tests.training.adapters import random_adapter
from tests.training.studio import Studio
from trainer_node.engines.musicgen import family
from trainer_node.engines.musicgen.export import export
from trainer_node.engines.musicgen.family import Clip
from trainer_node.engines.musicgen.importing import import_checkpoint
from trainer_node.engines.musicgen.interop import checkpoint_files, decoder, reading, settings
from trainer_node.engines.musicgen.interop.errors import CheckpointRefused
from trainer_node.engines.musicgen.model_card import Format

PROMPT = "calm ambient pad"

# The decisive part of a configuration as audiocraft's recipes write it: with references, and with much else beside.
RECIPE = """
solver: musicgen
sample_rate: 16000
channels: 1
compression_model_checkpoint: //pretrained/facebook/encodec_32khz
interleave_stereo_codebooks: {use: false, per_timestep: false}
dataset: {segment_duration: 30, batch_size: 192, sample_rate: '${sample_rate}'}
optim: {optimizer: dadam, lr: 1, updates_per_epoch: 2000}
lm_model: transformer_lm
codebooks_pattern:
  modeling: delay
  delay: {delays: [0, 1, 2, 3], flatten_first: 0, empty_initial: 0}
  unroll: {flattening: [0, 1, 2, 3], delays: [0, 0, 0, 0]}
generate: {lm: {use_sampling: true, top_k: 250}, audio: {sample_rate: '${sample_rate}'}}
width: 48
transformer_lm:
  dim: ${width}
  num_heads: 6
  num_layers: 3
  hidden_scale: 2
  n_q: 4
  card: 64
  dropout: 0.0
  emb_lr: null
  activation: gelu
  norm_first: true
  bias_proj: false
  bias_ff: false
  bias_attn: false
  past_context: null
  causal: true
  custom: false
  memory_efficient: true
  attention_as_float32: false
  layer_scale: null
  positional_embedding: sin
  xpos: false
  checkpointing: none
  weight_init: gaussian
  depthwise_init: current
  zero_bias_init: true
  norm: layer_norm
  cross_attention: true
  qk_layer_norm: false
  qk_layer_norm_cross: false
  attention_dropout: null
  kv_repeat: 1
  two_step_cfg: false
classifier_free_guidance: {training_dropout: 0.3, inference_coef: 3.0}
attribute_dropout: {}
fuser:
  cross_attention_pos_emb: false
  cross_attention_pos_emb_scale: 1
  sum: []
  prepend: []
  cross: [description]
  input_interpolate: []
conditioners:
  args: {merge_text_conditions_p: 0.25, drop_desc_p: 0.5}
  description: {model: t5, t5: {name: t5-small, finetune: false, word_dropout: 0.3, normalize_text: false}}
"""


def changed(path: str, value: object) -> str:
    """RECIPE with one setting changed, or taken away where the value is None."""
    tree: Any = yaml.safe_load(RECIPE)
    *parents, last = path.split(".")
    here = tree
    for name in parents:
        here = here[name]
    here[last] = value
    return yaml.safe_dump(tree)


@pytest.fixture(scope="module")
def theirs(tmp_path_factory: pytest.TempPathFactory, wide_models_dir: Path) -> audiocraft.Born:
    """A checkpoint that audiocraft made of RECIPE, in half precision, with the model that it is of."""
    folder = tmp_path_factory.mktemp("born")
    with audiocraft.text_encoder_of(wide_models_dir / "wide", folder):
        return audiocraft.born(RECIPE, folder / "state_dict.bin")


def test_a_checkpoint_that_audiocraft_made_gives_its_logits(
    theirs: audiocraft.Born, tmp_path: Path, wide_models_dir: Path
) -> None:
    import_checkpoint(theirs.file, tmp_path / "base", like="wide", models_dir=wide_models_dir)
    base = family.load_base(tmp_path / "base", name="base")

    codes_1KT = torch.randint(0, 64, (1, 4, 40), generator=torch.Generator().manual_seed(2))
    batch = family.collate([Clip(codes_1KT[0].to(torch.int16), base.encode_text(PROMPT))], channels=1)
    with torch.no_grad():
        ours = family.score(base.model, batch)[batch["labels_BKS"] != -100]

    assert base.model.config.decoder.num_hidden_layers == 3
    torch.testing.assert_close(ours, theirs.logits(codes_1KT, PROMPT).flatten(0, 2), rtol=1e-5, atol=1e-5)


def test_what_was_imported_keeps_the_other_models_ears_and_voice_and_plays(
    theirs: audiocraft.Born, tmp_path: Path, wide_models_dir: Path
) -> None:
    import_checkpoint(theirs.file, tmp_path / "base", like="wide", models_dir=wide_models_dir)
    base, like = (
        family.load_base(tmp_path / "base", name="base"),
        family.load_base(wide_models_dir / "wide", name="wide"),
    )

    sound = base.model.generate(**base.tokenizer([PROMPT], return_tensors="pt"), max_new_tokens=13)

    assert base.codec_fingerprint() == like.codec_fingerprint()
    assert base.text_fingerprint() == like.text_fingerprint()
    assert sound.shape == (1, 1, 10 * 320)
    card = (tmp_path / "base" / "README.md").read_text()
    assert "`state_dict.bin`" in card
    assert "those of `wide`" in card


def test_nobody_is_told_a_licence_of_what_was_imported_nor_of_an_adapter_on_it(
    theirs: audiocraft.Born, tmp_path: Path, wide_models_dir: Path
) -> None:
    like = tmp_path / "models" / "like"
    shutil.copytree(wide_models_dir / "wide", like)
    (like / "README.md").write_text("---\nlicense: mit\n---\n")
    import_checkpoint(theirs.file, tmp_path / "models" / "imported", like="like", models_dir=tmp_path / "models")

    adapter = random_adapter(tmp_path / "models" / "imported", tmp_path / "adapter")
    export(adapter, tmp_path / "out", Format.MERGED, models_dir=tmp_path / "models")

    imported = (tmp_path / "models" / "imported" / "README.md").read_text()
    card = (tmp_path / "out" / "README.md").read_text()
    assert "license: other\nlicense_name: unknown\n" in imported
    assert "What is of `like` is under `mit`." in imported
    assert "The licence of the base model is unknown: ask whoever gave you `imported`." in card
    assert "mit" not in yaml.safe_load(card.split("---\n")[1]).values()


@pytest.mark.parametrize("name", ["wide", "wide-stereo"])
def test_an_export_comes_back_bit_for_bit_with_its_own_codec(name: str, tmp_path: Path, wide_models_dir: Path) -> None:
    adapter = random_adapter(wide_models_dir / name, tmp_path / "adapter")
    export(adapter, tmp_path / "merged", Format.MERGED, models_dir=wide_models_dir)
    export(adapter, tmp_path / "there", Format.AUDIOCRAFT, models_dir=wide_models_dir, text_encoder="t5-small")
    like = family.load_base(wide_models_dir / name, name=name)
    torch.nn.init.zeros_(like.model.audio_encoder.quantizer.layers[0].codebook.embed)
    like.model.save_pretrained(tmp_path / "like")
    like.tokenizer.save_pretrained(tmp_path / "like")

    import_checkpoint(tmp_path / "there", tmp_path / "back", like="like", models_dir=tmp_path)

    merged = family.load_base(tmp_path / "merged", name="merged").model
    back = family.load_base(tmp_path / "back", name="back").model
    assert merged.state_dict().keys() == back.state_dict().keys()
    for key, tensor in merged.state_dict().items():
        assert torch.equal(tensor, back.state_dict()[key]), key


def test_a_decoder_as_wide_as_its_text_encoder_goes_there_and_back_without_a_projection(
    tmp_path: Path, models_dir: Path
) -> None:
    config = family.load_base(models_dir / "tiny", name="tiny").model.config
    config.decoder.hidden_size = config.text_encoder.d_model
    torch.manual_seed(0)
    ours = MusicgenForConditionalGeneration(config).decoder.state_dict(prefix="decoder.")

    theirs = decoder.to_audiocraft(ours, layers=2, codebooks=4, width=48)
    back = decoder.without_identity(decoder.to_transformers(theirs, layers=2, codebooks=4))

    assert theirs["condition_provider.conditioners.description.output_proj.weight"].equal(torch.eye(48))
    assert back.keys() == {name for name in ours if "embed_positions" not in name}
    assert all(torch.equal(tensor, ours[name]) for name, tensor in back.items())


def test_a_training_starts_from_what_was_imported(
    theirs: audiocraft.Born, studio: Studio, wide_models_dir: Path
) -> None:
    studio.models_dir = studio.folder / "models"
    import_checkpoint(theirs.file, studio.models_dir / "imported", like="wide", models_dir=wide_models_dir)

    done = studio.train(studio.samples(6), adapter={"base_model": "imported"}, training={"epochs": 4})

    losses = done.metric("loss")
    assert losses[-1] < losses[0]


@pytest.mark.parametrize(
    ("path", "value", "why"),
    [
        ("conditioners.self_wav", {"model": "chroma_stem"}, "its conditions are description, self_wav"),
        ("conditioners", None, "its conditions are none"),
        ("codebooks_pattern.modeling", "parallel", "codebooks_pattern.modeling is 'parallel', not 'delay'"),
        ("codebooks_pattern.delay.delays", [0, 0, 1, 1], "codebooks_pattern.delay.delays is [0, 0, 1, 1]"),
        ("transformer_lm.norm_first", False, "transformer_lm.norm_first is False, not True"),
        ("transformer_lm.positional_embedding", "rope", "transformer_lm.positional_embedding is 'rope', not 'sin'"),
        ("transformer_lm.activation", "relu", "transformer_lm.activation is 'relu', not 'gelu'"),
        ("transformer_lm.num_layers", "many", "transformer_lm.num_layers in the checkpoint's settings is 'many'"),
        ("fuser.prepend", ["description"], "fuser.prepend is ['description'], not []"),
        ("channels", 5, "channels are 5, not 1 or 2"),
    ],
)
def test_a_model_that_this_decoder_cannot_be_is_refused_by_the_setting(path: str, value: object, why: str) -> None:
    with pytest.raises(CheckpointRefused) as refused:
        settings.read(changed(path, value))

    assert why in refused.value.message


def test_a_setting_that_decides_and_is_missing_is_refused() -> None:
    tree = yaml.safe_load(RECIPE)
    del tree["transformer_lm"]["activation"]

    with pytest.raises(CheckpointRefused, match="activation is missing"):
        settings.read(yaml.safe_dump(tree))


@pytest.mark.parametrize(
    ("width", "channels", "like"),
    [
        (1024, 1, "facebook/musicgen-small"),
        (1536, 2, "facebook/musicgen-stereo-medium"),
        (2048, 1, "facebook/musicgen-large"),
    ],
)
def test_the_model_to_be_like_is_metas_of_that_size(width: int, channels: int, like: str) -> None:
    tree = yaml.safe_load(RECIPE)
    tree["transformer_lm"]["dim"], tree["channels"] = width, channels
    if channels == 2:
        tree["transformer_lm"]["n_q"], tree["codebooks_pattern"]["delay"]["delays"] = 8, [0, 0, 1, 1, 2, 2, 3, 3]
        tree["interleave_stereo_codebooks"]["use"] = True

    assert reading.guess(settings.read(yaml.safe_dump(tree))) == like


def test_another_size_has_to_be_named(theirs: audiocraft.Born, tmp_path: Path) -> None:
    with pytest.raises(CheckpointRefused, match=r"width 48.* --like"):
        import_checkpoint(theirs.file, tmp_path / "base", like="", models_dir=tmp_path)

    assert list(tmp_path.iterdir()) == []


def test_another_codec_is_refused(theirs: audiocraft.Born, tmp_path: Path, wide_models_dir: Path) -> None:
    tensors, text = checkpoint_files.exported(theirs.file)
    checkpoint_files.write(tmp_path / "fast.bin", tensors, text.replace("sample_rate: 16000", "sample_rate: 44100"))

    with pytest.raises(CheckpointRefused, match=r"codes of 44100 Hz.*wide makes codes of 16000 Hz.*--like"):
        import_checkpoint(tmp_path / "fast.bin", tmp_path / "base", like="wide", models_dir=wide_models_dir)


def test_a_codec_that_is_only_named_has_to_be_metas(
    theirs: audiocraft.Born, tmp_path: Path, wide_models_dir: Path
) -> None:
    (tmp_path / "state_dict.bin").write_bytes(theirs.file.read_bytes())
    audiocraft.save({"pretrained": "dac_44khz", "exported": True}, tmp_path / "compression_state_dict.bin")

    with pytest.raises(CheckpointRefused, match="the codec dac_44khz"):
        import_checkpoint(tmp_path, tmp_path / "base", like="wide", models_dir=wide_models_dir)


@pytest.mark.parametrize("how", ["missing", "foreign"])
def test_tensors_that_do_not_belong_there_are_named(
    how: str, theirs: audiocraft.Born, tmp_path: Path, wide_models_dir: Path
) -> None:
    tensors, text = checkpoint_files.exported(theirs.file)
    if how == "missing":
        del tensors["transformer.layers.1.linear1.weight"]
    else:
        tensors["condition_provider.conditioners.self_wav.output_proj.weight"] = torch.zeros(2)
    checkpoint_files.write(tmp_path / "odd.bin", tensors, text)

    named = "layers.1.linear1" if how == "missing" else "self_wav.output_proj"
    with pytest.raises(CheckpointRefused, match=named):
        import_checkpoint(tmp_path / "odd.bin", tmp_path / "base", like="wide", models_dir=wide_models_dir)


def test_a_checkpoint_of_a_training_is_refused_with_how_to_export_it(theirs: audiocraft.Born, tmp_path: Path) -> None:
    audiocraft.save_training_checkpoint(theirs.file, tmp_path / "checkpoint.th")

    with pytest.raises(CheckpointRefused, match=r"checkpoint of a training.*export\.export_lm"):
        import_checkpoint(tmp_path / "checkpoint.th", tmp_path / "base", like="wide", models_dir=tmp_path)


def test_nothing_in_a_checkpoint_is_run(tmp_path: Path) -> None:
    ran = tmp_path / "ran"
    audiocraft.save(audiocraft.Trap(ran), tmp_path / "state_dict.bin")

    with pytest.raises(CheckpointRefused, match="cannot be read as an audiocraft checkpoint"):
        import_checkpoint(tmp_path, tmp_path / "base", like="wide", models_dir=tmp_path)

    assert not ran.exists()


@pytest.mark.parametrize("content", [b"", b"PK\x03\x04 cut", b"no checkpoint at all"])
def test_a_damaged_file_is_refused(content: bytes, tmp_path: Path) -> None:
    (tmp_path / "state_dict.bin").write_bytes(content)

    with pytest.raises(CheckpointRefused, match="copy it again"):
        import_checkpoint(tmp_path, tmp_path / "base", like="wide", models_dir=tmp_path)


def test_a_folder_without_a_checkpoint_is_refused(tmp_path: Path) -> None:
    with pytest.raises(CheckpointRefused, match=r"there is no state_dict\.bin"):
        import_checkpoint(tmp_path, tmp_path / "base", like="wide", models_dir=tmp_path)
