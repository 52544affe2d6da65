"""What the client does when a server is busy, cuts the connection, or is none of ours."""

from __future__ import annotations

import asyncio
import json
import math
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from email.utils import format_datetime
from pathlib import Path
from typing import TYPE_CHECKING

import httpx2
import pytest
from hypothesis import given
from hypothesis import strategies as st

from autokv.client import AsyncClient, Client
from autokv.client.retries import LONGEST_RETRY_AFTER_SECONDS, retry_after
from autokv.errors import (
    AutoKVError,
    ConflictError,
    KeyReusedError,
    NotFoundError,
    PreconditionError,
    RequestError,
    ServerError,
    TooLargeError,
    UnavailableError,
)

if TYPE_CHECKING:
    from tests.client.conftest import Script

EMPTY: dict[str, object] = {"items": [], "next": None}
ALIAS = {
    "name": "prod",
    "revision": 2,
    "configuration": "c",
    "digest": "d",
    "created": "2026-01-01T00:00:00Z",
    "moved": "2026-01-01T00:00:00Z",
}


def answer(status: int, body: object = None, **headers: str) -> bytes:
    content = b"" if body is None else json.dumps(body).encode()
    lines = [f"HTTP/1.1 {status} Said", f"content-length: {len(content)}", "connection: close"]
    lines += [f"{name.replace('_', '-')}: {value}" for name, value in headers.items()]
    return "\r\n".join([*lines, "", ""]).encode() + content


def problem(status: int, kind: str, **more: object) -> dict[str, object]:
    return {
        "type": f"urn:autokv:problem:{kind}",
        "title": kind,
        "status": status,
        "detail": "what is wrong",
        "instance": "/v1/jobs",
        "request_id": "r1",
        **more,
    }


BUSY = answer(503, problem(503, "unavailable"), Retry_After="0")
CUT = b"HTTP/1.1 200 OK\r\ncontent-length: 1000\r\n\r\n{"
JOB = {"id": "j", "state": "queued", "request": {}, "trials": 0, "created": "2026-01-01T00:00:00Z"}


def test_a_busy_server_is_asked_again(script: Callable[..., Script]) -> None:
    busy = [answer(status, problem(status, "busy"), Retry_After="0") for status in (429, 502, 503, 504)]
    server = script(*busy, answer(200, EMPTY))
    with Client(server.url) as client:
        assert list(client.workers.list()) == []
    assert len(server.requests) == 5


def test_a_submission_whose_answer_is_lost_is_sent_again_with_its_key(script: Callable[..., Script]) -> None:
    server = script(CUT, b"", answer(202, JOB))
    with Client(server.url) as client:
        assert client.jobs.submit({"model": "tiny"}).id == "j"
    keys = [line for text in server.requests for line in text.split("\r\n") if line.startswith("Idempotency-Key")]
    assert len(keys) == 3
    assert len(set(keys)) == 1
    assert all(text.endswith('{"model":"tiny"}') for text in server.requests)


def test_two_submissions_have_two_keys(script: Callable[..., Script]) -> None:
    server = script(answer(202, JOB), answer(202, JOB))
    with Client(server.url) as client:
        client.jobs.submit({"model": "tiny"})
        client.jobs.submit({"model": "tiny"})
    keys = {line for text in server.requests for line in text.split("\r\n") if line.startswith("Idempotency-Key")}
    assert len(keys) == 2


def test_an_upload_that_is_cut_is_sent_again_from_its_beginning(script: Callable[..., Script], tmp_path: Path) -> None:
    view = {
        "id": "u",
        "kind": "trace",
        "name": "t.csv",
        "digest": "d",
        "size_bytes": 9,
        "created": "2026-01-01T00:00:00Z",
        "facts": {},
    }
    (tmp_path / "t.csv").write_text("the bytes")
    server = script(CUT, answer(201, view))
    with Client(server.url) as client:
        assert client.traces.upload(tmp_path / "t.csv").id == "u"
    assert [text.rpartition("\r\n")[2] for text in server.requests] == ["the bytes", "the bytes"]


def test_a_move_of_an_alias_that_may_have_happened_is_not_repeated(script: Callable[..., Script]) -> None:
    server = script(CUT, answer(200, ALIAS))
    with Client(server.url) as client:
        with pytest.raises(ServerError, match="may have done it"):
            client.aliases.move("prod", "c", revision=1)
        assert len(server.requests) == 1


def test_a_deletion_that_happened_before_the_cut_is_done(script: Callable[..., Script]) -> None:
    gone = answer(404, problem(404, "not-found"))
    server = script(CUT, gone, gone)
    with Client(server.url) as client:
        client.jobs.delete("j")
        with pytest.raises(NotFoundError):
            client.jobs.delete("j")


def test_patience_has_an_end(script: Callable[..., Script]) -> None:
    server = script(*[BUSY] * 9)
    with Client(server.url, retries=2) as client, pytest.raises(UnavailableError, match="what is wrong"):
        list(client.jobs.list())
    assert len(server.requests) == 3


def test_the_other_client_does_the_same(script: Callable[..., Script], tmp_path: Path) -> None:
    (tmp_path / "t.csv").write_text("the bytes")
    server = script(BUSY, CUT, answer(202, JOB), CUT, answer(409, problem(409, "conflict")))

    async def use() -> None:
        async with AsyncClient(server.url) as client:
            assert (await client.jobs.submit({"model": "tiny"})).id == "j"
            with pytest.raises(ConflictError):
                await client.traces.upload(tmp_path / "t.csv")

    asyncio.run(use())
    assert len(server.requests) == 5


@pytest.mark.parametrize(
    ("status", "kind", "error"),
    [
        (404, "not-found", NotFoundError),
        (409, "conflict", ConflictError),
        (412, "precondition-failed", PreconditionError),
        (413, "too-large", TooLargeError),
        (422, "invalid", RequestError),
        (422, "key-reused", KeyReusedError),
        (405, "method-not-allowed", RequestError),
        (409, "of-a-newer-server", ConflictError),
        (500, "failed", ServerError),
    ],
)
def test_a_problem_is_an_error_of_the_tree(
    script: Callable[..., Script], status: int, kind: str, error: type[AutoKVError]
) -> None:
    server = script(answer(status, problem(status, kind)))
    with Client(server.url) as client, pytest.raises(error) as caught:
        client.jobs.get("j")
    assert type(caught.value) is error


def test_an_error_has_the_field_and_the_remedy(script: Callable[..., Script]) -> None:
    errors = [{"field": "trials", "message": "is too small"}, {"field": "seed", "message": "is too large"}]
    server = script(answer(422, problem(422, "invalid", errors=errors, remedy="raise it")))
    with Client(server.url) as client, pytest.raises(RequestError) as caught:
        client.jobs.get("j")
    assert str(caught.value) == "trials: is too small (and 1 more); raise it"


@pytest.mark.parametrize("body", [b"<html>", b"", b"[]", b'{"items": [{}]}', b"\xff\xfe"])
def test_what_is_no_autokv_server_is_said_in_one_line(script: Callable[..., Script], body: bytes) -> None:
    head = f"HTTP/1.1 200 OK\r\ncontent-length: {len(body)}\r\nconnection: close\r\n\r\n".encode()
    server = script(head + body)
    with Client(server.url) as client, pytest.raises(ServerError, match="is it an AutoKV server") as caught:
        list(client.jobs.list())
    assert "\n" not in str(caught.value)


def test_a_proxys_page_is_a_server_error(script: Callable[..., Script]) -> None:
    server = script(b"HTTP/1.1 403 Forbidden\r\ncontent-length: 6\r\n\r\n<html>")
    with Client(server.url) as client, pytest.raises(ServerError, match="403 Forbidden"):
        client.jobs.get("j")


def test_a_server_that_is_not_there_is_named() -> None:
    with Client("http://127.0.0.1:1", retries=0) as client, pytest.raises(ServerError, match="autokv serve") as caught:
        client.jobs.get("j")
    assert "http://127.0.0.1:1" in str(caught.value)


@pytest.mark.parametrize("url", ["", "localhost:8765", "ftp://there", "http://", "http://[::1", "file:///etc"])
def test_what_is_no_url_is_refused(url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AUTOKV_SERVER_URL", "nonsense")
    with pytest.raises(RequestError):
        Client(url)


def test_what_a_caller_names_stays_in_its_place(script: Callable[..., Script]) -> None:
    server = script(answer(404, problem(404, "not-found")))
    with Client(server.url) as client:
        with pytest.raises(NotFoundError):
            client.jobs.cancel("../aliases/prod?x=1#y")
        for name in ("", ".", ".."):
            with pytest.raises(RequestError, match="no name or id"):
                client.jobs.delete(name)
    assert len(server.requests) == 1
    assert server.requests[0].startswith("POST /v1/jobs/..%2Faliases%2Fprod%3Fx%3D1%23y/cancel HTTP")


MOMENTS = st.datetimes(datetime(2000, 1, 1), datetime(2100, 1, 1))


@given(now=MOMENTS, ahead=st.integers(-1000, 1000))
def test_a_retry_after_is_a_date_or_seconds(now: datetime, ahead: int) -> None:
    now = now.replace(tzinfo=UTC, microsecond=0)
    expected = min(max(0.0, float(ahead)), LONGEST_RETRY_AFTER_SECONDS)
    assert retry_after(str(ahead), now) == expected
    assert retry_after(format_datetime(now + timedelta(seconds=ahead), usegmt=True), now) == expected


@given(st.text() | st.sampled_from(["nan", "inf", "-inf", "1e999", "Mon", "Sun, 99 Nov 2026 00:00:00 GMT"]))
def test_a_retry_after_of_nonsense_is_borne(header: str) -> None:
    found = retry_after(header)
    assert found is None or (math.isfinite(found) and 0 <= found <= LONGEST_RETRY_AFTER_SECONDS)


def test_waiting_is_borne_by_the_timeout() -> None:
    seen: list[httpx2.Request] = []

    def handle(request: httpx2.Request) -> httpx2.Response:
        seen.append(request)
        return httpx2.Response(200, json=JOB)

    with Client("http://there", timeout=5, transport=httpx2.MockTransport(handle)) as client:
        client.jobs.get("j", wait=300)
        client.jobs.get("j")
    assert seen[0].headers["Prefer"] == "wait=60"
    assert seen[0].extensions["timeout"]["read"] >= 65
    assert "Prefer" not in seen[1].headers
    assert seen[1].extensions["timeout"]["read"] == 5
