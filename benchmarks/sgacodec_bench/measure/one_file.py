"""One encode and decode in a process of its own, so that a crash or a hang costs one row."""

from __future__ import annotations

import contextlib
import multiprocessing
import os
import resource
import signal
import subprocess
import sys
import time
from dataclasses import dataclass
from multiprocessing.connection import Connection
from multiprocessing.context import SpawnProcess
from pathlib import Path

from sgacodec import metrics
from sgacodec.errors import SgacodecError
from sgacodec.picture import read_picture
from sgacodec_bench.codecs import Absent, Codec, all_codecs
from sgacodec_bench.measure.results import LOSSLESS_DB, Row

_CONTEXT = multiprocessing.get_context("spawn")


@dataclass(frozen=True)
class Task:
    """What to measure.

    Attributes:
        codec: name of the codec.
        source: the image.
        setting: in the codec's scale.
        timeout: seconds until it is stopped.
    """

    codec: str
    source: Path
    setting: float
    timeout: float


def run(task: Task) -> Row:
    """Return the row of a task; what goes wrong stands in its `error`.

    The child encodes and decodes; the pictures are compared here, so that it need not load what compares them.
    """
    ours, theirs = _CONTEXT.Pipe(duplex=False)
    process = _CONTEXT.Process(target=_child, args=(task, theirs))
    process.start()
    theirs.close()
    row: Row = {"image": task.source.stem, "setting": task.setting}
    try:
        row |= _compare(task.source, ours.recv()) if ours.poll(task.timeout) else _stop(process, task.timeout)
    except EOFError:
        process.join()
        row["error"] = f"the process died with exit code {process.exitcode}"
    except (SgacodecError, ValueError, RuntimeError, OSError) as err:
        row["error"] = f"{type(err).__name__}: {err}"
    process.join()
    return row


def _stop(process: SpawnProcess, timeout: float) -> Row:
    """Kill a task and the programs it started."""
    with contextlib.suppress(ProcessLookupError):
        os.killpg(process.pid or 0, signal.SIGKILL)
    return {"error": f"no answer within {timeout:g} s"}


def _compare(source: Path, answer: Row) -> Row:
    if "error" in answer:
        return answer
    rgb, decoded = read_picture(source).rgb, answer.pop("decoded")
    if decoded.shape != rgb.shape:
        raise ValueError(f"decoded to {decoded.shape[1]}x{decoded.shape[0]} instead of {rgb.shape[1]}x{rgb.shape[0]}")
    similarity, psnr_db = metrics.ms_ssim(rgb, decoded), metrics.psnr_db(rgb, decoded)
    quality = {
        "bpp": round(8 * answer["bytes"] / (rgb.shape[0] * rgb.shape[1]), 6),
        "psnr_db": round(min(psnr_db, LOSSLESS_DB), 6),
        "ms_ssim": None if similarity is None else round(similarity, 6),
    }
    row = {"bytes": answer.pop("bytes"), **quality, **answer}
    return row if psnr_db < LOSSLESS_DB else row | {"left_out": "decoded without loss, so it lies on no curve"}


def _child(task: Task, answer: Connection) -> None:
    os.setsid()  # so that a program it starts dies with it
    try:
        answer.send(_measure(all_codecs()[task.codec], task))
    except subprocess.CalledProcessError as err:
        last_words = (err.stderr or b"").decode("utf-8", "replace").strip().splitlines()[-1:]
        program = Path(str(err.cmd[0])).name
        answer.send({"error": f"{program} failed with exit code {err.returncode}: {' '.join(last_words)}"})
    except (SgacodecError, OSError, ValueError, RuntimeError, ImportError, MemoryError, SyntaxError) as err:
        answer.send({"error": f"{type(err).__name__}: {err}"})


def _measure(codec: Codec | Absent, task: Task) -> Row:
    """Encode and decode once: bytes, picture, seconds, peak memory."""
    if isinstance(codec, Absent):
        return {"error": f"{codec.reason}; {codec.remedy}"}
    rgb = read_picture(task.source).rgb
    start = time.perf_counter()
    data = codec.encode(rgb, task.setting)
    encoded = time.perf_counter()
    decoded = codec.decode(data)
    return {
        "bytes": len(data),
        "decoded": decoded,
        "encode_seconds": round(encoded - start, 3),
        "decode_seconds": round(time.perf_counter() - encoded, 3),
        "peak_megabytes": round(_peak_bytes() / 1e6),
    }


def _peak_bytes() -> int:
    """Return the peak memory of this process or of a program it ran, whichever is larger.

    Linux hands a parent's peak down through fork and exec in `getrusage`, so the kernel's own mark is read where there is one.
    """
    unit = 1 if sys.platform == "darwin" else 1024
    programs = resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss
    status = Path("/proc/self/status")
    if status.exists():
        marks = dict(line.split(":", 1) for line in status.read_text().splitlines())
        return 1024 * max(programs, int(marks["VmHWM"].split()[0]))
    return unit * max(programs, resource.getrusage(resource.RUSAGE_SELF).ru_maxrss)
