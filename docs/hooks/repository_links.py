"""Lets pages link to any file of the repository: MkDocs alone knows the files in docs/ only.

A page's relative links are those that work in a checkout, such as ../format_spec.md. Every file outside of docs/ that
the pages name goes to the site as repository/PATH, with the files that it names in turn, and the links are rewritten.
A link to a file that does not exist stays as it is, so that `mkdocs build --strict` fails on it.
"""

from __future__ import annotations

import posixpath
import re
from pathlib import Path
from typing import Any

from mkdocs.structure.files import File, Files, InclusionLevel

ROOT = Path(__file__).parents[2]
_LINK = re.compile(r"(\]\()([^)\s#:]+)(#[^)\s]*)?(\))")
_FENCED = re.compile(r"(^```.*?^```$)", re.DOTALL | re.MULTILINE)


def on_files(files: Files, config: Any) -> Files:
    """Add the files outside of docs/ that the navigation or a page names."""
    waiting = [path.removeprefix("repository/") for path in re.findall(r"repository/[\w./-]+", str(config["nav"]))]
    for file in files.documentation_pages():
        waiting += _linked(f"docs/{file.src_uri}")
    known = set()
    while waiting:
        path = waiting.pop()
        if path in known or path.startswith("docs/"):
            continue
        known.add(path)
        uri = f"repository/{path}"
        files.append(
            File.generated(config, uri, abs_src_path=str(ROOT / path), inclusion=InclusionLevel.NOT_IN_NAV)
        )
        if path.endswith(".md"):
            waiting += _linked(path)
    return files


def on_page_markdown(markdown: str, page: Any, config: Any, files: Files) -> str:
    """Rewrite the links of a page that lead out of docs/, or into it from a file that lies outside."""
    uri = page.file.src_uri
    source = uri.removeprefix("repository/") if uri.startswith("repository/") else f"docs/{uri}"

    def rewritten(match: re.Match[str]) -> str:
        path = _resolved(source, match[2])
        if not (ROOT / path).is_file():
            return match[0]
        target = path.removeprefix("docs/") if path.startswith("docs/") else f"repository/{path}"
        return f"{match[1]}{posixpath.relpath(target, posixpath.dirname(uri) or '.')}{match[3] or ''}{match[4]}"

    parts = _FENCED.split(markdown)
    return "".join(part if index % 2 else _LINK.sub(rewritten, part) for index, part in enumerate(parts))


def _linked(source: str) -> list[str]:
    """Return the files of the repository that a page names, as paths from the repository's root."""
    text = _FENCED.sub("", (ROOT / source).read_text(encoding="utf-8"))
    paths = (_resolved(source, match[2]) for match in _LINK.finditer(text))
    return [path for path in paths if (ROOT / path).is_file()]


def _resolved(source: str, target: str) -> str:
    return posixpath.normpath(posixpath.join(posixpath.dirname(source), target))
