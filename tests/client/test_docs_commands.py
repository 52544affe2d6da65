"""Every command and every Python block of the documentation runs, page by page, on one small tuned result.

A block is run by bash, with ``autokv`` answered by this process. Models, placeholders and addresses are replaced, and
options that make a run small are added; what cannot run here is stated.
"""

from __future__ import annotations

import contextlib
import csv
import json
import os
import re
import select
import shutil
import socket
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from transformers import AutoModelForCausalLM, AutoTokenizer

from autokv.cli.main import main
from autokv.config import ConfigurationDocument
from autokv.data import builtin_text
from autokv.storage import Database

if TYPE_CHECKING:
    from tests.client.conftest import ScriptedWorker, Server

ROOT = Path(__file__).parents[2]
PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").rglob("*.md"))]
LANGUAGES = {"sh", "python", "json", "yaml", "toml", "csv", "text"}
MODELS = re.compile(r"HuggingFaceTB/SmolLM2-\w+-Instruct|meta-llama/Llama-3\.1-8B-Instruct|(?<=--model )M\b")
OF_SERVER = re.compile(r"autokv (?:jobs|remote) submit|model=\"|\"model\\")
"""Lines that name a model to a server, whose jobs end without loading one."""
SMALL = ["--context-tokens", "96", "--continuation-tokens", "8", "--samples", "1"]
SMALLER = {
    "tune": [*SMALL, "--validation-samples", "1", "--trials", "2", "--no-tasks"],
    "evaluate": ["--context-tokens", "384", *SMALL[2:]],
    "generate": ["--max-new-tokens", "4"],
    "simulate": ["--requests", "6"],
    "trace synthesize": ["--requests", "50"],
    "bench kernels": ["--context", "64", "--shape", "smollm2", "--formats", "int8"],
}
"""Options that are added, behind those of the documentation."""
RUN_ELSEWHERE = {"serve", "worker", "demo"}
"""Commands that end when they are stopped: tests/service and tests/cli run them; here they only parse."""
NOT_OURS = ("make", "pip", "docker", "createdb", "pg_restore")
SHIM = """\
import json, socket, sys
link = socket.socket(socket.AF_UNIX)
link.connect(sys.argv[1])
link.sendall(json.dumps(sys.argv[2:]).encode())
link.shutdown(socket.SHUT_WR)
code, out, err = json.loads(b"".join(iter(lambda: link.recv(65536), b"")))
sys.stdout.write(out)
sys.stderr.write(err)
sys.exit(code)
"""
Autokv = Callable[[list[str]], tuple[int, str, str]]


@dataclass(frozen=True)
class Block:
    """One block of code of a page."""

    line: int
    language: str
    title: str
    text: str


def blocks(page: Path) -> Iterator[Block]:
    """The fenced blocks of a page; of its indented ones, those that begin with a command."""
    lines = page.read_text(encoding="utf-8").splitlines()
    for found in re.finditer(r"^```(\w*)(?: title=\"([^\"\n]+)\")?\n(.*?)^```$", "\n".join(lines) + "\n", re.M | re.S):
        line = found.string.count("\n", 0, found.start()) + 1
        yield Block(line, found[1], found[2] or "", found[3])
    text = re.sub(r"^```.*?^```$", lambda fence: "\n" * fence[0].count("\n"), "\n".join(lines), flags=re.M | re.S)
    for found in re.finditer(r"(?<=\n\n)(?: {4}.+\n)+", text + "\n"):
        if re.match(r" {4}(?:autokv|make|pip) ", found[0]):
            yield Block(text.count("\n", 0, found.start()) + 1, "sh", "", re.sub(r"^ {4}", "", found[0], flags=re.M))


def runnable(page: Path) -> list[Block]:
    return sorted(
        (each for each in blocks(page) if each.language in {"sh", "python"} or each.title), key=lambda b: b.line
    )


@pytest.fixture(scope="module")
def tiny(tiny_model_folder: Callable[..., Path]) -> Path:
    return tiny_model_folder("llama", head_dim=64)  # groups of 64 channels, as the examples have


@pytest.fixture(scope="module")
def tuned(tiny: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with the inputs that the documentation names, and with one run of ``autokv tune`` over them."""
    folder = tmp_path_factory.mktemp("tuned")
    requests = [(second / 2, 60 + 37 * second % 400, 4 + second % 9) for second in range(24)]
    for name, heads in (
        ("traffic.csv", ("arrived_at", "num_prefill_tokens", "num_decode_tokens")),
        ("requests-log.csv", ("time", "prompt_size", "answer_size")),
    ):
        with (folder / name).open("w", newline="", encoding="utf-8") as file:
            csv.writer(file).writerows([heads, *requests])
    shutil.copy(folder / "traffic.csv", folder / "requests.csv")
    hours = [(time * 600, inputs, outputs) for time, inputs, outputs in requests]
    with (folder / "trace.csv").open("w", newline="", encoding="utf-8") as file:
        csv.writer(file).writerows([("arrived_at", "num_prefill_tokens", "num_decode_tokens"), *hours])
    log = [
        {
            "input_tokens": inputs,
            "output_tokens": outputs + 1,
            "arrival_time": time,
            "first_token_ts": time + inputs / 1e3,
            "last_token_ts": time + inputs / 1e3 + outputs / 50,
        }
        for time, inputs, outputs in requests
    ]
    (folder / "log.jsonl").write_text("\n".join(map(json.dumps, log)) + "\n")
    shutil.copy(builtin_text(), folder / "book.txt")
    shutil.copytree(ROOT / "examples", folder / "examples")
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        patch.delenv("AUTOKV_DATABASE_URL", raising=False)
        patch.setattr("autokv.hardware.measuring.SECONDS_PER_RATE", 0.001)
        patch.setattr(
            sys,
            "argv",
            ["autokv", "tune", "--model", str(tiny), "--workload", "traffic.csv", *SMALLER["tune"], "--quiet"],
        )
        with pytest.raises(SystemExit) as ended:
            main()
        assert not ended.value.code
    shutil.copy(folder / "autokv-results" / "recommended.json", folder)
    return folder


@pytest.fixture
def folder(tuned: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A copy of :func:`tuned` to work in."""
    shutil.copytree(tuned, tmp_path, dirs_exist_ok=True)
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("AUTOKV_DATABASE_URL", raising=False)
    monkeypatch.setattr("autokv.hardware.measuring.SECONDS_PER_RATE", 0.001)
    monkeypatch.setattr("autokv.evaluation.costs.timing.AGAIN_SECONDS", 0.001)
    return tmp_path


@pytest.fixture
def database_url(folder: Path) -> str:
    """The server keeps its jobs beside those of the command line."""
    return f"sqlite:///{folder / 'autokv.db'}"


@pytest.fixture
def service(server: Server, worker: ScriptedWorker, monkeypatch: pytest.MonkeyPatch) -> Iterator[Server]:
    """A server whose jobs end as soon as they are submitted."""
    monkeypatch.setenv("AUTOKV_SERVER_URL", server.url)
    stop = threading.Event()

    def work() -> None:
        while not stop.wait(0.05):
            with contextlib.suppress(AssertionError):  # there is none to claim
                worker.claim()
                worker.finish()

    thread = threading.Thread(target=work)
    thread.start()
    yield server
    stop.set()
    thread.join()


@pytest.fixture
def autokv(capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> Autokv:
    """Run ``autokv ARGS``, smaller than it is written: exit code, standard output, standard error."""

    def run(arguments: list[str]) -> tuple[int, str, str]:
        if arguments[0] in RUN_ELSEWHERE:
            arguments = [arguments[0], "--help"]
        added = (
            []
            if "--resume" in arguments
            else next((more for name, more in SMALLER.items() if " ".join(arguments).startswith(name)), [])
        )
        capfd.readouterr()
        monkeypatch.setattr(sys, "argv", ["autokv", *arguments, *added])
        with pytest.raises(SystemExit) as ended:
            main()
        output = capfd.readouterr()
        return int(ended.value.code or 0), output.out, output.err

    return run


def shell(text: str, autokv: Autokv, folder: Path) -> str:
    """Run ``text`` with bash and answer its calls of ``autokv``; what it wrote.

    Raises:
        AssertionError: a command of it failed.
    """
    address = folder / "autokv.socket"
    shim = folder / "shim.py"
    shim.write_text(SHIM)
    functions = [f"{name}() {{ :; }}" for name in NOT_OURS]
    functions.append(f'autokv() {{ "{sys.executable}" -I -S "{shim}" "{address}" "$@"; }}')
    written = folder / "written"
    with socket.socket(socket.AF_UNIX) as listener, written.open("wb") as file:
        listener.bind(os.path.relpath(address))
        listener.listen()
        script = "\n".join(["set -euo pipefail", *functions, text])
        process = subprocess.Popen(
            ["bash", "-c", script], cwd=folder, stdin=subprocess.DEVNULL, stdout=file, stderr=file
        )
        while process.poll() is None:
            if not select.select([listener], [], [], 0.05)[0]:
                continue
            connection, _ = listener.accept()
            with connection:
                asked = json.loads(connection.makefile("rb").read())
                connection.sendall(json.dumps(autokv(asked)).encode())
    address.unlink()
    output = written.read_text(encoding="utf-8")
    assert process.returncode == 0, f"{text}\n{output}"
    return output


def test_the_check_sees_a_command_that_fails(folder: Path, autokv: Autokv) -> None:
    assert "knorm" in shell("autokv config schema | head -c 100000", autokv, folder)
    assert "traffic.csv" in shell("NAME=traffic.csv\nautokv trace inspect $NAME >/dev/null && ls *.csv", autokv, folder)
    with pytest.raises(AssertionError, match=r"absent\.json"):
        shell("autokv config validate absent.json\nautokv config schema", autokv, folder)
    with pytest.raises(AssertionError, match="not a command"):
        shell("autokv config validat x.json || { echo not a command; false; }", autokv, folder)


@pytest.mark.parametrize("page", PAGES, ids=lambda path: path.relative_to(ROOT).as_posix())
def test_every_block_names_its_language(page: Path) -> None:
    assert {each.language for each in blocks(page)} <= LANGUAGES


@pytest.mark.parametrize(
    "page", [page for page in PAGES if runnable(page)], ids=lambda path: path.relative_to(ROOT).as_posix()
)
def test_what_a_page_shows_runs(
    page: Path,
    tiny: Path,
    folder: Path,
    autokv: Autokv,
    request: pytest.FixtureRequest,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    text = page.read_text(encoding="utf-8")
    if "curl" in text and not (shutil.which("curl") and shutil.which("jq")):
        pytest.skip("curl and jq are not here")
    replaced = {"JOB": "", "CONFIGURATION": "", "localhost:8765": ""}
    with Database(f"sqlite:///{folder / 'autokv.db'}") as database:
        replaced["JOB"] = database.jobs.list()[0].id
    replaced["CONFIGURATION"] = ConfigurationDocument.load(folder / "recommended.json").digest
    if re.search(r"autokv (?:jobs|remote) submit|localhost:8765|autokv\.client", text):
        replaced["localhost:8765"] = request.getfixturevalue("service").url.removeprefix("http://")
    monkeypatch.syspath_prepend(str(folder))
    names: dict[str, object] = {}
    if "**inputs" in text:
        names["model"] = AutoModelForCausalLM.from_pretrained(tiny)
        names["inputs"] = AutoTokenizer.from_pretrained(tiny)("word " * 40, return_tensors="pt")
    for block in runnable(page):
        lines = block.text.splitlines(keepends=True)
        code = "".join(line if OF_SERVER.search(line) else MODELS.sub(str(tiny), line) for line in lines)
        for name, value in replaced.items():
            code = re.sub(rf"(?<![\w$]){name}(?![\w=])", value, code)
        if block.title:
            install(folder, block.title, code)
        elif block.language == "sh":
            code = re.sub(r"postgresql://[\w@:/]+", "sqlite:///autokv.db", code)
            shell(re.sub(r"\bcuda(?::\d)?\b", "cpu", code), autokv, folder)
        else:
            code = code.replace('"cuda"', '"cpu"').replace("max_new_tokens=512", "max_new_tokens=4")
            exec(compile("\n" * block.line + code, str(page), "exec"), names)  # noqa: S102 - the documentation's own


def install(folder: Path, title: str, text: str) -> None:
    """Write a file that a page shows; a ``pyproject.toml`` is installed as pip leaves it behind."""
    file = folder / title
    file.parent.mkdir(exist_ok=True)
    file.write_text(text)
    if title == "pyproject.toml":
        import tomllib

        project = tomllib.loads(text)["project"]
        info = folder / f"{project['name'].replace('-', '_')}-{project['version']}.dist-info"
        info.mkdir()
        (info / "METADATA").write_text(
            f"Metadata-Version: 2.1\nName: {project['name']}\nVersion: {project['version']}\n"
        )
        groups = project["entry-points"].items()
        lines = [
            line for group, points in groups for line in (f"[{group}]", *(f"{k} = {v}" for k, v in points.items()))
        ]
        (info / "entry_points.txt").write_text("\n".join(lines) + "\n")
