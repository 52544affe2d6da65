"""The HTTP API: ``create_app`` makes it."""

from autokv.api.app import create_app

__all__ = ["create_app"]
