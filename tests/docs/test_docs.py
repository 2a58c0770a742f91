"""The README's and the specification's examples are true."""

import re
from pathlib import Path

import pytest

import sgacodec
from sgacodec.models import store
from sgacodec_cli.main import COMMANDS

ROOT = Path(__file__).parents[2]
README = (ROOT / "README.md").read_text()
SPEC = (ROOT / "format_spec.md").read_text()


def test_python_example_runs(capsys):
    (code,) = re.findall(r"```python\n(.*?)```", README, re.DOTALL)
    exec(code, {})
    assert capsys.readouterr().out.startswith("64 64 ")


def test_commands_of_the_readme_exist():
    named = set(
        re.findall(
            r"sgacodec (encode|decode|info|verify|models|[a-z]+)\b(?= )",
            " ".join(re.findall(r"```sh\n(.*?)```", README, re.DOTALL)),
        )
    )
    assert named == set(COMMANDS)


def test_links_lead_somewhere():
    for text in (README, (ROOT / "CONTRIBUTING.md").read_text()):
        for target in re.findall(r"\]\(([^)#:]+)\)", text):
            assert (ROOT / target).exists(), target


def test_worked_example_of_the_specification():
    data = (ROOT / "tests" / "golden" / "v1" / "one-pixel" / "file.sga").read_bytes()
    rows = re.findall(r"^\| (\d+) \| ((?:[0-9a-f]{2} ?)+) \|", SPEC, re.MULTILINE)
    assert len(rows) > 8
    for offset, content in rows:
        expected = bytes.fromhex(content)
        assert data[int(offset) : int(offset) + len(expected)] == expected
    header = sgacodec.read_info(data)
    assert sum(len(bytes.fromhex(content)) for _, content in rows) == header.header_bytes


@pytest.mark.parametrize(
    "entry", [entry for entry in store.installed() if entry.packaged], ids=lambda entry: entry.name
)
def test_packaged_models_have_a_card(entry):
    card = entry.path.with_suffix(".md").read_text()
    assert entry.model_id in card


def test_nothing_imports_torch_for_the_version():
    assert sgacodec.__version__ in (ROOT / "pyproject.toml").read_text()
