"""JSON lines between the driver and its workers, so that two environments can take turns in one run."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

Handler = Callable[..., Any]


def serve(handlers: Mapping[str, Handler]) -> None:
    """Answer requests on standard input until it ends; each is ``{"call": NAME, "arguments": {...}}``.

    Whatever else the process prints goes to standard error, so that only answers travel.
    """
    answers = os.fdopen(os.dup(sys.stdout.fileno()), "w", encoding="utf-8")
    os.dup2(sys.stderr.fileno(), sys.stdout.fileno())
    for line in sys.stdin:
        request = json.loads(line)
        answers.write(json.dumps(handlers[request["call"]](**request["arguments"])) + "\n")
        answers.flush()


class Worker:
    """A process that serves; one question at a time."""

    def __init__(self, python: Path, script: Path, *arguments: str, threads: int) -> None:
        environment = {
            **os.environ,
            "OMP_NUM_THREADS": str(threads),
            "HF_HUB_OFFLINE": "1",
            "TQDM_DISABLE": "1",
            "PYTHONSAFEPATH": "1",
            "PYTHONPATH": str(Path(__file__).parent),
        }
        self._process = subprocess.Popen(
            [str(python), str(script), *arguments],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            encoding="utf-8",
            env=environment,
        )

    def ask(self, call: str, **arguments: Any) -> Any:
        """The handler's answer.

        Raises:
            RuntimeError: the worker ended instead of answering; its own words are on standard error.
        """
        if self._process.stdin is None or self._process.stdout is None:
            raise RuntimeError("the worker has no pipes")
        self._process.stdin.write(json.dumps({"call": call, "arguments": arguments}) + "\n")
        self._process.stdin.flush()
        answer = self._process.stdout.readline()
        if not answer:
            raise RuntimeError(f"worker ended with {self._process.wait()} at {call!r}")
        return json.loads(answer)

    def close(self) -> None:
        """End the worker and wait for it."""
        self._process.communicate()
