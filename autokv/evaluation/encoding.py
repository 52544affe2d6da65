"""Text to token ids, in the one way that every source of prompts uses."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase


def encode(tokenizer: PreTrainedTokenizerBase, text: str, *, special_tokens: bool = False) -> list[int]:
    """Token ids of ``text``, without the warning that it is longer than the model's context."""
    encoding = tokenizer(text, add_special_tokens=special_tokens, verbose=False, return_attention_mask=False)
    return list(encoding["input_ids"])


def encode_chat(
    tokenizer: PreTrainedTokenizerBase, messages: list[dict[str, str]], answer_prefix: str = ""
) -> list[int]:
    """Token ids of a conversation in the tokenizer's chat template, up to where the assistant answers.

    ``answer_prefix`` opens the answer. The template writes its own special tokens.
    """
    rendered = tokenizer.apply_chat_template(messages, tokenize=False, add_generation_prompt=True)
    return encode(tokenizer, f"{rendered}{answer_prefix}")
