"""The client of an AutoKV server: ``Client``, and ``AsyncClient`` for event loops. Loads without torch."""

from autokv.client.client import AsyncClient, AsyncTuning, Client, Tuning

__all__ = ["AsyncClient", "AsyncTuning", "Client", "Tuning"]
