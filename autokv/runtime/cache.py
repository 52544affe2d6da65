"""``CompressedCache``: a configuration inside ``model.generate()``."""

from __future__ import annotations

from functools import wraps
from pathlib import Path
from types import MethodType
from typing import Any, Self

from torch import Tensor
from transformers import Cache, DynamicCache, PreTrainedModel

from autokv.config import CompressionConfig
from autokv.errors import ModelError, RequestError
from autokv.models.context import crossing
from autokv.runtime.layer import CompressedLayer
from autokv.runtime.plan import Plan, make_plan


class CompressedCache(Cache):
    """A cache of transformers that holds what a configuration leaves of keys and values.

    ``model.generate(ids, past_key_values=CompressedCache.from_config(model, "recommended.json"))``. The prompt is
    compressed layer by layer while it is read, so that no more than one layer is ever held in full; what is generated
    joins it in blocks. Layers with a sliding window keep transformers' own cache. A cache serves one conversation: a
    new prompt needs a new one, or :meth:`reset`. ``copy.deepcopy`` copies what is held and shares the model; pickle and
    ``torch.save`` raise :class:`RequestError`. Gradients flow through the prompt; a backward pass through later tokens
    raises :class:`ModelError`.
    """

    layers: list[Any]

    def __init__(self, plan: Plan) -> None:
        self._plan = plan
        layers: list[Any] = list(DynamicCache(config=plan.model.config).layers)
        for layer in plan.facts.full_layers:
            layers[layer] = CompressedLayer(plan, layer)
        super().__init__(layers=layers)
        if plan.facts.switch_tokens is not None:
            _never_drop(plan.model)
        self._last: CompressedLayer | None = None

    @classmethod
    def from_config(cls, model: PreTrainedModel, config: CompressionConfig | str | Path) -> Self:
        """A cache for ``model``, which is given AutoKV's attention; with every other cache it works as before.

        Args:
            model: a causal language model of transformers.
            config: a configuration, a downloaded document, or the path of either.

        Raises:
            ConfigError: the configuration is malformed, was made for another model, or cannot run on this one.
            ModelError: the model cannot be compressed.
            RequestError: a setting makes no sense.
        """
        return cls(make_plan(model, config))

    @property
    def config(self) -> CompressionConfig:
        """What is applied."""
        return self._plan.config

    @property
    def nbytes(self) -> int:
        """Bytes of every tensor that is held, sliding-window layers included."""
        total = 0
        for layer in self.layers:
            if isinstance(layer, CompressedLayer):
                total += sum(tensor.nbytes for tensor in layer.held())
            elif layer.is_initialized:
                total += layer.keys.untyped_storage().nbytes() + layer.values.untyped_storage().nbytes()
        return total

    def kept_positions(self, layer: int, batch: int, head: int) -> Tensor:
        """Positions of the tokens that one KV head holds, int64, ascending; padding has none.

        Raises:
            RequestError: ``layer`` is not compressed.
        """
        held = self.layers[layer]
        if not isinstance(held, CompressedLayer):
            raise RequestError(f"layer {layer} is not compressed", field="layer")
        return held.kept_positions(batch, head)

    def update(
        self, key_states: Tensor, value_states: Tensor, layer_idx: int, *args: object, **kwargs: object
    ) -> tuple[Tensor, Tensor]:
        """Take one layer's new keys and values; transformers calls it.

        Raises:
            ModelError: the layers before did not attend through AutoKV, the model's context is full, or it cannot grow
                across the switch of LongRoPE.
            RequestError: another batch than before.
        """
        if self._last is not None and self._last.waiting:
            raise ModelError(
                "a layer did not attend to what it gave this cache: a step was interrupted, or another model uses the "
                "cache",
                field=self._plan.facts.name,
                remedy="make a new cache for each model and each prompt",
            )
        layer = self.layers[layer_idx]
        self._last = layer if isinstance(layer, CompressedLayer) else None
        keys, values = layer.update(key_states, value_states, *args, **kwargs)
        if self._last is None and key_states.shape[2] > 1:
            # transformers keeps a view of a window, and with it the whole prompt.
            layer.keys, layer.values = layer.keys.detach().clone(), layer.values.detach().clone()
        return keys, values

    def batch_select_indices(self, indices: Tensor) -> None:
        """Keep the sequences ``indices``."""
        for layer in self.layers:
            layer.batch_select_indices(indices)

    def reset(self) -> None:
        """Forget everything, to begin with a new prompt."""
        self._last = None
        for layer in self.layers:
            layer.reset()


def _never_drop(model: PreTrainedModel) -> None:
    """Let ``model`` refuse to generate where transformers would silently go on without a compressed cache.

    Models with LongRoPE begin anew behind their switch, with a cache of transformers' own; an empty one they drop too,
    though nothing in it is wrong.
    """
    name = "prepare_inputs_for_generation"
    own = getattr(type(model), name)

    @wraps(own)
    def prepare(self: PreTrainedModel, *args: Any, **kwargs: Any) -> dict[str, Any]:  # noqa: ANN401 - as the model's own
        inputs: dict[str, Any] = own(self, *args, **kwargs)
        given = kwargs.get("past_key_values")
        if isinstance(given, CompressedCache) and inputs.get("past_key_values") is not given:
            if given.get_seq_length():
                raise crossing(given._plan.facts)
            inputs["past_key_values"] = given
        return inputs

    vars(model)[name] = MethodType(prepare, model)
