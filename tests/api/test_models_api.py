"""Models over HTTP."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from fastapi.testclient import TestClient

from autokv.models import offered


def test_models_of_the_roots_come_by_name_and_in_pages(
    client: TestClient, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(offered, "_last", {})
    monkeypatch.setattr(offered, "HF_HUB_CACHE", str(tmp_path / "hub"))
    monkeypatch.setenv("AUTOKV_MODEL_ROOTS", str(tmp_path / "models"))
    monkeypatch.setenv("AUTOKV_CACHE_DIR", str(tmp_path / "cache"))
    names = ["a", "b/c", "b/d", "é"]
    for name in names:
        folder = tmp_path / "models" / name
        folder.mkdir(parents=True)
        (folder / "config.json").write_text(
            json.dumps({"architectures": ["LlamaForCausalLM"], "max_position_embeddings": 64})
        )
        (folder / "model.safetensors").write_bytes(b"12345")
    found = client.get("/v1/models").json()
    assert [one["name"] for one in found["items"]] == names
    assert found["next"] is None
    one = {"source": "folder", "architecture": "LlamaForCausalLM", "context_tokens": 64, "size_bytes": 5}
    assert found["items"][0] == {"name": "a", **one}
    assert str(tmp_path) not in json.dumps(found), "where models lie is the server's business"
    first = client.get("/v1/models?limit=3").json()
    rest = client.get("/v1/models", params={"limit": 3, "cursor": first["next"]}).json()
    assert [one["name"] for one in (*first["items"], *rest["items"])] == names
    assert rest["next"] is None
    assert client.get("/v1/models", params={"cursor": "WzFd"}).status_code == 422
