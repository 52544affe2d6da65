"""Prompts from texts and files, against a naive slice and by hand; and every bad input."""

from __future__ import annotations

import json
import re
import shlex
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, processors, trainers
from transformers import PreTrainedTokenizerFast

from autokv.data import builtin_text
from autokv.errors import PromptError
from autokv.evaluation.prompts import load_prompts, prompt_file, text_prompts
from autokv.evaluation.prompts import records as records_module
from autokv.evaluation.prompts import text as text_module

CHAT = (
    "{% for m in messages %}<{{ m['role'] }}>{{ m['content'] }}</s>{% endfor %}"
    "{% if add_generation_prompt %}<assistant>{% endif %}"
)


def build_tokenizer(*, chat: bool = False) -> PreTrainedTokenizerFast:
    """A byte-level BPE that puts <s> in front, as Llama's does."""
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=600, special_tokens=["<s>", "</s>"], initial_alphabet=pre_tokenizers.ByteLevel.alphabet()
    )
    tokenizer.train_from_iterator(builtin_text().read_text().splitlines()[:300], trainer)
    tokenizer.post_processor = processors.TemplateProcessing(single="<s> $A", special_tokens=[("<s>", 0)])
    fast = PreTrainedTokenizerFast(tokenizer_object=tokenizer, bos_token="<s>", eos_token="</s>")  # noqa: S106 - no passwords
    fast.chat_template = CHAT if chat else None
    return fast


@pytest.fixture(scope="module")
def tokenizer() -> PreTrainedTokenizerFast:
    return build_tokenizer()


@pytest.fixture(scope="module")
def chat_tokenizer() -> PreTrainedTokenizerFast:
    return build_tokenizer(chat=True)


@pytest.fixture(scope="module")
def novel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("text") / "novel.txt"
    path.write_text(builtin_text().read_text()[:12_000])
    return path


def jsonl(path: Path, *records: object) -> Path:
    path.write_text("".join(json.dumps(record) + "\n" for record in records))
    return path


@settings(max_examples=25, deadline=None)
@given(st.integers(1, 60), st.integers(1, 20), st.integers(1, 8), st.integers(0, 5))
def test_equal_lengths_are_the_naive_slices(
    tokenizer: PreTrainedTokenizerFast, novel: Path, C: int, N: int, samples: int, first: int
) -> None:
    tokens = tokenizer(novel.read_text(), add_special_tokens=False)["input_ids"]
    prompts = text_prompts(novel, tokenizer, context_tokens=[C] * samples, continuation_tokens=N, first_sample=first)
    assert len(prompts) == samples
    for i, prompt in enumerate(prompts, start=first):
        sample = tokens[i * (C + N) : (i + 1) * (C + N)]
        assert list(prompt.context) == sample[:C]
        assert list(prompt.continuation or ()) == sample[C:]
        assert (prompt.id, prompt.kind) == (f"text-{i}", "text")


def test_unequal_lengths_lie_end_to_end_and_the_plan_repeats(tokenizer: PreTrainedTokenizerFast, novel: Path) -> None:
    tokens = tokenizer(novel.read_text(), add_special_tokens=False)["input_ids"]
    plan = [16, 64, 32]
    both = [
        text_prompts(novel, tokenizer, context_tokens=plan, continuation_tokens=5, first_sample=first)
        for first in (0, 3)
    ]
    laid = [
        token for prompts in both for prompt in prompts for token in (*prompt.context, *(prompt.continuation or ()))
    ]
    assert laid == tokens[: 2 * (16 + 64 + 32 + 3 * 5)]
    assert [[len(prompt.context) for prompt in prompts] for prompts in both] == [plan, plan]


def test_windows_line_ends_are_read_as_text(tokenizer: PreTrainedTokenizerFast, novel: Path, tmp_path: Path) -> None:
    windows = tmp_path / "windows.txt"
    windows.write_bytes(novel.read_bytes().replace(b"\n", b"\r\n"))
    prompts = [text_prompts(path, tokenizer, context_tokens=[200], continuation_tokens=4) for path in (novel, windows)]
    assert prompts[0] == prompts[1]


def test_a_text_shorter_than_one_sample(tokenizer: PreTrainedTokenizerFast, tmp_path: Path) -> None:
    path = tmp_path / "short.txt"
    path.write_text("A short text.")
    found = len(tokenizer("A short text.", add_special_tokens=False)["input_ids"])
    with pytest.raises(PromptError, match=rf"has {found} tokens, but 2 samples of 64 to 96 .* need 168;") as caught:
        text_prompts(path, tokenizer, context_tokens=[64, 96], continuation_tokens=4)
    assert caught.value.field == str(path)


def test_a_text_with_exactly_enough_tokens_is_enough(tokenizer: PreTrainedTokenizerFast, novel: Path) -> None:
    count = len(tokenizer(novel.read_text(), add_special_tokens=False)["input_ids"])
    [prompt] = text_prompts(novel, tokenizer, context_tokens=[count - 7], continuation_tokens=7)
    assert len(prompt.context) == count - 7
    with pytest.raises(PromptError, match=f"need {count + 1};"):
        text_prompts(novel, tokenizer, context_tokens=[count - 7], continuation_tokens=8)


@pytest.mark.parametrize(
    ("content", "message"),
    [(b"", "is empty"), (b"\n \n", "is empty"), (b"a\0b", "is binary"), (b"one\ntwo\xff\n", "not UTF-8")],
)
def test_bad_texts(tokenizer: PreTrainedTokenizerFast, tmp_path: Path, content: bytes, message: str) -> None:
    path = tmp_path / "text.txt"
    path.write_bytes(content)
    with pytest.raises(PromptError, match=message) as caught:
        text_prompts(path, tokenizer, context_tokens=[4], continuation_tokens=2)
    assert caught.value.field in {str(path), f"{path}:2"}
    assert caught.value.remedy


def test_missing_and_too_large_texts(
    tokenizer: PreTrainedTokenizerFast, tmp_path: Path, novel: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with pytest.raises(PromptError, match="does not exist"):
        text_prompts(tmp_path / "none", tokenizer, context_tokens=[4], continuation_tokens=2)
    monkeypatch.setattr(text_module, "MAX_TEXT_BYTES", 100)
    with pytest.raises(PromptError, match="more than the limit of 100"):
        text_prompts(novel, tokenizer, context_tokens=[4], continuation_tokens=2)


def test_prompt_file(tokenizer: PreTrainedTokenizerFast, tmp_path: Path) -> None:
    path = jsonl(
        tmp_path / "p.jsonl",
        {"prompt": "Who is Anne?", "id": 7},
        {"prompt": "Who is Mary?", "completion": " Her younger sister, of course."},
        {"prompt": "Who is Anne?"},
        {"prompt": "Who is Sir Walter?"},
    )
    path.write_text(path.read_text() + "\nnot looked at")
    prompts, duplicates = prompt_file(path, tokenizer, samples=3, continuation_tokens=4, max_context=50)
    assert duplicates == 1
    assert [prompt.id for prompt in prompts] == ["prompt-1", "prompt-2", "prompt-4"]
    assert list(prompts[0].context) == tokenizer("Who is Anne?")["input_ids"]
    assert prompts[0].context[0] == tokenizer.bos_token_id
    assert [prompt.continuation is None for prompt in prompts] == [True, False, True]
    expected = tokenizer(" Her younger sister, of course.", add_special_tokens=False)["input_ids"][:4]
    assert list(prompts[1].continuation or ()) == expected


def test_messages_go_through_the_chat_template(chat_tokenizer: PreTrainedTokenizerFast, tmp_path: Path) -> None:
    messages = [{"role": "system", "content": "Be brief."}, {"role": "user", "content": "Who is Anne?"}]
    path = jsonl(tmp_path / "p.jsonl", {"messages": messages}, {"prompt": "Who is Anne?"})
    prompts, _ = prompt_file(path, chat_tokenizer, samples=2, continuation_tokens=4, max_context=100)
    rendered = "<system>Be brief.</s><user>Who is Anne?</s><assistant>"
    assert list(prompts[0].context) == chat_tokenizer(rendered, add_special_tokens=False)["input_ids"]
    assert list(prompts[1].context) == chat_tokenizer("Who is Anne?")["input_ids"]


USER = {"role": "user", "content": "hi"}


@pytest.mark.parametrize(
    "text",
    [
        "timestamp,prompt_tokens,completion_tokens\n0,10,20\n",
        '{"timestamp": 0, "input_length": 10, "output_length": 5, "hash_ids": [1]}\n',
    ],
)
def test_a_trace_is_no_file_of_prompts_and_the_command_that_takes_it_is_named(tmp_path: Path, text: str) -> None:
    path = tmp_path / "my trace"
    path.write_text(text)
    with pytest.raises(PromptError, match="holds requests, not prompts") as caught:
        records_module.prompt_file_facts(path)
    command = re.search("`(.*)`$", str(caught.value))
    assert command is not None
    assert shlex.split(command[1]) == ["autokv", "tune", "--model", "MODEL", "--workload", str(path)]
    path.write_text('{"prompt": "good"}\n' + text)
    with pytest.raises(PromptError) as caught:
        records_module.prompt_file_facts(path)
    assert caught.value.field == f"{path}:2"


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ("nonsense", "is not JSON"),
        ("[" * 100_000, "is not JSON"),
        ("[1]", "is not a JSON object"),
        ('{"question": "x", "answer": "y"}', "neither 'prompt' nor 'messages', only 'question', 'answer'"),
        ("{}", "neither"),
        ('{"prompt": 5}', "'prompt' is not a text"),
        ('{"prompt": " "}', "'prompt' is not a text"),
        ('{"prompt": "\\ud800"}', "'prompt' is not a text"),
        ('{"prompt": "x", "completion": ""}', "'completion' is not a text"),
        ('{"prompt": "x", "completion": ["y"]}', "'completion' is not a text"),
        ('{"messages": []}', "not a list of messages"),
        ('{"messages": [{"role": "user"}]}', "not a list of messages"),
        (json.dumps({"messages": [USER, {"role": "assistant", "content": "ho"}]}), "end with the assistant"),
        (json.dumps({"messages": [USER]}), "no chat template"),
        ('{"prompt": "' + "long " * 60 + '"}', "tokens, more than the limit of 30"),
    ],
)
def test_bad_prompt_lines_are_named(
    tokenizer: PreTrainedTokenizerFast, tmp_path: Path, line: str, message: str
) -> None:
    path = tmp_path / "p.jsonl"
    path.write_text(f'{{"prompt": "good"}}\n\n{line}\n')
    with pytest.raises(PromptError, match=message) as caught:
        prompt_file(path, tokenizer, samples=2, continuation_tokens=4, max_context=30)
    assert caught.value.field == f"{path}:3"
    assert caught.value.remedy
    assert len(str(caught.value)) < 400


def test_a_template_that_refuses_names_the_line(tmp_path: Path) -> None:
    tokenizer = build_tokenizer(chat=True)
    tokenizer.chat_template = "{{ raise_exception('roles must alternate') }}"
    path = jsonl(tmp_path / "p.jsonl", {"messages": [USER]})
    with pytest.raises(PromptError, match="roles must alternate") as caught:
        prompt_file(path, tokenizer, samples=1, continuation_tokens=4, max_context=30)
    assert caught.value.field == f"{path}:1"


def test_too_few_distinct_prompts(tokenizer: PreTrainedTokenizerFast, tmp_path: Path) -> None:
    path = jsonl(tmp_path / "p.jsonl", {"prompt": "a"}, {"prompt": "a"}, {"prompt": "b"})
    with pytest.raises(PromptError, match=r"has 2 distinct prompts \(1 duplicates dropped\), but 3 are needed"):
        prompt_file(path, tokenizer, samples=3, continuation_tokens=4, max_context=30)


def test_prompt_file_limit(tokenizer: PreTrainedTokenizerFast, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(records_module, "MAX_PROMPT_FILE_BYTES", 10)
    with pytest.raises(PromptError, match="more than the limit of 10"):
        prompt_file(
            jsonl(tmp_path / "p", {"prompt": "abc"}), tokenizer, samples=1, continuation_tokens=4, max_context=9
        )


def test_sets_from_the_builtin_text(tokenizer: PreTrainedTokenizerFast) -> None:
    sets = load_prompts(
        tokenizer, calibration=(32, 64, 48), validation=(32, 64), continuation_tokens=8, context_limit=72
    )
    tokens = tokenizer(builtin_text().read_text(), add_special_tokens=False)["input_ids"]
    laid = [token for p in (*sets.calibration, *sets.validation) for token in (*p.context, *(p.continuation or ()))]
    assert laid == tokens[: 144 + 96 + 5 * 8]
    assert [len(prompt.context) for prompt in sets.calibration] == [32, 64, 48]
    assert [len(prompt.context) for prompt in sets.validation] == [32, 64]
    assert sets.source == "built-in text"


def test_the_builtin_text_is_enough_for_eight_long_samples_twice(tokenizer: PreTrainedTokenizerFast) -> None:
    plan = [2048] * 8
    sets = load_prompts(tokenizer, calibration=plan, validation=plan, continuation_tokens=64, context_limit=4096)
    assert len({prompt.context for prompt in (*sets.calibration, *sets.validation)}) == 16
    with pytest.raises(PromptError, match=r"built-in text: has .* need .*; give your own text"):
        load_prompts(tokenizer, calibration=[2048] * 900, continuation_tokens=64, context_limit=4096)


def test_sets_from_a_text(tokenizer: PreTrainedTokenizerFast, novel: Path) -> None:
    sets = load_prompts(
        tokenizer, text=novel, calibration=[100], validation=[50], continuation_tokens=8, context_limit=108
    )
    both = text_prompts(novel, tokenizer, context_tokens=[100, 50], continuation_tokens=8)
    assert [*sets.calibration, *sets.validation] == both
    assert sets.source == str(novel)


def test_sets_from_a_file(tokenizer: PreTrainedTokenizerFast, tmp_path: Path) -> None:
    path = jsonl(tmp_path / "p.jsonl", *({"prompt": f"Question {index // 2}"} for index in range(10)))
    sets = load_prompts(
        tokenizer, prompts=path, calibration=[16] * 3, validation=[16] * 2, continuation_tokens=8, context_limit=64
    )
    assert [
        tokenizer.decode(list(p.context), skip_special_tokens=True) for p in (*sets.calibration, *sets.validation)
    ] == [f"Question {index}" for index in range(5)]
    assert (len(sets.calibration), sets.duplicates, sets.source) == (3, 4, str(path))


def test_a_file_must_leave_room_for_the_continuation(tokenizer: PreTrainedTokenizerFast, tmp_path: Path) -> None:
    path = jsonl(tmp_path / "p.jsonl", {"prompt": "Who is Anne?"})
    length = len(tokenizer("Who is Anne?")["input_ids"])
    fits = load_prompts(tokenizer, prompts=path, calibration=[16], continuation_tokens=8, context_limit=length + 8)
    assert len(fits.calibration[0].context) == length
    with pytest.raises(PromptError, match=f"has {length} tokens, more than the limit of {length - 1}"):
        load_prompts(tokenizer, prompts=path, calibration=[16], continuation_tokens=8, context_limit=length + 7)


@pytest.mark.parametrize("templated", [False, True])
def test_sets_of_tasks_differ_and_share_their_lengths_and_kinds(
    templated: bool, tokenizer: PreTrainedTokenizerFast, chat_tokenizer: PreTrainedTokenizerFast
) -> None:
    plan = [700, 800, 1000, 700, 800, 1000]
    sets = load_prompts(
        chat_tokenizer if templated else tokenizer,
        tasks=True,
        calibration=plan,
        validation=plan,
        continuation_tokens=8,
        context_limit=1024,
        seed=3,
    )
    assert [prompt.kind for prompt in sets.calibration] == [prompt.kind for prompt in sets.validation]
    assert len({prompt.kind for prompt in sets.calibration}) == 5
    assert len({prompt.context for prompt in (*sets.calibration, *sets.validation)}) == 12
    assert len({prompt.id for prompt in (*sets.calibration, *sets.validation)}) == 12
    assert all(prompt.continuation is None and prompt.references for prompt in sets.calibration)


def test_a_text_that_repeats_itself_is_refused(tokenizer: PreTrainedTokenizerFast, tmp_path: Path) -> None:
    path = tmp_path / "same.txt"
    path.write_text("a\n" * 200)
    with pytest.raises(PromptError, match="text-0 for calibration and text-1 for validation are the same"):
        load_prompts(tokenizer, text=path, calibration=[16], validation=[16], continuation_tokens=4, context_limit=64)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"calibration": []}, "context_tokens: no samples"),
        ({"calibration": [16, 0]}, "context_tokens: no samples"),
        ({"calibration": [61]}, "61 context and 4 continuation tokens exceed the limit of 64; use at most 60"),
        ({"calibration": [16], "validation": [61]}, "exceed the limit"),
    ],
)
def test_requests_that_make_no_sense(tokenizer: PreTrainedTokenizerFast, changes: dict[str, Any], message: str) -> None:
    with pytest.raises(PromptError, match=message):
        load_prompts(tokenizer, continuation_tokens=4, context_limit=64, **changes)
