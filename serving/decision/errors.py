"""Why a transaction cannot be decided."""

from processing.errors import FraudlineError


class NoModel(FraudlineError):
    """No model is loaded, so nothing can be scored yet."""
