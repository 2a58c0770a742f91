"""Texts of a file as they are shown: of one line, and not longer than a person reads."""

from __future__ import annotations

from collections.abc import Collection
from itertools import islice

MOST_CHARACTERS = 100
_MOST_TEXTS = 30
_MORE = "..."


def short(text: str) -> str:
    """Return the beginning of a text: `MOST_CHARACTERS` that can be printed, with single spaces between words."""
    line = "".join(each for each in " ".join(text.split()) if each.isprintable())
    return line if len(line) <= MOST_CHARACTERS else line[: MOST_CHARACTERS - len(_MORE)] + _MORE


def few(texts: Collection[str]) -> tuple[str, ...]:
    """Return the first texts, each `short`, and three points where there are more."""
    shown = tuple(map(short, islice(texts, _MOST_TEXTS)))
    return shown if len(texts) <= _MOST_TEXTS else (*shown, _MORE)
