"""Tunes that a program writes and a program can judge: what the demonstration and the evaluation of adapters rest on.

`world` says what a tune is, `synth` plays it, `prompts` describes it, `listener` measures it from its samples alone.
"""
