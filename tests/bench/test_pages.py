"""The documentation's tables are between markers, and are found out of date when they are."""

import sys

import pytest

from sgacodec_bench.report import pages

BEGIN, END = "<!-- presets: begin -->", "<!-- presets: end -->"


def test_only_what_is_between_the_markers_is_renewed():
    filled = pages.fill(f"before\n{BEGIN}\nold\n{END}\nafter\n", "presets", "new\n")
    assert filled == f"before\n{BEGIN}\nnew\n{END}\nafter\n"
    assert pages.fill(filled, "presets", "new\n") == filled


@pytest.mark.parametrize("text", ["", BEGIN, f"{END}\n{BEGIN}", "<!-- results: begin --><!-- results: end -->"])
def test_a_page_without_its_markers_is_refused(text):
    with pytest.raises(ValueError, match="there is no <!-- presets: begin -->"):
        pages.fill(text, "presets", "new\n")


def test_every_page_has_the_markers_of_its_table():
    for name, page in pages.PAGES.items():
        pages.fill(page.read_text(encoding="utf-8"), name, "")


def test_check_says_which_page_is_out_of_date_and_writes_nothing(tmp_path, monkeypatch):
    page = tmp_path / "page.md"
    page.write_text(f"{BEGIN}\nold\n{END}")
    monkeypatch.setattr(pages, "ROOT", tmp_path)
    monkeypatch.setattr(pages, "PAGES", {"presets": page})
    monkeypatch.setattr(pages, "tables", lambda folder: {"presets": "new\n"})
    monkeypatch.setattr(sys, "argv", ["pages", "results", "--check"])
    with pytest.raises(SystemExit, match=r"page\.md is out of date"):
        pages.main()
    assert "old" in page.read_text()
