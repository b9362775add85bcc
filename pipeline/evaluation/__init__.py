"""How good a model is, whether it may serve, and whether the transactions it scores have drifted."""
