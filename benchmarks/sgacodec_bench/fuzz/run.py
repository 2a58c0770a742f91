"""Fuzzes everything that reads files, in processes with bounded memory and time; resumable.

SGACODEC_MODELS=tests/golden/v1 python -m sgacodec_bench.fuzz.run --golden tests/golden/v1 --executions 100000 --out fuzz.json

Mutation number n of a target follows from --seed and n alone. With --write FOLDER what failed is written there.
"""

from __future__ import annotations

import argparse
import json
import logging
import multiprocessing
import resource
import time
import warnings
from collections.abc import Iterator
from dataclasses import asdict, dataclass, field
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

import sgacodec
from sgacodec.picture.quiet import in_own_process
from sgacodec_bench.fuzz.mutate import mutated
from sgacodec_bench.fuzz.targets import outcome, targets
from sgacodec_bench.measure.provenance import commit

_MOST_BYTES = 3 * 2**30
_LONGEST_SECONDS = 20.0
_FAILURES_KEPT = 50
_SAVE_EVERY = 2000


@dataclass
class Found:
    """What became of the mutations of a target.

    Attributes:
        executions: how many there were.
        read, refused: how many were accepted, and refused with an error of sgacodec's.
        failures: what became of others, by their number; at most so many are kept.
        n_failures: how many others there were.
        slowest_seconds, slowest: the longest time, and which mutation took it.
        peak_megabytes: most memory that a process had.
    """

    executions: int = 0
    read: int = 0
    refused: int = 0
    n_failures: int = 0
    failures: dict[str, str] = field(default_factory=dict)
    slowest_seconds: float = 0.0
    slowest: int = 0
    peak_megabytes: int = 0

    def add(self, number: int, what: str, seconds: float, megabytes: int) -> None:
        """Count a mutation."""
        self.executions = number + 1
        if what in ("read", "refused"):
            setattr(self, what, getattr(self, what) + 1)
        else:
            self.n_failures += 1
            if len(self.failures) < _FAILURES_KEPT:
                self.failures[str(number)] = what
        if seconds > self.slowest_seconds:
            self.slowest_seconds, self.slowest = seconds, number
        self.peak_megabytes = max(self.peak_megabytes, megabytes)


def main() -> None:
    """Fuzz the targets in turn."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--golden", type=Path, required=True, help="folder of the golden files")
    parser.add_argument("--executions", type=int, required=True, help="mutations of each target, earlier ones included")
    parser.add_argument("--targets", nargs="+", help="names of targets; all without it")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--write", type=Path, help="folder for mutations that failed")
    arguments = parser.parse_args()
    report = _so_far(arguments.out, arguments.seed)
    for name in arguments.targets or targets(arguments.golden):
        found = Found(**report.get(name, {}))
        for count, _ in enumerate(fuzz(arguments.golden, name, arguments.seed, found, arguments.executions)):
            if count % _SAVE_EVERY == 0:
                _save(arguments.out, arguments.seed, report | {name: asdict(found)})
        report[name] = asdict(found)
        _save(arguments.out, arguments.seed, report)
        print(f"{name}: {found.executions} executions, {found.n_failures} failures", flush=True)
        if arguments.write is not None:
            _write_failures(arguments.write, arguments.golden, name, arguments.seed, found)


def _so_far(path: Path, seed: int) -> dict[str, Any]:
    """Return what an earlier run found.

    Raises:
        SystemExit: it made other mutations.
    """
    if not path.exists():
        return {}
    content = json.loads(path.read_text())
    if content["seed"] != seed:
        raise SystemExit(f"{path} was made with --seed {content['seed']}; name another file")
    return dict(content["targets"])


def _save(path: Path, seed: int, report: dict[str, object]) -> None:
    content = {"version": sgacodec.__version__, "commit": commit(), "seed": seed, "targets": report}
    path.write_text(json.dumps(content, indent=1) + "\n")


def _write_failures(folder: Path, golden: Path, name: str, seed: int, found: Found) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    seeds = list(targets(golden)[name].seeds.values())
    for number in found.failures:
        (folder / f"{name}-{seed}-{number}").write_bytes(mutated(seeds, seed, int(number)))


def fuzz(golden: Path, name: str, seed: int, found: Found, until: int) -> Iterator[None]:
    """Run mutations up to a number, and yield after each; a process that dies or hangs is replaced by another."""
    while found.executions < until:
        yield from _with_one_process(golden, name, seed, found, until)


def _with_one_process(golden: Path, name: str, seed: int, found: Found, until: int) -> Iterator[None]:
    context = multiprocessing.get_context("spawn")
    mine, theirs = context.Pipe(duplex=False)
    worker = context.Process(target=_work, args=(theirs, str(golden), name, seed, found.executions, until), daemon=True)
    worker.start()
    theirs.close()
    allowed = 10 * _LONGEST_SECONDS  # to start
    try:
        while found.executions < until:
            if not mine.poll(allowed):
                found.add(found.executions, f"hang: over {allowed:.0f} s", allowed, 0)
                return
            allowed = _LONGEST_SECONDS
            found.add(*mine.recv())
            yield
    except EOFError:
        worker.join()
        found.add(found.executions, f"crash: the process ended with status {worker.exitcode}", 0.0, 0)
    finally:
        worker.kill()
        worker.join()


def _work(results: Connection, golden: str, name: str, seed: int, first: int, until: int) -> None:
    """Run mutations in a process whose memory is bounded."""
    resource.setrlimit(resource.RLIMIT_AS, (_MOST_BYTES, _MOST_BYTES))
    logging.disable()
    warnings.simplefilter("ignore")
    target = targets(Path(golden))[name]
    seeds = list(target.seeds.values())
    for number in range(first, until):
        data = mutated(seeds, seed, number)
        start = time.perf_counter()
        with in_own_process():
            what = outcome(target, data)
        seconds = time.perf_counter() - start
        megabytes = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss // 1024
        results.send((number, what, seconds, megabytes))


if __name__ == "__main__":
    main()
