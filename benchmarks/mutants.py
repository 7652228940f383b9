"""`make mutants`: how many small faults in the code do the tests see?

For each file that `mutants.yaml` names, a fixed sample of mutants (`mutant_operators.py`) is put into a
copy of the tree, one at a time, and the fast tests of that file run on it until one fails. What else the
table lists under `deliberate` are faults by hand, each of which survived once. A mutant counts as killed
when a test fails, when the file can no longer be imported, or when the tests need several times the
processor's time that they need without it, or wait for ever.

What makes it cheap: a process imports TensorFlow and the rest once and is forked for each mutant; tests
that ran the changed lines come first, the shortest before the others; and the first failure ends it.

    python -m benchmarks.mutants                                  # everything, as `make mutants`
    python -m benchmarks.mutants --only batching --per-file 40    # more of one area
"""

from __future__ import annotations

import argparse
import concurrent.futures
import dataclasses
import json
import queue
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import yaml

from benchmarks import mutant_operators
from benchmarks.mutant_operators import Mutant

ROOT = Path(__file__).resolve().parents[1]
TABLE = ROOT / "benchmarks" / "mutants.yaml"
DELIBERATE = "deliberate faults"


@dataclasses.dataclass
class File:
    """What is to be done with one file.

    Attributes:
      area: which part of the product, as the table names it.
      path: below the root of the repository.
      tests: files of tests.
      chosen: the mutants that are tried.
      equivalent: (mutant, reason) of those that would have been, and change nothing.
      deselect: beginnings of the ids of tests that are left out.
    """

    area: str
    path: str
    tests: list[str]
    chosen: list[Mutant]
    equivalent: list[tuple[Mutant, str]]
    deselect: list[str]


@dataclasses.dataclass
class Outcome:
    """What the tests did with the mutants of one file.

    Attributes:
      file: which.
      by: for each mutant what killed it, "" if nothing did.
      seconds: of the processor, for all of it.
    """

    file: File
    by: list[str]
    seconds: float


def main(arguments: Sequence[str] | None = None) -> int:
    """Runs the mutants and prints the table; 1 if fewer than `--bar` percent are killed."""
    parser = argparse.ArgumentParser(prog="benchmarks.mutants", description=(__doc__ or "").split("\n")[0])
    parser.add_argument("--only", default="", help="areas or files, by parts of their names, comma between")
    parser.add_argument("--per-file", type=int, default=10, help="mutants of each file (10)")
    parser.add_argument("--seed", type=int, default=1, help="of the choice (1)")
    parser.add_argument("--jobs", type=int, default=2, help="processes (2)")
    parser.add_argument("--bar", type=float, default=85, help="percent to be killed (85)")
    parser.add_argument("--json", type=Path, help="also write what killed each mutant to this file")
    parser.add_argument(
        "--again",
        type=Path,
        help="a file that --json wrote: run only those that survived then or are new; with tests added "
        "since, the others would be killed again",
    )
    parser.add_argument("--list", action="store_true", help="print the mutants and run nothing")
    args = parser.parse_args(arguments)
    files = read(yaml.safe_load(TABLE.read_text()), args.per_file, args.seed)
    parts = [part for part in args.only.split(",") if part]
    files = [file for file in files if not parts or any(part in f"{file.area} {file.path}" for part in parts)]
    if not files:
        parser.error(f"--only: {args.only} is in the name of no area or file of {TABLE}")
    if args.list:
        for file in files:
            print(f"{file.area}: {file.path}", *(f"  {_shown(mutant)}" for mutant in file.chosen), sep="\n")
        return 0
    known = json.loads(args.again.read_text()) if args.again else {}
    outcomes = run(files, args.jobs, known, args.json)
    print(report(outcomes))
    return 0 if share(outcomes) >= args.bar else 1


def read(table: Mapping[str, Any], per_file: int, seed: int) -> list[File]:
    """The files of the table with their mutants.

    Raises:
      ValueError: an entry names what is not in its file (any more).
    """
    files = []
    for area, entries in table["areas"].items():
        for path, entry in entries.items():
            every = mutant_operators.mutants((ROOT / path).read_text())
            reasons = dict(entry.get("equivalent", {}))
            known = {mutant.key for mutant in every}
            if stale := sorted(set(reasons) - known):
                raise ValueError(f"{TABLE.name}: {path} has no mutant {stale[0]!r}; remove the entry")
            drawn = mutant_operators.chosen(every, per_file, seed)
            equivalent = [(mutant, reasons[mutant.key]) for mutant in drawn if mutant.key in reasons]
            chosen = [mutant for mutant in drawn if mutant.key not in reasons]
            files.append(File(area, path, entry["tests"], chosen, equivalent, entry.get("deselect", [])))
    for entry in table["deliberate"]:
        source = (ROOT / entry["file"]).read_text()
        if source.count(entry["replace"]) != 1:
            raise ValueError(f"{TABLE.name}: {entry['replace']!r} is not once in {entry['file']}")
        line = source[: source.index(entry["replace"])].count("\n") + 1
        lines = (line, line + entry["replace"].count("\n"))
        after = " ".join(entry["with"].split()) or "(nothing)"
        mutated = source.replace(entry["replace"], entry["with"])
        mutant = Mutant("", lines, " ".join(entry["replace"].split()), after, 1, mutated)
        files.append(File(DELIBERATE, entry["file"], entry["tests"], [mutant], [], []))
    return files


def run(
    files: Sequence[File], jobs: int, known: Mapping[str, str], keep: Path | None = None
) -> list[Outcome]:
    """Tries all mutants, in `jobs` processes with a copy of the tree each.

    Args:
      files: what is to be done.
      jobs: how many at a time.
      known: what killed a mutant, by its name (`_name`): these are not tried again.
      keep: file that gets `known` and what is found, after each file.
    """
    done = dict(known)
    waiting: queue.SimpleQueue[Worker] = queue.SimpleQueue()
    with tempfile.TemporaryDirectory(prefix="mutants-") as folder:
        workers = [Worker(Path(folder) / str(number)) for number in range(max(min(jobs, len(files)), 1))]
        for worker in workers:
            waiting.put(worker)

        def one(file: File) -> Outcome:
            left = [mutant for mutant in file.chosen if not known.get(_name(file, mutant))]
            seconds, by = 0.0, {}
            if left:
                worker = waiting.get()
                try:
                    answers, seconds = worker.run(dataclasses.replace(file, chosen=left))
                finally:
                    waiting.put(worker)
                by = {_name(file, mutant): answer for mutant, answer in zip(left, answers, strict=True)}
                done.update(by)
                if keep:
                    keep.write_text(json.dumps(done, indent=1) + "\n")
            names = [_name(file, mutant) for mutant in file.chosen]
            return Outcome(file, [by[name] if name in by else known[name] for name in names], seconds)

        try:
            with concurrent.futures.ThreadPoolExecutor(len(workers)) as pool:
                return list(pool.map(one, files))
        finally:
            for worker in workers:
                worker.close()


class Worker:
    """A copy of the tree and a process in it that tries mutants (`mutant_worker.py`)."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder / "tree"
        listed = ["git", "ls-files", "-z", "--cached", "--others", "--exclude-standard"]
        names = subprocess.run(listed, cwd=ROOT, check=True, capture_output=True, text=True).stdout
        for name in names.split("\0"):
            if name and (ROOT / name).is_file():
                (self._folder / name).parent.mkdir(parents=True, exist_ok=True)
                shutil.copy2(ROOT / name, self._folder / name)
        # The tiny shop of the unchanged code is input to the tests; to build it costs a minute.
        shop = ROOT / ".pytest_cache" / "tiny_shop"
        shop.mkdir(parents=True, exist_ok=True)
        (self._folder / ".pytest_cache").mkdir()
        (self._folder / ".pytest_cache" / "tiny_shop").symlink_to(shop)
        if (ROOT / ".venv").exists():  # tests run its commands
            (self._folder / ".venv").symlink_to((ROOT / ".venv").resolve())
        self._process = subprocess.Popen(
            [sys.executable, "-m", "benchmarks.mutant_worker", str(folder / "log")],
            **{"cwd": self._folder, "stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "text": True},
            start_new_session=True,
        )

    def run(self, file: File) -> tuple[list[str], float]:
        """Tries the mutants of a file: what killed each, and seconds of the processor.

        Raises:
          RuntimeError: its tests fail without any.
        """
        tries = [{"lines": mutant.lines, "source": mutant.source} for mutant in file.chosen]
        ask = {"path": file.path, "tests": file.tests, "mutants": tries, "deselect": file.deselect}
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._process.stdin.write(json.dumps(ask) + "\n")
        self._process.stdin.flush()
        begun = time.monotonic()
        answer = json.loads(self._process.stdout.readline() or '{"error": "the process ended"}')
        if "error" in answer:
            raise RuntimeError(f"{file.path}: {answer['error']}")
        killed = sum(map(bool, answer["by"]))
        wall = time.monotonic() - begun
        print(f"{file.path}: {killed} of {len(tries)}, {wall:.0f} s", file=sys.stderr, flush=True)
        return answer["by"], answer["seconds"]

    def close(self) -> None:
        """Ends the process."""
        self._process.terminate()
        self._process.wait()


def share(outcomes: Sequence[Outcome]) -> float:
    """Percent of the mutants that were killed."""
    every = [by for outcome in outcomes for by in outcome.by]
    return 100 * sum(map(bool, every)) / len(every) if every else 100.0


def report(outcomes: Sequence[Outcome]) -> str:
    """The table, then the mutants that survived and those that are left out."""
    by_path: dict[tuple[str, str], list[Outcome]] = {}
    for outcome in outcomes:
        by_path.setdefault((outcome.file.area, outcome.file.path), []).append(outcome)
    rows = []
    for (area, path), some in by_path.items():
        tried, killed = (sum(count) for count in zip(*map(_counts, some), strict=True))
        left_out = sum(len(outcome.file.equivalent) for outcome in some)
        seconds = sum(outcome.seconds for outcome in some)
        rows.append((area, path, tried, killed, left_out, f"{share(some):.0f} %", f"{seconds:.0f}"))
    tried, killed = (sum(row[place] for row in rows) for place in (2, 3))
    left_out, seconds = sum(row[4] for row in rows), sum(outcome.seconds for outcome in outcomes)
    rows.append(("all", "", tried, killed, left_out, f"{share(outcomes):.1f} %", f"{seconds:.0f}"))
    head = ("area", "file", "mutants", "killed", "equivalent", "share", "cpu s")
    lines = [_columns(head, [head, *rows]), *(_columns(row, [head, *rows]) for row in rows)]
    survivors = [
        f"  {outcome.file.path}:{_shown(mutant)}"
        for outcome in outcomes
        for mutant, by in zip(outcome.file.chosen, outcome.by, strict=True)
        if not by
    ]
    lines += ["", "Survived:" if survivors else "None survived.", *survivors]
    equal = [
        f"  {outcome.file.path}:{_shown(mutant)}\n    {reason}"
        for outcome in outcomes
        for mutant, reason in outcome.file.equivalent
    ]
    return "\n".join([*lines, *(["", "Not counted, for they change nothing:", *equal] if equal else [])])


def _name(file: File, mutant: Mutant) -> str:
    return f"{file.path}: {mutant.key}"


def _counts(outcome: Outcome) -> tuple[int, int]:
    return len(outcome.by), sum(map(bool, outcome.by))


def _shown(mutant: Mutant) -> str:
    return f"{mutant.lines[0]}: {mutant.key}"


def _columns(row: Sequence[object], rows: Sequence[Sequence[object]]) -> str:
    widths = [max(len(str(other[place])) for other in rows) for place in range(len(row))]
    cells = [
        str(cell).ljust(width) if place < 2 else str(cell).rjust(width)
        for place, (cell, width) in enumerate(zip(row, widths, strict=True))
    ]
    return "  ".join(cells).rstrip()


if __name__ == "__main__":
    sys.exit(main())
