"""What a page of the viewer was told, and files to look at."""

import html
import json
import re


def scenes_of(page):
    """The scenes in the bytes of a page."""
    (data,) = re.findall(r'<script type="application/json">(.*?)</script>', page.decode())
    return json.loads(data)


def text_of(page):
    """What a reader sees of a page, without what scripts add."""
    body = re.sub(r"<(script|style).*?</\1>", "", page.decode(), flags=re.DOTALL)
    return html.unescape(re.sub(r"\s+", " ", re.sub(r"<[^>]+>", " ", body)))
