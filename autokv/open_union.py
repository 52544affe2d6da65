"""A union of stages, told apart by ``method``, that installed distributions add members to."""

from __future__ import annotations

import sys
from collections.abc import Mapping
from functools import lru_cache
from typing import Any, get_args

from pydantic import (
    BaseModel,
    GetCoreSchemaHandler,
    GetJsonSchemaHandler,
    SerializationInfo,
    SerializerFunctionWrapHandler,
    ValidatorFunctionWrapHandler,
)
from pydantic.json_schema import JsonSchemaValue
from pydantic_core import CoreSchema, PydanticKnownError, core_schema

from autokv.errors import PluginError
from autokv.plugins import plugins


def method_of(stage: type[BaseModel]) -> str:
    """The ``method`` that stands for a stage's class in a document; empty if there is none."""
    tags = get_args(stage.model_fields["method"].annotation) if "method" in stage.model_fields else ()
    return str(tags[0]) if len(tags) == 1 else ""


class OpenUnion:
    """Metadata of a field whose type is a union discriminated by ``method``.

    What is registered under an entry point is a class with a ``stage``: the pydantic model of its member. Such members
    are loaded when a document names a method that is not of the union, and for the JSON Schema.

    Args:
        members: of the union.
        base: class of the members to come.
        group: of entry points, each named as its method.
    """

    def __init__(self, members: tuple[type[BaseModel], ...], base: type[BaseModel], group: str) -> None:
        self._members, self._base, self._group = members, base, group
        self._methods = [method_of(member) for member in members]
        self._checked = lru_cache(maxsize=1)(self._found)

    def registered(self) -> Mapping[str, Any]:
        """What distributions registered, by method; looked up anew when Python's path changes.

        Raises:
            PluginError: something cannot be loaded, or is no class with a stage of its own.
        """
        return self._checked(tuple(sys.path))

    def _found(self, path: tuple[str, ...]) -> Mapping[str, Any]:
        found = plugins(self._group)
        for name, registered in found.items():
            where, stage = f"{self._group}: {name}", getattr(registered, "stage", None)
            if not (isinstance(registered, type) and isinstance(stage, type) and issubclass(stage, self._base)):
                raise PluginError(
                    f"is not a class whose `stage` is a class of {self._base.__name__}",
                    field=where,
                    remedy="see CONTRIBUTING.md, Recipes",
                )
            if method_of(stage) != name or name in self._methods:
                raise PluginError(
                    f"registers the method {method_of(stage) or 'without a name'!r}",
                    field=where,
                    remedy="name the entry point as the method, and neither as a method of AutoKV",
                )
        return found

    def __get_pydantic_core_schema__(self, source: object, handler: GetCoreSchemaHandler) -> CoreSchema:
        return core_schema.no_info_wrap_validator_function(
            self._validate,
            handler(source),
            serialization=core_schema.wrap_serializer_function_ser_schema(self._serialize, info_arg=True),
        )

    def __get_pydantic_json_schema__(self, schema: CoreSchema, handler: GetJsonSchemaHandler) -> JsonSchemaValue:
        json_schema = handler(schema)
        # Spelled out in place: a discriminator maps to what has a name, which they need not have.
        members = [handler(registered.stage.__pydantic_core_schema__) for registered in self.registered().values()]
        return {**json_schema, "oneOf": [*json_schema["oneOf"], *members]}

    def _validate(self, value: object, handler: ValidatorFunctionWrapHandler) -> object:
        if isinstance(value, self._base) and not isinstance(value, self._members):
            return value
        method = value.get("method") if isinstance(value, dict) else None
        if not isinstance(method, str) or method in self._methods:
            return handler(value)
        registered = self.registered()
        if method in registered:
            return registered[method].stage.model_validate(value)
        names = [*self._methods, *registered, f"that of a package to be installed ({self._group})"]
        raise PydanticKnownError(
            "union_tag_invalid",
            {"discriminator": "'method'", "tag": method, "expected_tags": ", ".join(map(repr, names))},
        )

    def _serialize(self, value: Any, handler: SerializerFunctionWrapHandler, info: SerializationInfo) -> Any:  # noqa: ANN401
        if isinstance(value, self._base) and not isinstance(value, self._members):
            return value.model_dump(mode=info.mode)
        return handler(value)
