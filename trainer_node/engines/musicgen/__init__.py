"""MusicGen: LoRA adapters on the decoder of a text-to-music model."""
