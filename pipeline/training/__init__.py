"""Training of a challenger, and the search for hyperparameters."""
