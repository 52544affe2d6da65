"""Nothing in the product unpickles, runs a model's own code or evaluates strings; no module grows past its room."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
SOURCES = sorted(
    path for folder in ("autokv", "api", "kernels", "search_spaces") for path in (ROOT / folder).rglob("*.py")
)
PICKLES = {"cloudpickle", "dill", "joblib", "marshal", "pickle", "shelve"}
CALLS = {"torch.load", "yaml.load", "yaml.unsafe_load", "eval", "exec", "compile", "os.system"}
MAX_LINES = 500


def violations(source: str) -> Iterator[str]:
    """What ``source`` does that the product must never do."""
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Import | ast.ImportFrom):
            module = getattr(node, "module", None)
            for name in [module] if module else [alias.name for alias in node.names]:
                if name.partition(".")[0] in PICKLES:
                    yield f"line {node.lineno}: imports {name}"
        elif isinstance(node, ast.Call):
            called = ast.unparse(node.func)
            if called in CALLS:
                yield f"line {node.lineno}: calls {called}"
            for keyword in node.keywords:
                switched_off = isinstance(keyword.value, ast.Constant) and keyword.value.value is False
                if keyword.arg in {"trust_remote_code", "allow_pickle", "shell"} and not switched_off:
                    yield f"line {node.lineno}: passes {keyword.arg}={ast.unparse(keyword.value)}"
        elif isinstance(node, ast.Assert):
            yield f"line {node.lineno}: asserts, which `python -O` drops"


@pytest.mark.parametrize("path", SOURCES, ids=lambda path: path.relative_to(ROOT).as_posix())
def test_source_is_safe(path: Path) -> None:
    source = path.read_text(encoding="utf-8")
    assert list(violations(source)) == []
    assert source.count("\n") <= MAX_LINES


@pytest.mark.parametrize(
    "source",
    [
        "import pickle",
        "from joblib import load",
        "torch.load(path, weights_only=True)",
        "AutoModel.from_pretrained(name, trust_remote_code=True)",
        "AutoModel.from_pretrained(name, trust_remote_code=trust)",
        "np.load(path, allow_pickle=True)",
        "yaml.load(text)",
        "assert path",
    ],
)
def test_the_check_sees(source: str) -> None:
    assert len(list(violations(source))) == 1


@pytest.mark.parametrize("source", ["np.load(path, allow_pickle=False)", "yaml.safe_load(text)", "re.compile(text)"])
def test_the_check_lets_pass(source: str) -> None:
    assert list(violations(source)) == []
