"""Training a challenger, and the search for its hyperparameters."""
