"""How good a model is, whether it may serve, and whether what it scores has drifted."""
