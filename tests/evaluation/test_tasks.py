"""Generated tasks: the answer is really there, and found by reading the text naively."""

from __future__ import annotations

import re
import subprocess
import sys
from collections import Counter
from collections.abc import Callable
from functools import cache
from random import Random

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers
from transformers import PreTrainedTokenizerFast

from autokv.data import builtin_text
from autokv.errors import PromptError
from autokv.evaluation.prompt import Prompt
from autokv.evaluation.tasks import TASKS, score, task_prompts
from autokv.evaluation.tasks.haystack import vocabulary
from autokv.evaluation.tasks.task import Draft

CHAT = "<user>{{ messages[0]['content'] }}</user>{% if add_generation_prompt %}<assistant>{% endif %}"


@cache
def build_tokenizer(*, chat: bool) -> PreTrainedTokenizerFast:
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence(
        [pre_tokenizers.Digits(individual_digits=True), pre_tokenizers.ByteLevel(add_prefix_space=False)]
    )
    tokenizer.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(vocab_size=4000, initial_alphabet=pre_tokenizers.ByteLevel.alphabet())
    ellipses = [" word ..."] * 500  # one token, as in the tokenizers of real models
    tokenizer.train_from_iterator([*builtin_text().read_text().splitlines(), *ellipses], trainer)
    fast = PreTrainedTokenizerFast(tokenizer_object=tokenizer)
    fast.chat_template = CHAT if chat else None
    return fast


@pytest.fixture(scope="module", params=["base", "chat"])
def tokenizer(request: pytest.FixtureRequest) -> PreTrainedTokenizerFast:
    return build_tokenizer(chat=request.param == "chat")


def text_of(tokenizer: PreTrainedTokenizerFast, prompt: Prompt) -> str:
    return str(tokenizer.decode(list(prompt.context)))


def split(tokenizer: PreTrainedTokenizerFast, prompt: Prompt) -> tuple[str, str, str]:
    """Introduction, haystack and question with the answer prefix."""
    introduction, haystack, question = text_of(tokenizer, prompt).split("\n\n")
    return introduction, haystack, question


def solve_needle(haystack: str, question: str) -> list[str]:
    key = re.search(r"number for (\S+) in the text above", question)
    assert key
    found = re.findall(r"magic number for (\S+) is (\d+)\.", haystack)
    return [value for name, value in found if name == key[1]]


def solve_variables(haystack: str, question: str) -> list[str]:
    wanted = re.search(r"have the value (\d+)", question)
    assert wanted
    memory: dict[str, str] = {}
    for name, value, source in re.findall(r"VAR (\w+) = (?:(\d+)|VAR (\w+))\.", haystack):
        memory[name] = value or memory[source]
    return [name for name, value in memory.items() if value == wanted[1]]


def solve_common(haystack: str, question: str) -> list[str]:
    asked = re.search(r"What are the (\d+) most", question)
    assert asked
    words = re.findall(r"\d+\. (\S+)", haystack)
    return [word for word, _ in Counter(words).most_common(int(asked[1]))]


def solve_frequent(haystack: str, question: str) -> list[str]:
    words = [word for word in haystack.split() if word != "..."]
    return [word for word, _ in Counter(words).most_common(3)]


SOLVERS: dict[str, Callable[[str, str], list[str]]] = {
    "needle": solve_needle,
    "multi_key_needle": solve_needle,
    "variable_tracking": solve_variables,
    "common_words": solve_common,
    "frequent_words": solve_frequent,
}


@pytest.mark.parametrize("name", TASKS)
def test_the_answer_is_in_the_context(tokenizer: PreTrainedTokenizerFast, name: str) -> None:
    for context_tokens in (256, 700, 2000):
        prompt = TASKS[name].generate(tokenizer, context_tokens, seed=1, index=0)
        _, haystack, question = split(tokenizer, prompt)
        assert sorted(SOLVERS[name](haystack, question)) == sorted(prompt.references)
        assert prompt.kind == name
        assert prompt.continuation is None


@pytest.mark.parametrize("name", TASKS)
@pytest.mark.parametrize("context_tokens", [256, 300, 411, 512, 1000, 2048, 4096])
def test_as_long_as_asked_for_and_never_longer(
    tokenizer: PreTrainedTokenizerFast, name: str, context_tokens: int
) -> None:
    length = len(TASKS[name].generate(tokenizer, context_tokens, seed=0, index=2).context)
    assert 0.95 * context_tokens <= length <= context_tokens


@pytest.mark.parametrize("name", TASKS)
def test_the_question_ends_the_prompt_and_the_answer_is_open(tokenizer: PreTrainedTokenizerFast, name: str) -> None:
    prompt = TASKS[name].generate(tokenizer, 400, seed=0, index=0)
    text = text_of(tokenizer, prompt)
    _, _, ending = split(tokenizer, prompt)
    question, opening = ending.split("</user><assistant>" if tokenizer.chat_template else "\n")
    assert text.startswith("<user>") == bool(tokenizer.chat_template)
    assert question.endswith(("?", "."))
    assert opening.startswith("The ")
    assert not opening.endswith((" ", ".", "\n"))
    assert score(opening, prompt.references) == 0


@pytest.mark.parametrize("name", TASKS)
def test_seed_and_index_decide_the_prompt(name: str) -> None:
    tokenizer = build_tokenizer(chat=False)
    prompts = [TASKS[name].generate(tokenizer, 300, seed, index) for seed in range(3) for index in range(3)]
    assert len({prompt.context for prompt in prompts}) == len({prompt.references for prompt in prompts}) == 9
    assert TASKS[name].generate(tokenizer, 300, 2, 2) == prompts[-1]


def test_another_process_makes_the_same_drafts() -> None:
    """Sets and hashes differ between processes; the tasks may not."""
    program = (
        "from random import Random\nfrom autokv.evaluation.tasks import TASKS\n"
        "for task in TASKS.values():\n    print(repr(task.variants[-1].draft(Random('x'), 60)))"
    )
    output = subprocess.run(
        [sys.executable, "-c", program],
        capture_output=True,
        text=True,
        check=True,
        env={"PYTHONHASHSEED": "123", "PYTHONSAFEPATH": "1"},
    ).stdout
    here = [repr(task.variants[-1].draft(Random("x"), 60)) for task in TASKS.values()]
    assert output.splitlines() == here


def draft(name: str, size: int, seed: str = "s", variant: int = 0) -> Draft:
    return TASKS[name].variants[variant].draft(Random(seed), size)


def test_needles_lie_at_every_depth() -> None:
    depths = []
    for seed in range(200):
        sentences = re.split(r"(?<=\.) ", draft("needle", 99, str(seed)).request.split("\n\n")[1])
        [position] = [index for index, sentence in enumerate(sentences) if "magic" in sentence]
        depths.append(position / 99)
    assert all(any(low <= depth < low + 0.1 for depth in depths) for low in (0, 0.1, 0.3, 0.5, 0.7, 0.9))
    assert sum(depths) / len(depths) == pytest.approx(0.5, abs=0.08)


def test_the_needle_stays_when_the_haystack_grows() -> None:
    assert draft("needle", 10).references == draft("needle", 1000).references
    assert draft("multi_key_needle", 10).references == draft("multi_key_needle", 1000).references


def test_keys_and_numbers_of_a_multi_key_haystack_are_distinct() -> None:
    found = re.findall(r"magic number for (\S+) is (\d{7})\.", draft("multi_key_needle", 4 * 500).request)
    assert len(found) == len({key for key, _ in found}) == len({number for _, number in found}) == 501


def test_the_chain_of_variables_has_four_hops_in_order() -> None:
    made = draft("variable_tracking", 200)
    statements = re.findall(r"VAR (\w{5}) = (?:VAR )?(\w{5})\.", made.request)
    assert [name for name, _ in statements] == list(made.references)
    assert [source for _, source in statements[1:]] == list(made.references[:-1])
    assert len(statements) == 5
    assert statements[0][1].isdigit()


@pytest.mark.parametrize(("variant", "words", "common", "other"), [(0, 10, 30, 3), (1, 10, 6, 1), (2, 5, 4, 1)])
def test_common_words_have_their_counts(variant: int, words: int, common: int, other: int) -> None:
    made = draft("common_words", 40, variant=variant)
    entries = re.findall(r"(\d+)\. (\S+)", made.request)
    counts = Counter(word for _, word in entries)
    assert [number for number, _ in entries] == [str(number) for number in range(1, len(entries) + 1)]
    assert sorted(counts.values(), reverse=True) == [common] * words + [other] * 40
    assert {word for word, count in counts.items() if count == common} == set(made.references)


def test_long_contexts_count_to_thirty_and_short_ones_to_less() -> None:
    tokenizer = build_tokenizer(chat=False)
    most = []
    for context_tokens in (256, 1024, 4096):
        _, haystack, _ = split(tokenizer, TASKS["common_words"].generate(tokenizer, context_tokens, 0, 0))
        most.append(Counter(re.findall(r"\d+\. (\S+)", haystack)).most_common(1)[0][1])
    assert most == [4, 6, 30]


def test_more_words_than_the_vocabulary_has() -> None:
    counts = Counter(re.findall(r"\d+\. (\S+)", draft("common_words", 4000, variant=1).request))
    assert len(counts) == 4010
    assert Counter(counts.values()) == {6: 10, 1: 4000}


ZETA = sum(1 / rank**2 for rank in range(1, 100_000))


@settings(max_examples=50, deadline=None)
@given(st.integers(46, 3000))
def test_frequent_words_follow_zipf(size: int) -> None:
    made = draft("frequent_words", size)
    counts = Counter(made.request.split("\n\n")[1].split()).most_common()
    scale = next(n for n in range(2 * size) if sum(int(n / (ZETA * k * k)) for k in range(1, 60)) > size) - 0.5
    for rank, (_, count) in enumerate(counts, start=1):
        assert count == pytest.approx(scale / (ZETA * rank**2), abs=1.4)
    assert sum(count for _, count in counts) == size
    assert counts[0][0] == "..."
    assert tuple(word for word, _ in counts[1:4]) == made.references
    frequencies = [count for _, count in counts[:5]]
    assert frequencies == sorted(set(frequencies), reverse=True)


def test_no_word_contains_another() -> None:
    words = vocabulary()
    assert len(words) > 1000
    joined = " ".join(words)
    assert [word for word in words[::7] if joined.count(word) != 1] == []


@pytest.mark.parametrize("name", TASKS)
def test_too_short_a_context_says_what_it_needs(tokenizer: PreTrainedTokenizerFast, name: str) -> None:
    with pytest.raises(PromptError, match=r"needs at least \d+ tokens of context, more than 40") as caught:
        TASKS[name].generate(tokenizer, 40, 0, 0)
    assert caught.value.field == f"task {name}"
    needed = int(caught.value.message.split()[3])
    assert len(TASKS[name].generate(tokenizer, needed, 0, 0).context) <= needed


def test_prompts_cycle_through_the_tasks() -> None:
    tokenizer = build_tokenizer(chat=False)
    prompts = task_prompts(tokenizer, [300, 400] * 4, seed=5, first_index=10)
    names = list(TASKS)
    assert [prompt.kind for prompt in prompts] == [*names, *names[:3]]
    assert prompts[6] == TASKS[names[1]].generate(tokenizer, 300, 5, 16)


@pytest.mark.parametrize(
    ("output", "references", "expected"),
    [
        ("It is 1234567.", ("1234567",), 1.0),
        ("It is 123456", ("1234567",), 0.0),
        ("abcde, FGHIJ", ("ABCDE", "fghij", "KLMNO", "PQRST"), 0.5),
        ("", ("x",), 0.0),
    ],
)
def test_score(output: str, references: tuple[str, ...], expected: float) -> None:
    assert score(output, references) == expected


def test_an_answer_without_references_has_no_score() -> None:
    with pytest.raises(PromptError, match="references"):
        score("anything", ())


def test_every_task_is_registered_under_its_name_and_has_a_solver_here() -> None:
    assert {name: task.name for name, task in TASKS.items()} == {name: name for name in TASKS}
    assert set(SOLVERS) == set(TASKS)
