"""The micro base model: a MusicGen of 1.8 million parameters that really plays, trained on tunes that a program writes.

`codec` and `decoder` train its two halves, `assembly` puts them together with a tokenizer, `recipe` does it all.
"""
