"""The pages' Python blocks run in order, and print what the comment behind each `print` says."""

import re
from pathlib import Path

import pytest

DOCS = Path(__file__).parents[2] / "docs"


def blocks(name):
    return "\n".join(re.findall(r"```python\n(.*?)```", (DOCS / name).read_text(), re.DOTALL))


@pytest.mark.slow
def test_the_tutorial_is_true(capsys):
    code = blocks("tutorial.md")
    expected = re.findall(r"^print\(.*\)  # (.+)$", code, re.MULTILINE)
    exec(code, {})
    assert len(expected) > 20
    assert capsys.readouterr().out.splitlines() == expected


@pytest.mark.slow
@pytest.mark.parametrize("name", ["commands.md", "messages.md"])
def test_examples_run(name):
    code = blocks(name)
    assert code
    exec(code, {})
