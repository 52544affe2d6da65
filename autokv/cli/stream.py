"""Generated text on the terminal, word by word."""

from __future__ import annotations

import typer
from transformers import PreTrainedTokenizerBase


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
