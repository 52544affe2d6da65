"""Answers that are kept with their ETags, so that what has not changed does not travel again."""

from __future__ import annotations

import threading
from collections import OrderedDict
from typing import Any

import httpx2

from autokv.client.operation import Operation

LARGEST = 256
"""Answers that are kept at most; the longest unused goes first."""


class Memory:
    """Answers by address and media type. Safe with threads."""

    def __init__(self) -> None:
        self._answers: OrderedDict[tuple[str, str], httpx2.Response] = OrderedDict()
        self._lock = threading.Lock()

    def ask(self, operation: Operation[Any], request: httpx2.Request) -> httpx2.Response | None:
        """What is known of an answer; ``request`` is made to ask whether it is still so."""
        if not operation.remembered:
            return None
        with self._lock:
            known = self._answers.get(_key(request))
        if known is not None:
            request.headers["If-None-Match"] = known.headers["ETag"]
        return known

    def answer(
        self, operation: Operation[Any], response: httpx2.Response, known: httpx2.Response | None
    ) -> httpx2.Response:
        """The answer: the one that is known where the server says that it is still so, else the new one, kept."""
        if response.status_code == 304 and known is not None:
            response = known
        if operation.remembered and "ETag" in response.headers:
            with self._lock:
                self._answers[_key(response.request)] = response
                self._answers.move_to_end(_key(response.request))
                while len(self._answers) > LARGEST:
                    self._answers.popitem(last=False)
        return response


def _key(request: httpx2.Request) -> tuple[str, str]:
    return str(request.url), request.headers.get("Accept", "")
