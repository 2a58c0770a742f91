"""Lets pages link to files of the repository that lie outside docs/: the site gets a copy of each under repository/.

So a link is right where the repository is browsed and right on the site. A link to nothing stays as it is, and
`mkdocs build --strict` refuses it. MkDocs calls `on_files` and `on_page_markdown`.
"""

from __future__ import annotations

import posixpath
import re
from pathlib import Path
from typing import Any

from mkdocs.structure.files import File, Files

ROOT = Path(__file__).parents[2]
_LINK = re.compile(r"(?<=\]\()([^)#:\s]+)(?=[)#])")
_FENCED = re.compile(r"(^ *```.*?^ *```$)", re.DOTALL | re.MULTILINE)
_COPIES = "repository/"


def on_files(files: Files, config: Any) -> Files:
    """Add the files that pages link to, and those that these link to."""
    open_pages = [f"docs/{file.src_uri}" for file in files.documentation_pages()]
    while open_pages:
        for target in _linked(open_pages.pop()):
            uri = _uri(target)
            if files.get_file_from_path(uri) is None:
                files.append(File.generated(config, uri, abs_src_path=str(ROOT / target)))
                open_pages += [target] if target.endswith(".md") else []
    return files


def on_page_markdown(markdown: str, page: Any, config: Any, files: Files) -> str:
    """Turn the links of a page into those of the site."""
    uri = page.file.src_uri
    source = uri.removeprefix(_COPIES) if uri.startswith(_COPIES) else f"docs/{uri}"

    def rewritten(match: re.Match[str]) -> str:
        target = _target(source, match[1])
        return posixpath.relpath(_uri(target), posixpath.dirname(uri) or ".") if _exists(target) else match[1]

    parts = _FENCED.split(markdown)
    return "".join(part if index % 2 else _LINK.sub(rewritten, part) for index, part in enumerate(parts))


def _linked(source: str) -> list[str]:
    """Return the files of the repository that a page links to."""
    text = _FENCED.sub("", (ROOT / source).read_text(encoding="utf-8"))
    targets = (_target(source, match[1]) for match in _LINK.finditer(text))
    return [target for target in targets if _exists(target)]


def _target(source: str, link: str) -> str:
    """Return the path, from the repository's root, of what a page links to."""
    return posixpath.normpath(posixpath.join(posixpath.dirname(source), link))


def _exists(target: str) -> bool:
    return (ROOT / target).is_file()


def _uri(target: str) -> str:
    """Return where the site has a path of the repository."""
    return target.removeprefix("docs/") if target.startswith("docs/") else _COPIES + target
