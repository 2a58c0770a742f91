"""Frequency tables in the form that the second decoder takes."""

from __future__ import annotations

from sgacodec.entropy import tables


def plain(table_set: tables.TableSet) -> list[tuple[list[int], int]]:
    """Return each table's frequencies and the value of its first entry."""
    return [(table_set.table(t).tolist(), int(table_set.minima[t])) for t in range(len(table_set))]
