"""A complete MusicGen folder with tiny random weights, made in seconds and without a network.

T5 encoder with a SentencePiece tokenizer trained on the spot, EnCodec and decoder, in the layout that `from_pretrained`
reads. It is for trying out an installation and for tests: it learns, but what it plays is noise. The same seed gives
the same bytes on the same machine. Three things must not be left to the default random weights:

* EnCodec's codebooks start as zeros, which would make every code 0: they are filled from what its encoder says about
  varied tones.
* Heads with the usual deviation of 0.02 stay near uniform on so narrow a decoder, whatever is learnt below them.
* Layers with that deviation let next to nothing of the prompt through, so that guidance would change no sample.
"""

from __future__ import annotations

import io
from pathlib import Path

import sentencepiece
import torch
from torch import Tensor
from transformers import (
    EncodecConfig,
    EncodecFeatureExtractor,
    EncodecModel,
    GenerationConfig,
    MusicgenConfig,
    MusicgenDecoderConfig,
    MusicgenForConditionalGeneration,
    MusicgenProcessor,
    T5Config,
    T5Tokenizer,
)

CODEC_HZ = 16000
FRAME_RATE_HZ = 50
CODEBOOK_SIZE = 64
LEVELS = 4  # residual codebooks of one channel

CORPUS = """
a warm lo-fi hip hop beat with mellow piano and vinyl crackle
80s pop track with bassy drums, bright synth and a catchy melody
90s rock song with loud guitars and heavy drums
low sine drone, slow and dark
high bright square wave arpeggio, fast tempo, major key
soft plucked strings playing a scale in a minor key, medium tempo
calm ambient pad, slow tempo, no drums
fast techno, 130 bpm, four on the floor, saw bass
a sad violin melody over quiet piano chords
happy ukulele, whistling and hand claps
jazz trio with double bass, brushed drums and a muted trumpet
epic orchestral music with brass, choir and big drums
funk groove: slap bass, wah guitar & organ
solo flute; gentle, airy, high register
noise, silence, hum, click, chirp, bell, chime, marimba, kalimba
0 1 2 3 4 5 6 7 8 9 60 70 80 90 100 110 120 130 140 150 160 170 180 bpm
the quick brown fox jumps over the lazy dog, "pack my box" (with five dozen) liquor jugs!
""".strip().splitlines()


def make_tiny(folder: Path | str, *, stereo: bool = False, seed: int = 0) -> Path:
    """Write the model into `folder` (made if missing, its files replaced) and return it as a Path."""
    folder = Path(folder)
    folder.mkdir(parents=True, exist_ok=True)
    tokenizer = _tokenizer(folder)
    threads = torch.get_num_threads()
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        torch.set_num_threads(1)  # sums are split by thread, so their last bits depend on how many there are
        try:
            model = _model(vocab_size=len(tokenizer), channels=2 if stereo else 1)
        finally:
            torch.set_num_threads(threads)
    model.save_pretrained(folder)
    extractor = EncodecFeatureExtractor(feature_size=2 if stereo else 1, sampling_rate=CODEC_HZ, padding_side="left")
    MusicgenProcessor(extractor, tokenizer).save_pretrained(folder)
    return folder


def _tokenizer(folder: Path) -> T5Tokenizer:
    """SentencePiece unigram with T5's special pieces: pad 0, end 1, unknown 2, no start."""
    trained = io.BytesIO()
    sentencepiece.SentencePieceTrainer.train(
        sentence_iterator=iter([*CORPUS, *(line.upper() for line in CORPUS)] * 4),
        model_writer=trained,
        vocab_size=300,
        model_type="unigram",
        pad_id=0,
        eos_id=1,
        unk_id=2,
        bos_id=-1,
        hard_vocab_limit=False,
        num_threads=1,
        minloglevel=2,
    )
    (folder / "spiece.model").write_bytes(trained.getvalue())
    return T5Tokenizer.from_pretrained(folder, extra_ids=0)


def _model(*, vocab_size: int, channels: int) -> MusicgenForConditionalGeneration:
    """The model with its weights drawn from torch's global generator."""
    text = T5Config(
        vocab_size=vocab_size,
        d_model=48,
        d_kv=12,
        d_ff=96,
        num_layers=2,
        num_heads=4,
        feed_forward_proj="gated-gelu",
        dropout_rate=0.0,
    )
    bits = (CODEBOOK_SIZE - 1).bit_length()
    codec = EncodecConfig(
        sampling_rate=CODEC_HZ,
        audio_channels=1,
        num_filters=4,
        hidden_size=16,
        codebook_size=CODEBOOK_SIZE,
        upsampling_ratios=[8, 5, 4, 2],
        target_bandwidths=[FRAME_RATE_HZ * bits * LEVELS / 1000],
        use_causal_conv=False,
        num_lstm_layers=1,
        normalize=False,
        chunk_length_s=None,
    )
    decoder = MusicgenDecoderConfig(
        vocab_size=CODEBOOK_SIZE,
        hidden_size=64,
        ffn_dim=256,
        num_hidden_layers=2,
        num_attention_heads=4,
        num_codebooks=LEVELS * channels,
        audio_channels=channels,
        pad_token_id=CODEBOOK_SIZE,
        bos_token_id=CODEBOOK_SIZE,
        max_position_embeddings=2048,
        initializer_factor=0.125,  # 1 / sqrt(hidden_size): a layer gives out what it takes in
    )
    config = MusicgenConfig(text_encoder=text, audio_encoder=codec, decoder=decoder)
    model = MusicgenForConditionalGeneration(config).eval()
    with torch.no_grad():
        _fill_codebooks(model.audio_encoder)
        model.enc_to_dec_proj.weight.normal_(0, 0.15)
        for table in [*model.decoder.lm_heads, *model.decoder.model.decoder.embed_tokens]:
            table.weight.normal_(0, 0.5)
    model.generation_config = GenerationConfig(
        do_sample=True,
        guidance_scale=3.0,
        max_length=1500,
        pad_token_id=CODEBOOK_SIZE,
        bos_token_id=CODEBOOK_SIZE,
        decoder_start_token_id=CODEBOOK_SIZE,
    )
    return model


def _fill_codebooks(codec: EncodecModel) -> None:
    """Give each residual codebook vectors that the encoder produces, level by level."""
    time_s = torch.arange(CODEC_HZ) / CODEC_HZ
    tone_hz = torch.exp(torch.empty(64).uniform_(4.0, 8.0))
    sound_BN = 0.5 * torch.sin(2 * torch.pi * tone_hz[:, None] * time_s) + 0.1 * torch.randn(64, CODEC_HZ)
    rest_ND: Tensor = codec.encoder(sound_BN[:, None]).transpose(1, 2).reshape(-1, codec.config.hidden_size)
    for level in codec.quantizer.layers:
        level.codebook.embed.copy_(rest_ND[torch.randperm(len(rest_ND))[:CODEBOOK_SIZE]])
        rest_ND = rest_ND - level.decode(level.encode(rest_ND.T[None]))[0].T
