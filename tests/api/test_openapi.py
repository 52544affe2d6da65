"""The API's own description: complete, and true to what docs/service.md says."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from jsonschema import Draft202012Validator

from autokv.api.app import create_app
from autokv.wire import JobView, Problem

PAGE = Path(__file__).parents[2] / "docs" / "service.md"
Operation = tuple[str, str, dict[str, Any]]


@pytest.fixture(scope="module")
def document() -> dict[str, Any]:
    """Made without a database: describing the API opens none."""
    return create_app("sqlite:////nowhere/autokv.db").openapi()


@pytest.fixture(scope="module")
def operations(document: dict[str, Any]) -> list[Operation]:
    return [
        (path, method, operation)
        for path, methods in document["paths"].items()
        for method, operation in methods.items()
    ]


def references(value: object) -> Iterator[str]:
    if isinstance(value, dict):
        if isinstance(value.get("$ref"), str):
            yield value["$ref"]
        for inner in value.values():
            yield from references(inner)
    elif isinstance(value, list):
        for inner in value:
            yield from references(inner)


def test_it_is_openapi_31_and_every_reference_leads_somewhere(document: dict[str, Any]) -> None:
    assert document["openapi"].startswith("3.1")
    schemas = document["components"]["schemas"]
    for reference in references(document):
        assert reference.removeprefix("#/components/schemas/") in schemas
    for schema in schemas.values():
        Draft202012Validator.check_schema(schema)


def test_every_operation_says_what_it_does_and_that_errors_are_problems(operations: list[Operation]) -> None:
    assert len(operations) > 30
    for path, method, operation in operations:
        where = f"{method} {path}"
        assert operation["summary"], where
        assert operation["tags"], where
        assert operation.get("description"), where
        errors = {status: answer for status, answer in operation["responses"].items() if int(status) >= 400}
        assert {"422", "500", "503"} <= errors.keys(), where
        if "requestBody" in operation:
            assert {"413", "415"} <= errors.keys(), where
        if "{" in path and path.startswith("/v1/"):
            assert "404" in errors, where
        for status, answer in errors.items():
            schema = answer["content"]["application/problem+json"]["schema"]
            assert schema == {"$ref": "#/components/schemas/Problem"}, f"{where} {status}"


def test_ids_of_operations_are_unique(operations: list[Operation]) -> None:
    ids = [operation["operationId"] for _, _, operation in operations]
    assert len(set(ids)) == len(ids)


def test_it_describes_what_travels_and_not_what_the_framework_would_answer(document: dict[str, Any]) -> None:
    schemas = document["components"]["schemas"]
    assert "HTTPValidationError" not in schemas
    assert schemas["Problem"]["properties"].keys() == Problem.model_fields.keys()
    assert schemas["JobView"]["properties"].keys() == JobView.model_fields.keys()


def test_a_job_s_body_refuses_what_it_does_not_know(document: dict[str, Any]) -> None:
    assert document["components"]["schemas"]["JobSubmission"]["additionalProperties"] is False


def test_everything_that_the_page_names_is_there(document: dict[str, Any]) -> None:
    paths = {re.sub(r"\{[^}]*\}", "{}", path) for path in document["paths"]}
    text = PAGE.read_text(encoding="utf-8")
    named = {
        path.partition("?")[0].rstrip("/") for path in re.findall(r"/(?:v1/[\w./{}-]+|healthz|readyz|metrics)", text)
    }
    assert len(named) > 10
    for path in named:
        template = re.sub(r"\{[^}]*\}", "{}", path)
        known = template in paths or re.sub(r"/(?:chat-prod|[A-Z]{2,})(?=/|$)", "/{}", template) in paths
        assert known, f"docs/service.md names {path}"
