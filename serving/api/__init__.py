"""The API: its requests and answers, who may ask, and how much."""
