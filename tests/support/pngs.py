"""PNG files, chunk by chunk, sound or not."""

from __future__ import annotations

import struct
import zlib

import numpy as np

SIGNATURE = b"\x89PNG\r\n\x1a\n"


def chunk(name: bytes, content: bytes) -> bytes:
    return struct.pack(">I", len(content)) + name + content + struct.pack(">I", zlib.crc32(name + content))


def header(width: int, height: int, depth: int = 8, colour_type: int = 0, interlace: int = 0) -> bytes:
    return chunk(b"IHDR", struct.pack(">IIBBBBB", width, height, depth, colour_type, 0, 0, interlace))


def deflated(rows: bytes) -> bytes:
    return chunk(b"IDAT", zlib.compress(rows))


def png(*chunks: bytes) -> bytes:
    """Return a file of these chunks and IEND."""
    return SIGNATURE + b"".join(chunks) + chunk(b"IEND", b"")


def black(width: int, height: int) -> bytes:
    """Return a sound gray file."""
    return png(header(width, height), deflated(bytes(height * (width + 1))))


def filtered(samples: np.ndarray, depth: int, filters: list[int]) -> bytes:
    """Return the rows of a PNG of uint8 [H, W, C], row y with the filter filters[y % n]."""
    rows, above, step = [], None, max(1, samples.shape[2] * depth // 8)
    for y, row in enumerate(samples):
        bits = np.unpackbits(row.reshape(-1, 1), axis=1)[:, 8 - depth :]
        x = np.packbits(bits.reshape(-1)).astype(int)
        b = np.zeros_like(x) if above is None else above
        a, c = (np.concatenate([np.zeros(step, int), v])[: len(v)] for v in (x, b))
        near = np.stack([abs(b - c), abs(a - c), abs(a + b - 2 * c)]).argmin(0)
        kind = filters[y % len(filters)]
        guess = (0, a, b, (a + b) // 2, np.choose(near, [a, b, c]))[kind]
        rows.append(bytes([kind]) + ((x - guess) % 256).astype(np.uint8).tobytes())
        above = x
    return b"".join(rows)
