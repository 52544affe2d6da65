"""AutoKV: find the KV-cache compression that fits a model, a device and its traffic."""

from importlib import import_module
from typing import TYPE_CHECKING, Any

from autokv.config import CompressionConfig, ConfigurationDocument
from autokv.errors import AutoKVError

if TYPE_CHECKING:
    from autokv.runtime.cache import CompressedCache
    from autokv.runtime.session import compress

__all__ = ["AutoKVError", "CompressedCache", "CompressionConfig", "ConfigurationDocument", "__version__", "compress"]

__version__ = "0.1.0"

_RUNTIME = {"CompressedCache": "autokv.runtime.cache", "compress": "autokv.runtime.session"}


def __getattr__(name: str) -> Any:  # noqa: ANN401 - what has no type before it is loaded
    """Load what needs torch when it is asked for."""
    if name not in _RUNTIME:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(_RUNTIME[name]), name)
