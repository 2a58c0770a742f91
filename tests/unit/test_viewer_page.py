"""Pages of the viewer: what they hold stays text, and their policy allows what is theirs."""

import base64
import hashlib
import io
import re

import numpy as np
import pytest
from PIL import Image
from support.pages import scenes_of

from sgacodec.viewer import page

HOSTILE = "</script><script>alert(1)</script><!--"


def test_names_cannot_end_the_script_that_they_are_in():
    scene = page.Scene(HOSTILE, 1, 1, [page.Shown(HOSTILE, HOSTILE, "a.png")])
    content = page.page(HOSTILE, page.viewer([scene]) + page.facts(HOSTILE, [(HOSTILE, HOSTILE)]))
    assert b"<script>alert" not in content
    assert b"<!--" not in content
    assert scenes_of(content)[0]["pictures"][0]["name"] == HOSTILE


def test_names_that_are_no_text():
    assert rb"a\udc80" in page.page("a\udc80", "")


def test_the_policy_allows_the_style_and_the_script_and_nothing_else():
    content = page.page("title", page.viewer([])).decode()
    (style,) = re.findall(r"<style>(.*?)</style>", content, re.DOTALL)
    (script,) = re.findall(r"<script>(.*?)</script>", content, re.DOTALL)
    for part in (style, script):
        assert f"'sha256-{base64.b64encode(hashlib.sha256(part.encode()).digest()).decode()}'" in page.policy()
    assert f'content="{page.policy()}"' in content
    assert "unsafe" not in page.policy()
    assert not re.search(r"(src|href)=\"?(https?:)?//|@import|url\(", content)


@pytest.mark.parametrize(
    ("size", "most", "scale"), [((8, 8), 64, 1), ((9, 8), 64, 2), ((1, 100), 50, 2), ((30, 30), 100, 3)]
)
def test_scales(size, most, scale):
    assert page.scale_of(*size, most) == scale
    image = Image.new("L", size).reduce(scale)
    assert image.size == tuple(-(-side // scale) for side in size)


@pytest.mark.parametrize(("size", "kind"), [((5, 4), "webp"), ((16384, 1), "png")])
@pytest.mark.parametrize("mode", ["L", "LA", "RGB", "RGBA"])
def test_embedded_pictures_are_without_loss(size, kind, mode):
    noise = np.random.default_rng(0).integers(1, 256, (size[1], size[0], 4), np.uint8)  # seen everywhere
    image = Image.fromarray(noise).convert(mode)
    uri = page.data_uri(image)
    assert uri.startswith(f"data:image/{kind};base64,")
    again = Image.open(io.BytesIO(base64.b64decode(uri.partition(",")[2])))
    np.testing.assert_array_equal(np.asarray(again.convert("RGBA")), np.asarray(image.convert("RGBA")))
