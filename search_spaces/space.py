"""``SearchSpace``: which configurations a search may try, and the settings from the literature among them.

A point is a mapping of parameter names to values. A parameter is named after the field that it sets
(``eviction.keep_ratio``, ``quantization.key.bits``); where alternatives of a stage give one field different domains,
the name ends in the alternative's first method (``eviction.keep_ratio@snapkv``). Parameters are conditional: those of
the methods that a point does not choose do not matter, and may be left out.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, replace
from typing import Any

from autokv.config import CompressionConfig
from autokv.errors import ConfigError, SpaceError
from autokv.search_spaces.fitting import fit_stage, largest, repair
from autokv.search_spaces.stage import Chooser, Domain, Scalar, Stage, get, put

Params = dict[str, Scalar]


@dataclass(frozen=True)
class SearchSpace:
    """Three stages and the literature's settings, by name, that lie inside them."""

    name: str
    description: str
    stages: Mapping[str, Stage]
    literature: Mapping[str, CompressionConfig] = field(default_factory=dict)
    head_dim: int | None = None
    """What the space is :meth:`fitted` to; then stages that contradict each other are reconciled."""

    @property
    def parameters(self) -> dict[str, Domain]:
        """Every parameter by name, whatever it depends on."""
        return {name: domain for stage in self.stages.values() for name, domain in stage.parameters.items()}

    def sample(self, chooser: Chooser) -> Params:
        """Let ``chooser`` (an Optuna trial) choose every parameter, whether it will matter or not."""
        return {name: domain.suggest(chooser, name) for name, domain in self.parameters.items()}

    def to_config(self, params: Mapping[str, Any]) -> CompressionConfig:
        """The configuration at a point. Many points may describe one configuration; :meth:`params_of` gives its own.

        Raises:
            ConfigError: the point makes no configuration.
        """
        document = {name: stage.document(params) for name, stage in self.stages.items()}
        if self.head_dim is not None:
            repair(document, self.stages, self.head_dim)
        return CompressionConfig.parse({"pipeline": document})

    def params_of(self, config: CompressionConfig) -> Params:
        """The point of ``config``, with nothing that does not matter; :meth:`to_config` turns it into ``config``.

        Raises:
            SpaceError: ``config`` lies outside, with the path of the first field that does.
        """
        pipeline = config.pipeline.model_dump(mode="json")
        params: Params = {}
        for name, stage in self.stages.items():
            document = pipeline[name]
            if document["method"] not in stage.methods:
                raise self._outside(f"{name}.method", document["method"])
            params |= stage.params_of(document)
            for path, parameter in stage.searched(document["method"]):
                if get(document, path) not in parameter.domain:
                    raise self._outside(f"{name}.{path}", get(document, path))
        mine = self.to_config(params).pipeline.model_dump(mode="json")
        for path, value in _leaves(pipeline):
            if get(mine, path) != value:
                raise self._outside(path, value)
        return params

    def completed(self, params: Mapping[str, Any]) -> Params:
        """``params`` with a value, always the same, for every parameter that does not matter there."""
        return {name: params.get(name, domain.ends()[0]) for name, domain in self.parameters.items()}

    def fitted(self, head_dim: int) -> SearchSpace:
        """This space without what cannot run on ``head_dim`` channels.

        A setting from the literature is kept as it is, reconciled with ``head_dim`` (its name says so), or dropped.

        Raises:
            SpaceError: nothing is left of a stage.
        """
        stages = {name: fit_stage(stage, head_dim) for name, stage in self.stages.items()}
        fitted = replace(self, stages=stages, head_dim=head_dim)
        literature: dict[str, CompressionConfig] = {}
        for name, config in self.literature.items():
            try:
                adapted = replace(self, head_dim=head_dim).to_config(self.params_of(config))
                fitted.params_of(adapted)
            except (SpaceError, ConfigError):
                continue
            literature[name if adapted == config else f"{name}, fitted to head_dim {head_dim}"] = adapted
        return replace(fitted, literature=literature)

    def statistics_configs(self) -> Iterator[CompressionConfig]:
        """One configuration per eviction method with its largest options, for what a prefill must keep."""
        stage = self.stages["eviction"]
        for method in stage.methods:
            document: dict[str, Any] = {"method": method}
            for path, spec in stage.methods[method].items():
                put(document, path, largest(spec))
            yield CompressionConfig.parse({"pipeline": {"eviction": document}})

    def grid(self) -> Iterator[Params]:
        """Every point.

        Raises:
            SpaceError: a range is continuous.
        """
        for parts in itertools.product(*(list(_points(stage)) for stage in self.stages.values())):
            yield {name: value for part in parts for name, value in part.items()}

    def _outside(self, path: str, value: object) -> SpaceError:
        return SpaceError(f"{value!r} lies outside the search space {self.name!r}", field=path)


def _points(stage: Stage) -> Iterator[Params]:
    for method in stage.methods:
        parameters = [parameter for _, parameter in stage.searched(method)]
        choice: Params = {f"{stage.name}.method": method} if len(stage.methods) > 1 else {}
        for point in itertools.product(*(parameter.domain.grid() for parameter in parameters)):
            yield choice | {parameter.name: value for parameter, value in zip(parameters, point, strict=True)}


def _leaves(document: Mapping[str, Any], prefix: str = "") -> Iterator[tuple[str, Any]]:
    for key, value in document.items():
        if isinstance(value, Mapping):
            yield from _leaves(value, f"{prefix}{key}.")
        else:
            yield f"{prefix}{key}", value
