"""Codecs that are programs on PATH: BPG and VVC."""

from __future__ import annotations

import io
import os
import re
import subprocess
import tempfile
from functools import partial
from pathlib import Path

import numpy as np
from PIL import Image

from sgacodec_bench.codecs.base import Absent, Codec, Rgb, missing_program

_BPG_REMEDY = "build libbpg 0.9.8 (https://bellard.org/bpg/) and put bpgenc and bpgdec on PATH"
_VVC_REMEDY = "build fraunhoferhhi/vvenc and vvdec, and put vvencapp and vvdecapp on PATH"
_BPG_QPS = (22.0, 25.0, 28.0, 31.0, 34.0, 37.0, 40.0, 43.0, 46.0)
_QP_GRID = (5.0, 51.0, 1.0)
_VVC_QPS = (22.0, 25.0, 28.0, 31.0, 34.0, 37.0, 40.0, 43.0, 46.0)


def external_codecs() -> list[Codec | Absent]:
    """Return BPG with each chroma format and HEVC encoder, and VVC."""
    bpg = [_bpg(chroma, encoder) for encoder in ("x265", "jctvc") for chroma in ("444", "420")]
    return [*bpg, _vvc(), _mozjpeg()]


def bpg_encoder() -> str:
    """Return the program to call: $SGACODEC_BPGENC (set by --bpgenc), or bpgenc."""
    return os.environ.get("SGACODEC_BPGENC", "bpgenc")


def _bpg(chroma: str, encoder: str) -> Codec | Absent:
    name = f"bpg-{chroma}" if encoder == "x265" else f"bpg-{chroma}-{encoder}"
    program = bpg_encoder()
    absent = missing_program(name, program, _BPG_REMEDY)
    if absent:
        return absent
    help_text = _output([program, "-h"])
    if encoder not in help_text:
        return Absent(name, f"this {program} was built without {encoder}", _BPG_REMEDY)
    arguments = [program, "-f", chroma, "-e", encoder, "-q"]
    return Codec(
        name=name,
        version=(re.search(r"version ([\d.]+)", help_text) or ["", "unknown"])[1] + f", {encoder}",
        argv=f"{' '.join(arguments)} SETTING",
        settings=_BPG_QPS,
        grid=_QP_GRID,
        encode=partial(_bpg_encode, arguments),
        decode=partial(_bpg_decode, str(Path(program).with_name("bpgdec")) if os.sep in program else "bpgdec"),
        rising=False,
    )


def _bpg_encode(arguments: list[str], rgb: Rgb, setting: float) -> bytes:
    with tempfile.TemporaryDirectory() as folder:
        source, target = Path(folder, "in.png"), Path(folder, "out.bpg")
        Image.fromarray(rgb).save(source)
        subprocess.run([*arguments, f"{setting:g}", "-o", target, source], check=True, capture_output=True)
        return target.read_bytes()


def _bpg_decode(program: str, data: bytes) -> Rgb:
    with tempfile.TemporaryDirectory() as folder:
        source, target = Path(folder, "in.bpg"), Path(folder, "out.png")
        source.write_bytes(data)
        subprocess.run([program, "-o", target, source], check=True, capture_output=True)
        with Image.open(target) as image:
            return np.asarray(image.convert("RGB"))


def _output(command: list[str]) -> str:
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    return done.stdout + done.stderr


def _vvc() -> Codec | Absent:
    absent = missing_program("vvc", "vvencapp", _VVC_REMEDY) or missing_program("vvc", "vvdecapp", _VVC_REMEDY)
    if absent:
        return absent
    version = re.search(r"version ([\w.]+)", _output(["vvencapp", "--version"]))
    return Codec(
        name="vvc",
        version=version[1] if version else "unknown",
        argv="vvencapp --preset medium -q SETTING -c yuv444_10 (BT.709 full range, 4:4:4, 10 bit)",
        settings=_VVC_QPS,
        grid=_QP_GRID,
        encode=_vvc_encode,
        decode=_vvc_decode,
        rising=False,
    )


def _mozjpeg() -> Codec | Absent:
    remedy = "build mozilla/mozjpeg and put its cjpeg on PATH"
    absent = missing_program("mozjpeg", "cjpeg", remedy)
    if absent:
        return absent
    version = re.search(r"mozjpeg version ([\w.]+)", _output(["cjpeg", "-version"]))
    if not version:
        return Absent("mozjpeg", "the cjpeg on PATH is not mozjpeg's", remedy)
    return Codec(
        name="mozjpeg",
        version=version[1],
        argv="cjpeg -quality SETTING",
        settings=(5, 10, 20, 35, 50, 65, 80, 90, 95),
        grid=(0, 95, 1),
        encode=_mozjpeg_encode,
        decode=_pillow_decode,
    )


def _mozjpeg_encode(rgb: Rgb, setting: float) -> bytes:
    with tempfile.TemporaryDirectory() as folder:
        source, target = Path(folder, "in.ppm"), Path(folder, "out.jpg")
        Image.fromarray(rgb).save(source)
        subprocess.run(
            ["cjpeg", "-quality", f"{setting:g}", "-outfile", target, source], check=True, capture_output=True
        )
        return target.read_bytes()


def _pillow_decode(data: bytes) -> Rgb:
    with Image.open(io.BytesIO(data)) as image:
        return np.asarray(image.convert("RGB"))


_BT709 = np.array([[0.2126, 0.7152, 0.0722], [-0.114572, -0.385428, 0.5], [0.5, -0.454153, -0.045847]])


def _vvc_encode(rgb: Rgb, setting: float) -> bytes:
    height, width = rgb.shape[:2]
    padded = np.pad(rgb, ((0, -height % 8), (0, -width % 8), (0, 0)), mode="edge")
    ycc = np.einsum("pc,hwc->phw", _BT709, padded.astype(float)) * (1023 / 255) + np.array([0, 512, 512])[:, None, None]
    with tempfile.TemporaryDirectory() as folder:
        source, target = Path(folder, "in.yuv"), Path(folder, "out.266")
        source.write_bytes(np.rint(np.clip(ycc, 0, 1023)).astype("<u2").tobytes())
        size = f"{padded.shape[1]}x{padded.shape[0]}"
        subprocess.run(
            ["vvencapp", "--preset", "medium", "-q", f"{setting:g}", "-c", "yuv444_10", "-s", size, "-r", "1", "-f", "1",
             "-i", source, "-o", target],
            check=True, capture_output=True,
        )  # fmt: skip
        # The stream has the padded size; the picture's own takes four more bytes, as a container would.
        return width.to_bytes(2, "little") + height.to_bytes(2, "little") + target.read_bytes()


def _vvc_decode(data: bytes) -> Rgb:
    width, height = int.from_bytes(data[:2], "little"), int.from_bytes(data[2:4], "little")
    with tempfile.TemporaryDirectory() as folder:
        source, target = Path(folder, "in.266"), Path(folder, "out.yuv")
        source.write_bytes(data[4:])
        subprocess.run(["vvdecapp", "-b", source, "-o", target], check=True, capture_output=True)
        ycc = (
            np.frombuffer(target.read_bytes(), "<u2").reshape(3, height + -height % 8, width + -width % 8).astype(float)
        )
    centred = (ycc - np.array([0, 512, 512])[:, None, None]) * (255 / 1023)
    rgb = np.einsum("cp,phw->hwc", np.linalg.inv(_BT709), centred)
    return np.rint(np.clip(rgb, 0, 255)).astype(np.uint8)[:height, :width]
