"""Where prompts come from: a text, a prompt file, generated tasks, or the built-in text."""

from __future__ import annotations

from autokv.evaluation.prompts.file import FilePrompts, prompt_file
from autokv.evaluation.prompts.sets import PromptSets, load_prompts
from autokv.evaluation.prompts.text import text_prompts

__all__ = ["FilePrompts", "PromptSets", "load_prompts", "prompt_file", "text_prompts"]
