"""The scheduler."""


class Scheduler:
    """To come."""
