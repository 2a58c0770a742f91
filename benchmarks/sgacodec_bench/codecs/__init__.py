"""Codecs behind one interface: encode an image at a setting, decode it again, say which version and arguments ran."""

from __future__ import annotations

from sgacodec_bench.codecs.base import Absent, Codec
from sgacodec_bench.codecs.external import external_codecs
from sgacodec_bench.codecs.learned import learned_codecs
from sgacodec_bench.codecs.pillow import pillow_codecs

__all__ = ["Absent", "Codec", "all_codecs"]


def all_codecs() -> dict[str, Codec | Absent]:
    """Return every codec by name; one that cannot run here is an `Absent` with the reason."""
    entries = [*learned_codecs(), *external_codecs(), *pillow_codecs()]
    return {entry.name: entry for entry in entries}
