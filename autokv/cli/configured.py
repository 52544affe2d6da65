"""The model of a command that takes a configuration: the one that is named, else the one it was found with."""

from __future__ import annotations

from pathlib import Path

from autokv.config import ConfigurationDocument
from autokv.errors import ConfigError, ModelError


def model_of(given: str | None, document: ConfigurationDocument, config: Path) -> str:
    """What :func:`autokv.models.load` takes for ``--model``, or for the model of ``document``, which ``config`` holds.

    Raises:
        ConfigError: no model is given, and the configuration names none, or one that is not here.
    """
    if given is not None:
        return given
    facts = document.model or {}
    name = facts.get("source") or facts.get("name")  # older documents have no source
    remedy = "add --model with a Hugging Face id, a local folder or a GGUF file"
    if not isinstance(name, str) or not name:
        raise ConfigError("names no model", field=str(config), remedy=remedy)
    from autokv import settings
    from autokv.models.source import locate

    try:
        locate(name, settings.current(), weights=False)
    except ModelError as error:
        raise ConfigError(f"its model {name:.200}: {error.message:.200}", field=str(config), remedy=remedy) from None
    return name
