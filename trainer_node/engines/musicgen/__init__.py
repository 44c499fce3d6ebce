"""MusicGen: LoRA adapters on the decoder of a text-to-music model.

Hugging Face's libraries read these variables when they are first imported, so they are set here, before any module of
this package can import them: no telemetry leaves the machine, and what a run logs is worth reading.
"""

import os

os.environ.setdefault("HF_HUB_DISABLE_TELEMETRY", "1")
os.environ.setdefault("HF_HUB_DISABLE_PROGRESS_BARS", "1")
os.environ.setdefault("TRANSFORMERS_VERBOSITY", "error")
os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")
