"""The fuzzer: mutations can be made again, every kind of failure is told, and the golden files' neighbours have none."""

import json
import sys

import pytest
from support.golden import V1

from sgacodec.errors import FormatError
from sgacodec_bench.fuzz import folders, run, targets
from sgacodec_bench.fuzz.mutate import EDITS, mutated
from sgacodec_bench.fuzz.targets import SilentCorruptionError, Target, outcome

SEEDS = [b"first seed of all" * 9, b"the other one" * 7, b""]


def test_mutations_follow_from_seed_and_number():
    made = [mutated(SEEDS, 1, number) for number in range(300)]
    assert made == [mutated(SEEDS, 1, number) for number in range(300)]
    assert made != [mutated(SEEDS, 2, number) for number in range(300)]
    assert len(set(made)) > 250
    assert {len(data) > len(SEEDS[0]) for data in made} == {True, False}
    assert len(EDITS) > 5


def raising(error):
    def read(data):
        raise error

    return Target({}, read)


@pytest.mark.parametrize(
    ("target", "what"),
    [
        (Target({}, len), "read"),
        (raising(FormatError("no")), "refused"),
        (raising(SilentCorruptionError("another picture")), "silent: another picture"),
        (raising(KeyError("k")), "crash: KeyError: 'k'"),
        (raising(MemoryError()), "crash: MemoryError: "),
    ],
)
def test_outcomes(target, what):
    assert outcome(target, b"") == what


def test_what_was_found_is_counted():
    found = run.Found()
    for number, what in enumerate(["read", "refused", "refused", "crash: x"]):
        found.add(number, what, 0.1 * number, 10 - number)
    assert (found.executions, found.read, found.refused, found.n_failures) == (4, 1, 2, 1)
    assert found.failures == {"3": "crash: x"}
    assert (found.slowest, found.peak_megabytes) == (3, 10)


@pytest.mark.slow
def test_a_process_that_dies_is_told_and_replaced(capfd):
    found = run.Found()
    list(run.fuzz(V1, "no such target", 0, found, 2))
    assert found.failures == {str(n): "crash: the process ended with status 1" for n in range(2)}
    assert "KeyError" in capfd.readouterr().err


@pytest.mark.slow
def test_a_process_that_hangs_is_told_and_ended(monkeypatch):
    monkeypatch.setattr(run, "_LONGEST_SECONDS", 0.01)
    found = run.Found()
    list(run.fuzz(V1, "container", 0, found, 1))
    assert found.failures == {"0": "hang: over 0 s"}


@pytest.mark.slow
def test_a_run_goes_on_where_it_stopped(tmp_path, monkeypatch):
    out = tmp_path / "fuzz.json"
    for executions in (5, 8):
        arguments = ["--golden", V1, "--executions", executions, "--targets", "container", "model", "--out", out]
        monkeypatch.setattr(sys, "argv", ["run", *map(str, arguments)])
        run.main()
        report = json.loads(out.read_text())["targets"]
        assert {found["executions"] for found in report.values()} == {executions}
    monkeypatch.setattr(sys, "argv", [*sys.argv, "--seed", "2"])
    with pytest.raises(SystemExit, match="was made with --seed 0"):
        run.main()


@pytest.mark.parametrize("name", ["container", "decode", "message", "model", "picture", "exif"])
def test_no_mutation_of_a_few_breaks_anything(name):
    target = targets.targets(V1)[name]
    seeds = list(target.seeds.values())
    found = [outcome(target, mutated(seeds, 1, number)) for number in range(60)]
    assert set(found) <= {"read", "refused"}
    assert "refused" in found


def test_what_became_of_the_pictures_of_a_folder(tmp_path, monkeypatch, tiny_model):
    made = targets.pictures()
    for name in ("a.png", "alpha.png", "photo.jpg"):
        (tmp_path / name).write_bytes(made[name])
    (tmp_path / "cut.png").write_bytes(made["a.png"][:200])
    (tmp_path / "text.txt").write_text("no picture")
    out = tmp_path.parent / "folders.json"
    monkeypatch.setattr(sys, "argv", ["folders", str(tmp_path), "--out", str(out)])
    folders.main()
    rows = {row["file"]: row["outcome"] for row in json.loads(out.read_text())["rows"]}
    assert rows == {name: "same" for name in ("a.png", "alpha.png", "photo.jpg")} | {
        "cut.png": "refused",
        "text.txt": "refused",
    }
