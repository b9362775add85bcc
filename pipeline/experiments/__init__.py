"""Experiments: another contract, other hyperparameters or another estimator, compared with the champion, then run."""

from pipeline.experiments.experiment import Experiment

__all__ = ["Experiment"]
