"""The benchmark of message: real files, a resumable JSON, a table, a plot."""

import json
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from sgacodec_bench.experiments import messages


def row(setting, level, cost, n_message=0, image="a"):
    """A row whose picture costs so many bytes at equal quality."""
    lmbda, pixels, psnr_db = 0.01, 8000, 30.0 + level
    mse = 255**2 * 10 ** (-psnr_db / 10)
    return {
        "setting": setting,
        "image": image,
        "level": level,
        "lambda": lmbda,
        "message_bytes": n_message,
        "pixels": pixels,
        "net_bpp": 8 * cost / pixels - lmbda * mse,
        "psnr_db": psnr_db,
    }


def test_growth_is_what_a_byte_adds():
    rows = [row("SGA+", 1.0, 2000.0), row("text of 50", 1.0, 1970.0, 50), row("section of 50", 1.0, 2005.0, 50)]
    result = {"rows": rows}
    assert messages.cost_bytes(rows[0]) == pytest.approx(2000)
    assert messages.growth(result, "text of 50", "SGA+") == pytest.approx(0.4)
    assert messages.growth(result, "section of 50", "SGA+") == pytest.approx(1.1)


def test_captions_have_the_length_asked_for():
    for n_bytes in messages.CAPTION_BYTES:
        assert len(messages.caption(n_bytes).encode()) == n_bytes


@pytest.mark.slow
def test_it_measures_reports_and_resumes(tmp_path, scene, capsys, monkeypatch):
    Image.fromarray(scene).save(tmp_path / "scene.png")
    model = str(Path(__file__).parents[1] / "golden" / "v1" / "tiny-head.safetensors")
    arguments = [str(tmp_path / "scene.png"), "--out", str(tmp_path / "out"), "--levels", "0", "1", "--iterations", "2"]
    arguments += ["--model", model, "--device", "cpu"]
    messages.main(arguments)
    result = json.loads((tmp_path / "out" / "messages.json").read_text())
    names = messages.variants(4)
    assert len(result["rows"]) == 2 * len(names)
    assert set(result["same"].values()) == {True}
    assert np.all(np.diff([entry["bytes"] for entry in result["capacity"]], axis=1) >= 0)
    by_name = {row["setting"]: row for row in result["rows"] if row["level"] == 0}
    assert by_name["text of 200"]["message_bytes"] == 200
    assert by_name["SGA+"]["carriers"] is None
    assert by_name["BB amortised"]["carriers"][1:] == [4, 0]
    assert by_name["section of 50"]["bytes"] > by_name["section of 50"]["appended_bytes"] >= 50
    text = (tmp_path / "out" / "messages.md").read_text()
    assert "| SGA+BB [M2] |" in text
    assert "gives the same bytes with 1, 2, 4 threads" in text
    assert (tmp_path / "out" / "messages.svg").stat().st_size > 5000

    def measured_again(*arguments):
        raise AssertionError("measured again")

    monkeypatch.setattr(messages, "measure", measured_again)
    messages.main(arguments)
    with pytest.raises(SystemExit, match="iterations 2"):
        messages.main([*arguments, "--iterations", "3"])
