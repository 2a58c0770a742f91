"""Previews are timed beside decodes, and compared."""

import json
import sys

from PIL import Image

from sgacodec_bench.speed import previews


def test_rows_and_summaries(tmp_path, scene, monkeypatch, capsys):
    Image.fromarray(scene).save(tmp_path / "a.png")
    out = tmp_path / "previews.json"
    monkeypatch.setattr(sys, "argv", ["previews", str(tmp_path / "a.png"), "--out", str(out)])
    previews.main()
    rows = json.loads(out.read_text())["rows"]
    assert [(row["image"], row["setting"]) for row in rows] == [("a", quality) for quality in previews.QUALITIES]
    assert all(row["psnr_db"] > 25 for row in rows)
    assert all(row["preview_seconds"] > 0 for row in rows)
    assert capsys.readouterr().out.count("of it; PSNR") == len(previews.QUALITIES)
