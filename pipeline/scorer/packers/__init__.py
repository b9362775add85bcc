"""Packers: one module for each library whose models can be turned into flat arrays (`pipeline.scorer.arrays_file`).

A packer is a module with a function `pack(model)` that returns the arrays, or None for a model that they cannot
describe. It is listed in `pipeline.scorer.packers.choose`.
"""
