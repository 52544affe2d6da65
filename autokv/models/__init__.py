"""Models: found, checked, described and loaded safely through transformers.

:class:`ModelFacts` and :mod:`autokv.models.offered` load without torch.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

from autokv.models.facts import LayerKind, ModelFacts

if TYPE_CHECKING:
    from autokv.models.demo import demo_model_path
    from autokv.models.inspection import inspect
    from autokv.models.loading import LoadedModel, load

__all__ = ["LayerKind", "LoadedModel", "ModelFacts", "demo_model_path", "inspect", "load"]

_MODULES = {
    "LoadedModel": "autokv.models.loading",
    "demo_model_path": "autokv.models.demo",
    "inspect": "autokv.models.inspection",
    "load": "autokv.models.loading",
}


def __getattr__(name: str) -> Any:  # noqa: ANN401 - what has no type before it is loaded
    """Load what needs torch when it is asked for."""
    if name not in _MODULES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(_MODULES[name]), name)
