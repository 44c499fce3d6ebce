"""A small language model from nothing: text, tokenizer, model, training, samples.

Text first: `corpus` reads files that people give, `sources` downloads the default works, `synthetic` writes its own;
`tokenizer` turns the text into pieces. None of these imports PyTorch.
"""
