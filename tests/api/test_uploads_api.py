"""Traces and files of prompts over HTTP."""

from __future__ import annotations

import contextlib
import gzip
import hashlib
import http.client
import json
import socket
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import httpx2
import pytest
from fastapi.testclient import TestClient
from sqlalchemy import func, select

from autokv.api.app import create_app
from autokv.storage import Database
from autokv.storage.service_tables import BlobChunkRow, BlobRow, UploadRow

TRACE = b"arrived_at,num_prefill_tokens,num_decode_tokens\n0.0,100,20\n0.5,200,30\n1.5,150,25\n"
PROMPTS = (
    b'{"prompt": "Once upon a time", "completion": " there was"}\n\n{"messages": [{"role": "user", "content": "?"}]}\n'
)


@pytest.fixture(autouse=True)
def spools(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """Where temporary files go; none may be left."""
    folder = tmp_path / "spools"
    folder.mkdir()
    monkeypatch.setattr(tempfile, "tempdir", str(folder))
    yield folder
    assert list(folder.iterdir()) == []


def rows(database: Database) -> int:
    """Everything that uploads leave in the database."""
    with database.reading() as session:
        tables = (UploadRow, BlobRow, BlobChunkRow)
        return sum(session.scalar(select(func.count()).select_from(table)) or 0 for table in tables)


def problem(response: httpx2.Response, status: int, kind: str) -> dict[str, Any]:
    assert response.status_code == status, response.text
    assert response.headers["content-type"] == "application/problem+json"
    found: dict[str, Any] = response.json()
    assert found["type"] == f"urn:autokv:problem:{kind}"
    return found


@pytest.mark.parametrize("url", ["sqlite", "postgresql"], indirect=True)
def test_a_trace_is_checked_stored_shown_and_given_back(client: TestClient) -> None:
    response = client.post("/v1/traces", params={"name": "traffic.csv"}, content=TRACE)
    assert response.status_code == 201, response.text
    shown = response.json()
    assert response.headers["location"] == f"/v1/traces/{shown['id']}"
    assert (shown["kind"], shown["name"], shown["size_bytes"]) == ("trace", "traffic.csv", len(TRACE))
    assert shown["digest"] == hashlib.sha256(TRACE).hexdigest()
    facts = shown["facts"]
    assert (facts["format"], facts["requests"], facts["duration_s"]) == ("vidur", 3, 1.5)
    assert facts["input_tokens"]["p50"] == 150
    assert facts["rejected"] == {"count": 0, "lines": [], "reason": ""}
    assert client.get(response.headers["location"]).json() == shown
    assert client.get("/v1/traces").json() == {"items": [shown], "next": None}
    given = client.get(f"{response.headers['location']}/content")
    assert given.content == TRACE
    assert given.headers["content-length"] == str(len(TRACE))
    assert given.headers["content-disposition"] == "attachment; filename*=UTF-8''traffic.csv"
    again = client.get(f"{response.headers['location']}/content", headers={"If-None-Match": given.headers["etag"]})
    assert (again.status_code, again.content) == (304, b"")


def test_a_trace_may_say_how_it_is_read(client: TestClient) -> None:
    log = b"at,in,out\n0,10,20\n1500,30,40\nx,1,1\n"
    columns = ["arrival=at", "input_tokens=in", "output_tokens=out"]
    said: dict[str, str | float | list[str]] = {
        "name": "log.csv",
        "column": columns,
        "time_unit": "ms",
        "max_bad_rows": 0.5,
    }
    response = client.post("/v1/traces", content=log, params=said)
    assert response.status_code == 201, response.text
    assert (response.json()["facts"]["requests"], response.json()["facts"]["duration_s"]) == (2, 1.5)
    hashes = b'{"timestamp": 0, "input_length": 64, "output_length": 5, "hash_ids": [1, 2, 3]}\n'
    for size in ("hash_block_size", "block_size"):  # the latter is its earlier name
        first = client.post("/v1/traces", content=hashes, params={size: 24})
        assert first.status_code in {200, 201}, first.text
        assert client.post("/v1/traces", content=hashes, params={size: 32}).status_code == 422
    for wrong in (
        {"time_unit": "h"},
        {"hash_block_size": 0},
        {"block_size": 0},
        {"max_bad_rows": 2},
        {"column": ["what=at"]},
        {"colum": "a"},
    ):
        assert client.post("/v1/traces", content=log, params=wrong).status_code == 422, wrong
    assert client.post("/v1/prompts", content=PROMPTS, params={"block_size": 32}).status_code == 422


def test_texts_are_taken_with_estimated_token_counts(client: TestClient) -> None:
    chat = b'{"messages": [{"role": "user", "content": "12345678"}, {"role": "assistant", "content": "123"}]}\n'
    facts = client.post("/v1/traces", content=chat).json()["facts"]
    assert (facts["input_tokens"]["p50"], facts["output_tokens"]["p50"]) == (2, 1)
    assert facts["notes"] == ["token counts are estimates, 4 bytes each: a job's model counts them"]


def test_the_same_file_again_is_the_same_upload(client: TestClient, database: Database) -> None:
    first = client.post("/v1/traces?name=a.csv", content=TRACE)
    again = client.post("/v1/traces?name=a.csv", content=TRACE, headers={"Content-Type": "text/csv"})
    assert (first.status_code, again.status_code) == (201, 200)
    assert again.json() == first.json()
    assert again.headers["location"] == first.headers["location"]
    assert rows(database) == 3
    other = client.post("/v1/traces?name=b.csv", content=TRACE)
    assert other.status_code == 201
    assert other.json()["id"] != first.json()["id"]
    assert rows(database) == 4


def test_prompts_are_checked_line_by_line_without_a_model(client: TestClient) -> None:
    response = client.post("/v1/prompts?name=p.jsonl", content=PROMPTS, headers={"Content-Type": "application/jsonl"})
    assert response.status_code == 201, response.text
    facts = {"prompts": 2, "distinct": 2, "conversations": 1, "completions": 1, "characters": 17}
    assert response.json()["facts"] == facts
    assert client.get(f"{response.headers['location']}/content").content == PROMPTS
    assert client.get("/v1/prompts").json()["items"] == [response.json()]
    assert client.get("/v1/traces").json()["items"] == []


@pytest.mark.parametrize(
    ("path", "body", "where", "detail"),
    [
        ("traces", TRACE + b"2.0,many,1\n" * 3, "x.csv:5", "3 of 6 rows are bad"),
        ("traces", b"a,b\n1,2\n", "x.csv:1", "unrecognized trace format"),
        ("traces", b"", "x.csv", "is empty"),
        ("traces", gzip.compress(TRACE, mtime=0)[:-12], "x.csv", "the compressed file is cut off"),
        ("traces", bytes(range(200, 256)) + b"\0", "x.csv", ""),
        ("prompts", PROMPTS + b"{]\n", "x.csv:4", "is not JSON"),
        ("prompts", PROMPTS + b'{"prompt": " "}\n', "x.csv:4", "'prompt' is not a text"),
        ("prompts", b"[" * 100_000, "x.csv:1", "is not JSON"),
        ("prompts", b'{"prompt": "\\ud800"}', "x.csv:1", "'prompt' is not a text"),
        ("prompts", b'{"messages": [{"role": "assistant", "content": "a"}]}', "x.csv:1", "end with the assistant's"),
        ("prompts", b"\n", "x.csv", "is empty"),
        ("prompts", b"PK\0\0", "x.csv", "is binary"),
    ],
    ids=[
        "bad rows",
        "no format",
        "empty trace",
        "cut off",
        "noise",
        "not JSON",
        "blank prompt",
        "deep",
        "lone surrogate",
        "ends with the answer",
        "empty prompts",
        "binary",
    ],
)
def test_a_file_that_cannot_be_used_is_refused_by_its_line_and_leaves_nothing(
    client: TestClient, database: Database, path: str, body: bytes, where: str, detail: str
) -> None:
    found = problem(client.post(f"/v1/{path}?name=x.csv", content=body), 422, "invalid")
    assert detail in found["detail"]
    assert found["errors"][0]["field"] == where
    assert found["remedy"]
    assert "/" not in found["errors"][0]["field"], "the temporary file is nobody's business"
    assert rows(database) == 0


def test_the_command_of_a_refusal_takes_a_name_with_spaces(client: TestClient) -> None:
    refused = client.post("/v1/traces", params={"name": "my log.csv"}, content=b"a,b\n1,2\n")
    assert "`autokv trace inspect 'my log.csv' --column" in refused.text


def test_what_is_too_large_is_refused_before_it_is_read(server: tuple[str, Any]) -> None:
    with sending(server[0], f"Content-Length: {1 << 40}") as connection:
        connection.sendall(TRACE)
        assert answer(connection) == (413, "urn:autokv:problem:too-large")


def test_a_stream_that_grows_too_large_is_refused_while_it_comes(
    request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch
) -> None:
    limit = 4 << 20
    monkeypatch.setenv("AUTOKV_MAX_UPLOAD_BYTES", str(limit))
    address, app = request.getfixturevalue("server")
    sent, piece = 0, b"10000\r\n" + b"x" * (1 << 16) + b"\r\n"
    with sending(address, "Transfer-Encoding: chunked") as connection, contextlib.suppress(ConnectionError):
        while sent < 100 * limit:
            connection.sendall(piece)
            sent += 1 << 16
    assert sent < 100 * limit, "the server hangs up once it has seen too much"
    assert rows(app.state.database) == 0


def test_the_limit_is_exact(url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AUTOKV_MAX_UPLOAD_BYTES", "1000")
    exact = TRACE + b"\n" * (1000 - len(TRACE))
    with TestClient(create_app(url), raise_server_exceptions=False) as client:
        assert client.post("/v1/traces?name=exact", content=exact).status_code == 201
        found = problem(client.post("/v1/traces?name=more", content=exact + b"\n"), 413, "too-large")
        assert "1000 bytes" in found["detail"]
        assert len(client.get("/v1/traces").json()["items"]) == 1


def test_a_caller_that_hangs_up_leaves_nothing(
    server: tuple[str, Any], patience: Callable[..., None], spools: Path
) -> None:
    with sending(server[0], "Content-Length: 5000000") as connection:
        connection.sendall(TRACE + b"x" * 3_000_000)
        patience(lambda: any(spools.glob("*/trace")))
    patience(lambda: not any(spools.iterdir()))
    assert rows(server[1].state.database) == 0


@contextlib.contextmanager
def sending(url: str, length: str) -> Iterator[socket.socket]:
    """A connection on which the head of an upload was sent."""
    address = urlsplit(url)
    with socket.create_connection((str(address.hostname), address.port or 0), timeout=120) as connection:
        head = f"POST /v1/traces HTTP/1.1\r\nHost: x\r\nContent-Type: text/csv\r\n{length}\r\n\r\n"
        connection.sendall(head.encode())
        yield connection


def answer(connection: socket.socket) -> tuple[int, str]:
    """Status and kind of problem, read no further than it says it goes: who sent more is then cut off."""
    with http.client.HTTPResponse(connection) as response:
        response.begin()
        return response.status, json.loads(response.read())["type"]


@pytest.mark.parametrize(
    "media", ["multipart/form-data; boundary=x", "application/x-www-form-urlencoded", "image/png", "x"]
)
def test_a_body_that_is_not_the_file_itself_is_refused(client: TestClient, media: str) -> None:
    found = problem(
        client.post("/v1/traces", content=TRACE, headers={"Content-Type": media}), 415, "unsupported-media-type"
    )
    assert media.partition(";")[0] in found["detail"]


@pytest.mark.parametrize("name", ["", "../x", "a/b", "a\\b", ".hidden", "a\x00b", "a\nb", "x" * 101])
def test_a_name_that_is_a_path_or_none_is_refused(client: TestClient, name: str) -> None:
    found = problem(client.post("/v1/traces", params={"name": name}, content=TRACE), 422, "invalid")
    assert found["errors"][0]["field"] == "name"


def test_a_name_in_any_script_comes_back(client: TestClient) -> None:
    name = "Verkehr größer 東京 'x' \"y\".csv"
    response = client.post("/v1/traces", params={"name": name}, content=TRACE)
    assert response.json()["name"] == name
    given = client.get(f"{response.headers['location']}/content")
    assert given.headers["content-disposition"].startswith("attachment; filename*=UTF-8''Verkehr%20gr%C3%B6%C3%9Fer%20")


def test_a_parameter_that_is_not_there_is_refused(client: TestClient) -> None:
    problem(client.post("/v1/traces?nam=x", content=TRACE), 422, "invalid")
    problem(client.get("/v1/traces?limit=0"), 422, "invalid")
    problem(client.get("/v1/traces?cursor=AAAA"), 422, "invalid")


@pytest.mark.parametrize("url", ["sqlite", "postgresql"], indirect=True)
def test_what_is_used_stays_and_what_is_not_goes(
    client: TestClient, submit: Callable[..., dict[str, Any]], database: Database
) -> None:
    trace = client.post("/v1/traces", content=TRACE).json()["id"]
    prompts = client.post("/v1/prompts", content=PROMPTS).json()["id"]
    job = submit(workload=trace, prompts=prompts)["id"]
    for path in (f"traces/{trace}", f"prompts/{prompts}"):
        assert job in problem(client.delete(f"/v1/{path}"), 409, "conflict")["detail"]
    assert client.post(f"/v1/jobs/{job}/cancel").status_code == 200
    assert client.delete(f"/v1/jobs/{job}").status_code == 204
    for path in (f"traces/{trace}", f"prompts/{prompts}"):
        assert client.delete(f"/v1/{path}").status_code == 204
        problem(client.delete(f"/v1/{path}"), 404, "not-found")
        problem(client.get(f"/v1/{path}"), 404, "not-found")
        problem(client.get(f"/v1/{path}/content"), 404, "not-found")
    assert rows(database) == 0


def test_a_kind_does_not_show_the_other(client: TestClient) -> None:
    trace = client.post("/v1/traces", content=TRACE).json()["id"]
    for method, path in (("GET", ""), ("GET", "/content"), ("DELETE", "")):
        problem(client.request(method, f"/v1/prompts/{trace}{path}"), 404, "not-found")
    assert client.get(f"/v1/traces/{trace}").status_code == 200


def test_a_large_file_travels_whole(client: TestClient) -> None:
    rows_of = b"".join(b"%d.5,%d,%d\n" % (second, 100 + second % 900, 1 + second % 90) for second in range(150_000))
    data = TRACE.partition(b"\n")[0] + b"\n" + rows_of
    assert len(data) > 2 << 20
    response = client.post("/v1/traces?name=large.csv", content=data)
    assert response.status_code == 201, response.text
    assert response.json()["facts"]["requests"] == 150_000
    assert (
        hashlib.sha256(client.get(f"{response.headers['location']}/content").content).digest()
        == hashlib.sha256(data).digest()
    )
