"""``autokv generate``: text from a compressed cache, beside what the full cache would have cost."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from autokv.cli.config import model_of
from autokv.cli.tables import DeviceOption, DtypeOption
from autokv.config import ConfigurationDocument
from autokv.errors import PromptError, RequestError
from autokv.files import read_limited

if TYPE_CHECKING:
    from rich.table import Table
    from torch import Tensor
    from transformers import PreTrainedTokenizerBase

    from autokv.models import LoadedModel
    from autokv.runtime.decoding import Decoding

MAX_PROMPT_BYTES = 1 << 24


def generate(
    config: Annotated[Path, typer.Option(help="Configuration file, JSON or YAML.")],
    model: Annotated[
        str | None, typer.Option(help="Hugging Face id, local folder or GGUF file; default: the configuration's.")
    ] = None,
    prompt: Annotated[str | None, typer.Option(help="Prompt.")] = None,
    prompt_file: Annotated[Path | None, typer.Option(help="Text file with the prompt.")] = None,
    chat: Annotated[
        bool | None,
        typer.Option(help="Use the model's chat template; default: on for --prompt if the model has one."),
    ] = None,
    max_new_tokens: Annotated[int, typer.Option(min=1, help="Number of tokens to generate, at most.")] = 128,
    no_baseline: Annotated[
        bool, typer.Option("--no-baseline", help="Do not run the full cache for comparison.")
    ] = False,
    dtype: DtypeOption = "auto",
    device: DeviceOption = "auto",
) -> None:
    """Generate text with a compressed KV cache.

    Its speed and bytes are shown beside those of the full cache on the same tokens.
    """
    text, document = _prompt(prompt, prompt_file), ConfigurationDocument.load(config)

    from transformers import DynamicCache

    from autokv.cli.console import output, print_table
    from autokv.models import load
    from autokv.runtime.cache import CompressedCache
    from autokv.runtime.decoding import decode, held_bytes

    loaded = load(model_of(model, document, config), dtype=dtype, device=device)
    template = getattr(loaded.tokenizer, "chat_template", None) is not None
    ids = _encode(loaded, text, template and prompt is not None if chat is None else chat)
    if ids.shape[1] + max_new_tokens > loaded.facts.context_tokens:
        raise PromptError(
            f"{ids.shape[1]} tokens and {max_new_tokens} to come exceed the model's {loaded.facts.context_tokens}",
            field="--prompt" if prompt is not None else "--prompt-file",
            remedy="shorten the prompt or lower --max-new-tokens",
        )
    cache = CompressedCache.from_config(loaded.model, document)
    # The first step of all compiles kernels.
    decode(loaded.model, ids[:, :32], CompressedCache.from_config(loaded.model, document), 2)
    ends = loaded.model.generation_config.eos_token_id if loaded.model.generation_config else None
    stop = frozenset(ends if isinstance(ends, list) else [] if ends is None else [ends])
    printer = TextPrinter(loaded.tokenizer)
    compressed = decode(loaded.model, ids, cache, max_new_tokens, stop=stop, on_token=printer.token)
    printer.end()
    runs: list[tuple[str, Decoding, int]] = [("compressed", compressed, cache.nbytes)]
    if not no_baseline:
        full = DynamicCache(config=loaded.model.config)
        forced = decode(loaded.model, ids, full, max_new_tokens, forced=compressed.tokens)
        runs.append((f"full, {str(loaded.dtype).removeprefix('torch.')}", forced, held_bytes(full)))
    typer.echo()
    print_table(output(), _table(runs, ids.shape[1]))
    if not no_baseline:
        agreed = sum(map(int.__eq__, compressed.tokens, runs[1][1].chosen))
        typer.echo(f"the full cache would have chosen {agreed} of the {len(compressed.tokens)} tokens")


def _prompt(prompt: str | None, file: Path | None) -> str:
    if (prompt is None) == (file is None):
        raise RequestError("exactly one prompt is needed", remedy="give --prompt or --prompt-file")
    if prompt is not None:
        text = prompt
    elif file is not None:
        try:
            text = read_limited(file, limit=MAX_PROMPT_BYTES, error=PromptError, remedy="shorten it").decode()
        except UnicodeDecodeError:
            raise PromptError("is not UTF-8 text", field=str(file), remedy="convert it") from None
    if not text.strip():
        raise PromptError("the prompt is empty", remedy="give --prompt or --prompt-file a text")
    return text


def _encode(loaded: LoadedModel, text: str, chat: bool) -> Tensor:
    import torch

    if chat:
        if not getattr(loaded.tokenizer, "chat_template", None):
            raise RequestError(f"{loaded.name} has no chat template", field="--chat", remedy="leave it out")
        text = str(
            loaded.tokenizer.apply_chat_template(
                [{"role": "user", "content": text}], tokenize=False, add_generation_prompt=True
            )
        )
    ids = loaded.tokenizer(text, add_special_tokens=not chat)["input_ids"]
    if not ids:
        raise PromptError("the prompt has no token", field="--prompt", remedy="give a longer text")
    return torch.tensor([ids], device=loaded.device)


def _table(runs: list[tuple[str, Decoding, int]], prompt_tokens: int) -> Table:
    from autokv.cli.console import new_table
    from autokv.report.format import number

    table = new_table("KV cache", "tokens/s", "first token\ns", "held\nMB", "per token\nB")
    for name, run, held in runs:
        seen = prompt_tokens + len(run.tokens) - 1
        figures = (run.tokens_per_second, run.prefill_seconds, held / 1e6, held / seen)
        table.add_row(name, *map(number, figures))
    return table


class TextPrinter:
    """Prints text as its tokens arrive; what could still change (half a character, the last word) waits.

    Control characters other than line breaks and tabs are replaced: text from a model must not steer a terminal.
    """

    def __init__(self, tokenizer: PreTrainedTokenizerBase) -> None:
        self._tokenizer = tokenizer
        self._tokens: list[int] = []
        self._printed = ""

    def token(self, token: int) -> None:
        """The next token."""
        self._tokens.append(token)
        text = self._text()
        whole = text[: max(text.rfind(" "), text.rfind("\n")) + 1]
        # A tokenizer may spell the beginning of a line anew once more of it is known.
        if whole.startswith(self._printed) and len(whole) > len(self._printed):
            self._print(whole)

    def end(self) -> None:
        """There are no more tokens."""
        text = self._text()
        if text.startswith(self._printed):
            self._print(text)
        typer.echo()

    def _text(self) -> str:
        return str(self._tokenizer.decode(self._tokens, skip_special_tokens=True))

    def _print(self, text: str) -> None:
        fresh = text[len(self._printed) :]
        safe = "".join(c if c.isprintable() or c in "\n\t" else "\N{REPLACEMENT CHARACTER}" for c in fresh)
        typer.echo(safe, nl=False)
        self._printed = text
