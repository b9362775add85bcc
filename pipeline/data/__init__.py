"""The rows that models are trained and measured on."""
