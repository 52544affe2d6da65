"""AutoKV: measure, search and deploy KV-cache compression."""

from autokv.config import CompressionConfig, ConfigurationDocument
from autokv.errors import AutoKVError

__all__ = ["AutoKVError", "CompressionConfig", "ConfigurationDocument", "__version__"]

__version__ = "0.1.0"
