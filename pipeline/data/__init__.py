"""The rows that models are trained and tested on."""
