"""``autokv generate`` as a user calls it, on a tiny model."""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, cast

import pytest
import torch
from transformers import AutoModelForCausalLM, PreTrainedTokenizerBase

from autokv.cli.generate import TextPrinter

if TYPE_CHECKING:
    from tests.conftest import GenerativeModel

Run = Callable[..., tuple[int, str, str]]
INT8 = {
    "method": "integer",
    "key": {"bits": 8, "axis": "channel", "group_size": 32},
    "value": {"bits": 8, "axis": "token", "group_size": 16},
    "residual_tokens": 32,
}


@pytest.fixture
def config(tmp_path: Path) -> Path:
    path = tmp_path / "int8.json"
    path.write_text(json.dumps({"pipeline": {"quantization": INT8}}))
    return path


def test_generate_prints_text_speed_and_bytes(autokv: Run, model: Path, config: Path, tmp_path: Path) -> None:
    prompt = tmp_path / "prompt.txt"
    prompt.write_text("It was a dark and stormy night. " * 12)
    code, out, err = autokv(
        "generate", "--model", model, "--config", config, "--prompt-file", prompt, "--max-new-tokens", 20
    )
    assert code == 0, err
    rows = {line.split()[0]: line.split() for line in out.splitlines() if re.match(r"(compressed|full,)", line)}
    speed, _, held, _ = (float(cell.replace(",", "")) for cell in rows["compressed"][-4:])
    assert speed > 0
    assert held < float(rows["full,"][-2]) / 2
    told = re.search(r"chosen (\d+) of the (\d+) tokens", out)
    assert told is not None
    agreed, made = map(int, told.groups())
    assert agreed >= 0.8 * made
    ids = torch.tensor([list(prompt.read_bytes())])
    plain = cast("GenerativeModel", AutoModelForCausalLM.from_pretrained(model, dtype=torch.float32))
    assert made == len(plain.generate(ids, max_new_tokens=20, do_sample=False)[0]) - ids.shape[1]


def test_the_baseline_may_be_left_out(autokv: Run, model: Path, config: Path) -> None:
    code, out, err = autokv(
        "generate", "--model", model, "--config", config, "--prompt", "Hello", "--max-new-tokens", 3, "--no-baseline"
    )
    assert code == 0, err
    assert "compressed" in out
    assert "full" not in out


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ([], "exactly one prompt is needed; give --prompt or --prompt-file"),
        (["--prompt", "a", "--prompt-file", "b"], "exactly one prompt is needed"),
        (["--prompt", " "], "the prompt is empty"),
        (["--prompt-file", "missing.txt"], "missing.txt: cannot be read"),
        (["--prompt", "a", "--chat"], "--chat: "),
        (["--prompt", "a", "--max-new-tokens", "2000"], "exceed the model's 1024"),
    ],
)
def test_bad_input_is_one_line(arguments: list[str], message: str, autokv: Run, model: Path, config: Path) -> None:
    code, _, err = autokv("generate", "--model", model, "--config", config, *arguments)
    assert code == 2
    assert message in err
    assert err.count("error:") == 1
    assert "Traceback" not in err


def test_a_printer_waits_for_whole_words_and_steers_no_terminal(capsys: pytest.CaptureFixture[str]) -> None:
    class Letters:
        def decode(self, tokens: list[int], *, skip_special_tokens: bool) -> str:
            return bytes(tokens).decode("utf-8", errors="replace")

    printer, shown = TextPrinter(cast("PreTrainedTokenizerBase", Letters())), []
    for byte in "Grüße an \x1b[31malle\n".encode():
        printer.token(byte)
        shown.append(capsys.readouterr().out)
    printer.end()
    assert shown[7] == "Grüße "
    assert "".join(shown[:7]) == ""
    assert "".join(shown) == "Grüße an \N{REPLACEMENT CHARACTER}[31malle\n"
