"""The benchmark of many pictures: its commands are real, and its table says what was measured."""

import json
from pathlib import Path

import click
import pytest
from click.testing import CliRunner

from sgacodec_bench.report import pages
from sgacodec_bench.speed import child, many
from sgacodec_cli.main import main

FILES = [Path("a.png"), Path("b.png")]


@pytest.mark.parametrize(
    ("way", "n_commands"), [("a command each", 2), ("one command", 1), ("one command, --jobs 2", 1)]
)
@pytest.mark.parametrize("name", ["encode", "decode"])
def test_commands_are_taken(way, n_commands, name, monkeypatch):
    monkeypatch.setattr(click.Command, "invoke", lambda self, context: None)
    commands = many.WAYS[way](name, FILES, Path("out"), ["-f"])
    assert len(commands) == n_commands
    for command in commands:
        assert command[: len(many.SGACODEC)] == many.SGACODEC
        assert CliRunner().invoke(main, command[len(many.SGACODEC) :]).exit_code == 0


def test_the_table():
    costs = {"a command each": (40, 20), "one command": (30, 5), "one command, --jobs 2": (10, 8)}
    middle = many.Round({way: many.Cost(*cost) for way, cost in costs.items()}, True)
    others = [many.Round({way: many.Cost(w * f, c * f) for way, (w, c) in costs.items()}, f < 2) for f in (0.5, 3)]
    row = many.summary([others[0], middle, others[1]])
    assert row["same_bytes"] is False
    assert row["ways"]["one command"]["cpu_seconds"] == [2.5, 5, 15]
    table = many.table({"rows": {"encode": row}})
    assert "| `encode` | a command each | 40.0 | 20.0 | 1.00 | 1.00 |" in table
    assert "| `encode` | one command | 30.0 | 5.0 | 0.75 | 0.25 |" in table


def test_a_command_that_fails_ends_the_benchmark():
    with pytest.raises(SystemExit, match="failed"):
        child.run([*many.SGACODEC, "encode", "none.png"])


def test_the_page_says_whether_files_are_the_same(tmp_path):
    row = many.summary([many.Round(dict.fromkeys(many.WAYS, many.Cost(1, 1)), False)])
    result = {"pictures": 2, "preset": "none", "cores": 2, "threads": "1", "repeats": 1, "load_average": [1, 2, 3]}
    (tmp_path / "many.json").write_text(json.dumps({**result, "rows": {"encode": row}}))
    assert "files of all ways differ" in pages.many_table(tmp_path / "many.json")
