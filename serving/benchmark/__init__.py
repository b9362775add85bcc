"""Programs that the serving benchmark measures."""
