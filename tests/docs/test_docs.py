"""The README's, the documentation's and the specification's examples are true."""

import importlib.metadata
import importlib.util
import re
from pathlib import Path

import pytest

import sgacodec
from sgacodec.models import store

ROOT = Path(__file__).parents[2]
README = (ROOT / "README.md").read_text()
SPEC = (ROOT / "format_spec.md").read_text()
PAGES = sorted([ROOT / "README.md", ROOT / "CONTRIBUTING.md", *(ROOT / "docs").rglob("*.md")])


@pytest.mark.slow
def test_python_example_runs(capsys):
    (code,) = re.findall(r"```python\n(.*?)```", README, re.DOTALL)
    exec(code, {})
    assert capsys.readouterr().out == "64 64 A black square.\n"


def test_the_readme_is_short():
    assert len(README.splitlines()) <= 100


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_links_lead_somewhere(page):
    for target in re.findall(r"\]\(([^)#:]+)(?:#[^)]*)?\)", page.read_text()):
        assert (page.parent / target).exists(), target


@pytest.mark.parametrize("name", sorted(set(re.findall(r"`(sgacodec\.[\w.]+)`", SPEC))))
def test_modules_that_the_specification_names_exist(name):
    assert importlib.util.find_spec(name) is not None


def test_sources_in_the_code_are_sections_of_the_specification():
    """Every `format_spec.md, section N` that a docstring names is a heading there."""
    headings = set(re.findall(r"^##+ (\d+(?:\.\d+)?) ", SPEC, re.MULTILINE))
    named = set()
    for path in (ROOT / "codec").rglob("*.py"):
        for text in re.findall(r"format_spec\.md, sections? ((?:[\d.]+(?:, | and | to )?)+)", path.read_text()):
            named |= set(re.findall(r"\d+(?:\.\d+)?", text))
    assert len(named) > 10
    assert named <= headings


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


def test_the_version_is_that_of_the_package():
    assert importlib.metadata.version("sgacodec") == sgacodec.__version__
