"""Models: found, checked, described and loaded safely through transformers."""

from autokv.models.demo import demo_model_path
from autokv.models.facts import LayerKind, ModelFacts
from autokv.models.inspection import inspect
from autokv.models.loading import LoadedModel, load

__all__ = ["LayerKind", "LoadedModel", "ModelFacts", "demo_model_path", "inspect", "load"]
