"""Continuous batching with chunked prefill over paged KV memory: who runs in the next iteration.

The policy is that of today's engines (Orca, 2022; vLLM, 2023; Sarathi-Serve, 2024). In every iteration each decoding
request gets its next token; what is left of the token budget goes to prompts, first to those that have begun, then to
requests that wait, as long as memory has blocks for the whole of their prompts and one more for everybody who decodes.
When decoding requests need blocks that are not there, whoever was admitted last gives its own back.

Nothing here takes time by itself, so that a simulation and a real model are scheduled by the same code. Decoding
requests are not touched one by one: an iteration adds a token to each of them, which a common counter of steps says,
and ``_phases`` knows how many of them fill a block at which step.
"""

from __future__ import annotations

from dataclasses import dataclass
from heapq import heappop, heappush

from autokv.errors import RequestError
from autokv.serving.closed_loop import Arrivals
from autokv.serving.engine_options import ServingOptions
from autokv.serving.kv_memory import KVMemory
from autokv.serving.prefixes import PrefixCache
from autokv.serving.step import Chunk, Step
from autokv.workload import PrefixBlocks, WorkloadTrace


@dataclass(slots=True)
class _Prompt:
    """A request that is being prefilled."""

    done: int
    target: int
    blocks: int
    """Its own, shared prefixes left out."""


class Scheduler:
    """Schedules one trace, from its first request to its last token.

    Call :meth:`plan` for the next iteration, carry it out, and tell :meth:`complete`. Turns of one conversation come
    one after the other, see :mod:`autokv.serving.closed_loop`.

    Raises:
        RequestError: prefix caching is asked for without block hashes.
    """

    def __init__(self, trace: WorkloadTrace, memory: KVMemory, options: ServingOptions) -> None:
        self.arrivals = Arrivals(trace)
        """When each request arrives, as far as it is known by now."""
        self._inputs: list[int] = trace.input_tokens.tolist()
        self._outputs: list[int] = trace.output_tokens.tolist()
        self._memory, self._options = memory, options
        self._prefixes = PrefixCache(_shared_blocks(trace, options), options.block_size)
        self._block_size = memory.block_size
        self._free = memory.blocks
        self._ranks: dict[int, int] = {}
        """Requests that have arrived to their places in the order of arrival."""
        self._waiting: list[tuple[int, int, int]] = []
        """A heap of (tokens to prefill if these decide, rank, request)."""
        self._running: dict[int, None] = {}
        """In the order of admission."""
        self._prefilling: dict[int, _Prompt] = {}
        self._decoding: dict[int, int] = {}
        """Request to the tokens that it holds less the steps so far."""
        self._steps = 0
        self._held = 0
        """The sum of :attr:`_decoding`."""
        self._phases = [0] * self._block_size
        """By :attr:`_decoding` modulo the block size: how many requests."""
        self._ends: list[tuple[int, int]] = []
        """A heap of (step after which it has all its tokens, request); entries of preempted requests are stale."""
        self._emitted = [0] * len(self._inputs)
        """Tokens that came out before the request's last admission, and the one that its prompt gave."""
        self._end = [0] * len(self._inputs)
        self._on_host: dict[int, int] = {}
        """Swapped requests to the tokens that they hold."""
        self._chains: dict[int, list[int]] = {}
        """Shared hashed blocks of running requests."""
        self.step_blocks = 0
        """Blocks in use at the end of the last iteration, before what had finished was released."""

    @property
    def waiting(self) -> int:
        """Requests that hold no memory of the device."""
        return len(self._waiting)

    @property
    def running(self) -> int:
        """Requests in flight."""
        return len(self._running)

    def admissible_at(self) -> float:
        """When a request may be admitted that is not here yet: no iteration should be repeated beyond it."""
        if len(self._running) >= self._options.max_num_seqs:
            return float("inf")
        # Behind one that does not fit nobody is admitted first come, first served.
        if self._waiting and self._options.order == "fcfs":
            return float("inf")
        return self.arrivals.next_s

    def plan(self, now: float) -> Step | None:
        """The next iteration at time ``now`` (seconds); None if there is nothing to do before the next arrival."""
        self._arrive(now)
        dropped, swapped_out, moved = self._make_room()
        budget = self._options.max_num_batched_tokens - len(self._decoding)
        chunks: list[Chunk] = []
        for request, prompt in self._prefilling.items():
            if budget <= 0:
                break
            tokens = min(prompt.target - prompt.done, budget)
            chunks.append(Chunk(request, prompt.done, tokens, prompt.done + tokens == prompt.target))
            budget -= tokens
        swapped_in: list[int] = []
        if self._waiting and not dropped and not swapped_out:
            moved += self._admit(budget, chunks, swapped_in)
        if not self._decoding and not chunks:
            return None
        alone = bool(chunks or dropped or swapped_out or swapped_in)
        return Step(
            decoding=self._decoding.keys(),
            held_tokens=self._held + len(self._decoding) * self._steps,
            chunks=tuple(chunks),
            dropped=tuple(dropped),
            swapped_out=tuple(swapped_out),
            swapped_in=tuple(swapped_in),
            swapped_bytes=moved,
            repeats=1 if alone else self._repeats(),
        )

    def complete(self, step: Step, ran: int, now: float) -> tuple[list[int], list[int]]:
        """Take note that ``step`` ran ``ran`` times, until ``now`` (seconds).

        Returns:
            Requests whose prompt ended, each with its next token, and requests that have all their tokens.
        """
        finished: list[int] = []
        if self._decoding:
            self._take(self._growth(ran))
            self._steps += ran
        self.step_blocks = self._memory.blocks - self._available
        while self._ends and self._ends[0][0] <= self._steps:
            end, request = heappop(self._ends)
            if request in self._decoding and self._end[request] == end:
                finished.append(request)
                self._forget(request)
        prompted: list[int] = []
        for request, _, tokens, last in step.chunks:
            prompt = self._prefilling[request]
            prompt.done += tokens
            if last:
                prompted.append(request)
                if self._start_decoding(request, prompt):
                    finished.append(request)
        for request in finished:
            self.arrivals.ended(request, now)
        return prompted, finished

    @property
    def _available(self) -> int:
        return self._free + self._prefixes.idle_blocks

    def _arrive(self, now: float) -> None:
        arrivals, memory = self.arrivals, self._memory
        while arrivals.next_s <= now:
            request = arrivals.pop()
            self._ranks[request] = len(self._ranks)
            prompt, last = self._inputs[request], self._inputs[request] + self._outputs[request] - 1
            whole = prompt <= self._options.max_num_batched_tokens
            most = max(memory.blocks_of(last), memory.blocks_of(prompt) if whole else memory.staged_blocks(prompt))
            if most > memory.blocks:
                arrivals.ended(request, arrivals.moments[request])
            else:
                self._wait(request)

    def _wait(self, request: int) -> None:
        shortest = self._options.order == "shortest_first"
        tokens = self._inputs[request] + self._emitted[request] if shortest else 0
        heappush(self._waiting, (tokens, self._ranks[request], request))

    def _make_room(self) -> tuple[list[int], list[int], float]:
        """Preempt until every decoding request can append a token: dropped, swapped out, bytes moved."""
        dropped: list[int] = []
        swapped: list[int] = []
        moved = 0.0
        while self._phases[-self._steps % self._block_size] > self._available:
            request = next(reversed(self._running))
            prompt = self._prefilling.pop(request, None)
            if prompt is not None:
                self._release(request, prompt.blocks)
                dropped.append(request)
            else:
                held = self._decoding[request] + self._steps
                self._emitted[request] = self._outputs[request] - (self._end[request] - self._steps)
                self._stop_decoding(request)
                if self._options.preemption == "swap":
                    self._on_host[request] = held
                    moved += held * self._memory.sequence.per_token + self._memory.sequence.per_sequence
                    swapped.append(request)
                else:
                    dropped.append(request)
            del self._running[request]
            self._wait(request)
        return dropped, swapped, moved

    def _admit(self, budget: int, chunks: list[Chunk], swapped_in: list[int]) -> float:
        """Admit requests as long as tokens, places and blocks last; the bytes that come back from the host."""
        moved = 0.0
        limit = self._options.max_num_seqs
        while self._waiting and budget > 0 and len(self._running) < limit:
            request = self._waiting[0][2]
            held = self._on_host.get(request)
            if held is not None:
                if not self._fits(self._memory.blocks_of(held + 1)):
                    break
                self._take(self._memory.blocks_of(held))
                del self._on_host[request]
                self._decode(request, held)
                moved += held * self._memory.sequence.per_token + self._memory.sequence.per_sequence
                swapped_in.append(request)
                budget -= 1
            else:
                prompt = self._prompt(request, budget)
                if prompt is None:
                    break
                self._prefilling[request] = prompt
                tokens = min(prompt.target - prompt.done, budget)
                chunks.append(Chunk(request, prompt.done, tokens, prompt.done + tokens == prompt.target))
                budget -= tokens
            heappop(self._waiting)
            self._running[request] = None
        return moved

    def _prompt(self, request: int, budget: int) -> _Prompt | None:
        """The prompt of a request with its blocks taken; None if they are not there."""
        memory, prefixes = self._memory, self._prefixes
        target = self._inputs[request] + self._emitted[request]
        # The last token is computed in any case: its output is what comes next.
        chain = prefixes.chain(request, min(target - 1, self._inputs[request]))
        chain = chain[: prefixes.held(chain)]
        shared = len(chain) * prefixes.hash_block_size
        own = memory.blocks_of(target) - shared // self._block_size
        if target - shared > budget:
            # A preempted request may come back longer than memory can stage; it then has all of it.
            own = max(own, min(memory.staged_blocks(target - shared), memory.blocks - shared // self._block_size))
        if not self._fits(own + prefixes.idle(chain) * prefixes.blocks_per_hash):
            return None
        prefixes.use(chain)
        self._chains[request] = chain
        self._take(own)
        return _Prompt(shared, target, own)

    def _fits(self, blocks: int) -> bool:
        # With a block to spare for each that runs, so that who is admitted is not preempted at once.
        return blocks + len(self._running) <= self._available if self._running else blocks <= self._available

    def _take(self, blocks: int) -> None:
        while blocks > self._free and self._prefixes.idle_blocks:
            self._free += self._prefixes.evict()
        self._free -= blocks

    def _release(self, request: int, own_blocks: int) -> None:
        self._free += own_blocks
        self._prefixes.leave(self._chains.pop(request, ()))

    def _start_decoding(self, request: int, prompt: _Prompt) -> bool:
        """The prompt has ended, compressed, with one more token; whether that was the last."""
        del self._prefilling[request]
        prefixes = self._prefixes
        self._free += prompt.blocks
        # Every whole hashed block of the prompt is shared from now on; what others hold already is not held twice.
        before = self._chains[request]
        chain = prefixes.chain(request, self._inputs[request])
        joined = prefixes.use(chain[len(before) :])
        self._chains[request] = chain
        self._take(joined * prefixes.blocks_per_hash)
        self._take(self._memory.blocks_of(prompt.target) - len(chain) * prefixes.blocks_per_hash)
        self._emitted[request] += 1
        self._decode(request, prompt.target)
        if self._emitted[request] < self._outputs[request]:
            return False
        self._forget(request)
        return True

    def _decode(self, request: int, held: int) -> None:
        base = held - self._steps
        self._decoding[request] = base
        self._held += base
        self._phases[base % self._block_size] += 1
        self._end[request] = self._steps + self._outputs[request] - self._emitted[request]
        heappush(self._ends, (self._end[request], request))

    def _stop_decoding(self, request: int) -> None:
        base = self._decoding.pop(request)
        self._held -= base
        self._phases[base % self._block_size] -= 1
        shared = len(self._chains.get(request, ())) * self._prefixes.blocks_per_hash
        self._release(request, self._memory.blocks_of(base + self._steps) - shared)

    def _forget(self, request: int) -> None:
        self._stop_decoding(request)
        del self._running[request]

    def _growth(self, steps: int) -> int:
        """Blocks that the decoding requests fill in so many steps."""
        rounds, rest = divmod(steps, self._block_size)
        phases, size = self._phases, self._block_size
        return rounds * len(self._decoding) + sum(phases[-(self._steps + step) % size] for step in range(rest))

    def _repeats(self) -> int:
        """Steps until a request has all its tokens or memory runs out, at least one."""
        ends, decoding = self._ends, self._decoding
        while ends[0][1] not in decoding or self._end[ends[0][1]] != ends[0][0]:
            heappop(ends)
        soonest = ends[0][0] - self._steps
        blocks, batch = self._available, len(decoding)
        if blocks >= batch * (soonest // self._block_size + 1):
            return soonest
        rounds, blocks = divmod(blocks, batch)
        steps = rounds * self._block_size
        while steps < soonest:
            blocks -= self._phases[-(self._steps + steps) % self._block_size]
            if blocks < 0:
                break
            steps += 1
        return max(1, min(steps, soonest))


def _shared_blocks(trace: WorkloadTrace, options: ServingOptions) -> PrefixBlocks | None:
    if not options.prefix_caching:
        return None
    if trace.prefixes is None:
        raise RequestError(
            f"needs block hashes, which {trace.name} has not", field="prefix_caching", remedy="leave it out"
        )
    return trace.prefixes
