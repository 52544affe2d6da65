"""An engine's own options, as they stand on its command line or in its environment."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence

from autokv.errors import ConfigError, nearest


def read_options(
    arguments: Sequence[str], known: Mapping[str, str], *, target: str, many: Iterable[str] = ()
) -> dict[str, list[str]]:
    """Values by option.

    Args:
        arguments: ``--name value``, ``--name=value`` or ``NAME=value``.
        known: every spelling of an option, and the option's name.
        target: what an error calls the engine.
        many: options that take several values, separated by blanks or commas.

    Raises:
        ConfigError: an option is unknown, is given twice, or has no value.
    """
    found: dict[str, list[str]] = {}
    several, waiting = set(many), ""
    for argument in arguments:
        if waiting and not argument.startswith("--") and (not found[waiting] or waiting in several):
            found[waiting] += argument.split(",") if waiting in several else [argument]
            continue
        _check_value(found, waiting, target)
        spelled, given, value = argument.partition("=")
        if spelled.startswith("--"):
            spelled = spelled.replace("_", "-")
        name = known.get(spelled)
        if name is None:
            options = ", ".join(sorted(known))
            near = nearest(spelled, known)
            raise ConfigError(
                f"{target} has no KV-cache option {spelled[:80]!r} that AutoKV knows",
                field="--engine-args",
                remedy=near or f"known are {options}",
            )
        if name in found:
            raise ConfigError(f"{spelled} is given twice", field="--engine-args", remedy="give it once")
        found[name] = [] if not given else value.split(",") if name in several else [value]
        waiting = name
    _check_value(found, waiting, target)
    return found


def choice(value: str, known: Iterable[str], *, option: str, target: str) -> str:
    """``value``, if it is one of ``known``.

    Raises:
        ConfigError: it is not.
    """
    names = list(known)
    if value not in names:
        near = nearest(value, names)
        raise ConfigError(
            f"{target} takes no {value[:80]!r} for {option}",
            field="--engine-args",
            remedy=f"{near} known are {', '.join(names)}" if near else f"known are {', '.join(names)}",
        )
    return value


def whole(value: str, *, option: str, target: str, least: int = 0) -> int:
    """``value`` as a whole number.

    Raises:
        ConfigError: it is none, or less than ``least``.
    """
    if not value.isascii() or not value.isdecimal() or len(value) > 9 or int(value) < least:
        raise ConfigError(
            f"{target} takes no {value[:80]!r} for {option}",
            field="--engine-args",
            remedy=f"give a whole number from {least}",
        )
    return int(value)


def _check_value(found: dict[str, list[str]], waiting: str, target: str) -> None:
    if waiting and not all(found[waiting] or [""]):
        raise ConfigError(f"{target}'s option {waiting} has no value", field="--engine-args", remedy="give one")
