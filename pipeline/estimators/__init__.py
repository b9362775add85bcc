"""Estimators: the default one, its hyperparameters, how another is chosen, and how fitted ones are read and used."""
