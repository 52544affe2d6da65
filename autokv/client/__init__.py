"""The client of an AutoKV server: ``Client``, and ``AsyncClient`` for event loops. Loads without torch."""

from autokv.client.async_client import AsyncClient, AsyncTuning
from autokv.client.client import Client, Tuning
from autokv.client.files import download_results

__all__ = ["AsyncClient", "AsyncTuning", "Client", "Tuning", "download_results"]
