"""Every error that AutoKV raises on purpose.

AutoKVError                     one line: what is wrong, where, and what to do
├── InputError                  the caller can mend it; the command line exits with 2
│   ├── ConfigError             a configuration that is malformed or cannot run
│   ├── ModelError              a model that is unknown, unsafe or cannot be compressed
│   ├── WorkloadError           a trace that cannot be read
│   ├── PromptError             a text, a prompt file or a task that cannot be evaluated
│   ├── SpaceError              a search space that is malformed
│   ├── RequestError            a tuning request, an option or a setting that makes no sense
│   ├── TooLargeError           larger or longer than a limit
│   ├── PluginError             an installed extension that cannot be used
│   └── StorageError            a database or a results folder that cannot be used
│       ├── NotFoundError       nothing of this name is stored
│       ├── ConflictError       what is stored, or its state, forbids it
│       │   ├── KeyReusedError  an idempotency key that came with another request before
│       │   └── LeaseLostError  a job that another process has taken over, or that was cancelled
│       ├── PreconditionError   it has changed since it was read
│       └── UnavailableError    the database cannot be reached now; what was stored before is safe
├── ServerError                 a server that cannot be reached, or that failed
├── InfeasibleError             a candidate that is known not to run here; it is recorded, not run
└── Interrupted                 stopped on request; what was finished is kept
"""

from __future__ import annotations

from collections.abc import Iterable


class AutoKVError(Exception):
    """An error with a message of one line.

    ``field`` is the path of what is wrong (``pipeline.eviction.keep_ratio``, ``--text``, ``trace.csv:17``) and
    ``remedy`` says what to do about it; both are part of the printed line.
    """

    def __init__(self, message: str, *, field: str | None = None, remedy: str | None = None) -> None:
        self.message = message
        self.field = field
        self.remedy = remedy
        line = f"{field}: {message}" if field else message
        super().__init__(" ".join((f"{line}; {remedy}" if remedy else line).split()))


class InputError(AutoKVError):
    """The caller gave something that cannot be used."""


class ConfigError(InputError):
    """A compression configuration is malformed, or cannot run on this model and context."""


class ModelError(InputError):
    """A model is unknown, unsafe to load, or of a kind that cannot be compressed."""


class WorkloadError(InputError):
    """A workload trace cannot be read."""


class PromptError(InputError):
    """A text, a prompt file or a generated task cannot be evaluated."""


class SpaceError(InputError):
    """A search space is malformed."""


class RequestError(InputError):
    """A tuning request, a command-line option or a setting makes no sense."""


class TooLargeError(InputError):
    """Something is larger or longer than a limit, which the message names."""


class PluginError(InputError):
    """An extension that another distribution registers cannot be used."""


class StorageError(InputError):
    """A database or a results folder cannot be used."""


class NotFoundError(StorageError):
    """Nothing of this name is stored."""


class ConflictError(StorageError):
    """What is stored, or the state that it is in, forbids what was asked; nothing was changed."""


class KeyReusedError(ConflictError):
    """An idempotency key came with another request before."""


class LeaseLostError(ConflictError):
    """A job is not this process's any more: another has taken it over, or it was cancelled."""


class PreconditionError(StorageError):
    """What was to be changed is not as the caller read it."""


class UnavailableError(StorageError):
    """The database cannot be reached now; what was stored before is safe, and the same call may succeed later."""


class ServerError(AutoKVError):
    """A server cannot be reached, failed, or answered with something that is not this API's."""


class InfeasibleError(AutoKVError):
    """A candidate is known not to run, or to break a constraint, before it is run."""


class Interrupted(AutoKVError):  # noqa: N818 - an event, not a fault
    """The work was stopped on request; everything that had finished is kept."""


def nearest(given: str, known: Iterable[str]) -> str | None:
    """A remedy for a name that is mistyped: the known names that are close to ``given``; ``None`` where none is."""
    from difflib import get_close_matches

    by_spelling = {name.lower().replace("-", "_"): name for name in known}
    near = get_close_matches(given[:100].lower().replace("-", "_"), by_spelling, n=2, cutoff=0.6)
    return f"did you mean {' or '.join(by_spelling[name] for name in near)}?" if near else None
