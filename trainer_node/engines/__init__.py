"""Engines: one package per family of models. The only home of PyTorch, beside `trainer_node.data`."""
