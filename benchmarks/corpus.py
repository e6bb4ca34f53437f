"""Corpus speed: `python -m benchmarks.corpus FILE.xml.gz ... --tokenizer T` times reading and building on real XML.

The records of the files are repeated, each time under new PMIDs, to a file of the size asked for. Rates are in
uncompressed XML a core: reading alone, and a whole `corpus build` with one worker. Memory is that of a process of its
own, for the file and for one four times as long. What all of PubMed would take follows from these rates.
"""

import argparse
import gzip
import json
import re
import subprocess
import sys
import time
from collections.abc import Sequence
from itertools import count
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from compactbio import corpus, formats
from compactbio.processes import peak_memory, processor

CITATIONS, FILES = 38_000_000, 1_300
CORES = (2, 16, 64)
_RECORD = re.compile(rb"<MedlineCitation .*?</MedlineCitation>", re.DOTALL)
_PMID = re.compile(rb"(<PMID[^>]*>)\d+(?=</PMID>)")


def main(arguments: Sequence[str] | None = None) -> None:
    """Measure, and print it."""
    options = _options(arguments)
    if options.job:
        sys.stdout.write(json.dumps(_job(Path(options.files[0]), options.job, options.tokenizer)))
        return
    with TemporaryDirectory() as folder:
        result = measure(options.files, options.tokenizer, options.megabytes, options.rounds, Path(folder))
    sys.stdout.write(json.dumps(result, indent=2) + "\n" if options.json else _text(result))


def _options(arguments: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.corpus",
        description=__doc__,
        epilog="Example: python -m benchmarks.corpus pubmed24n0001.xml.gz --tokenizer bert-base-cased --json",
    )
    parser.add_argument("files", nargs="+", type=Path, help="real PubMed/MEDLINE XML, compressed or not")
    parser.add_argument("--tokenizer", required=True, help="folder or hub name")
    parser.add_argument("--megabytes", type=float, default=60, help="size of the repeated file (60)")
    parser.add_argument("--rounds", type=int, default=3, help="how often each is timed; the median counts (3)")
    parser.add_argument("--json", action="store_true", help="print one JSON object")
    parser.add_argument("--job", choices=("read", "build"), help=argparse.SUPPRESS)
    return parser.parse_args(arguments)


def measure(files: Sequence[Path], tokenizer: str, megabytes: float, rounds: int, folder: Path) -> dict[str, Any]:
    """Rates in bytes of XML a second on one core, memory in bytes, and what PubMed would take in hours."""
    records = [record for file in files for record in _RECORD.findall(_content(file))]
    if not records:
        raise SystemExit("There is no MedlineCitation in the files: name PubMed/MEDLINE XML.")
    short, long = folder / "short.xml", folder / "long.xml"
    citations = repeat(records, short, megabytes * 1e6)
    repeat(records, long, 4 * megabytes * 1e6)
    found: dict[str, list[dict[str, float]]] = {"read": [], "build": []}
    for turn in range(rounds):
        for job, done in found.items():
            sys.stderr.write(f"{job}, round {turn + 1} of {rounds}\n")
            done.append(_in_a_process(short, job, tokenizer))
    size = short.stat().st_size
    read, build = (sorted(one["seconds"] for one in found[job])[rounds // 2] for job in found)
    finish = sorted(one["finish"] for one in found["build"])[rounds // 2]
    memory = {
        name: _in_a_process(file, "build", tokenizer)["memory"] for name, file in (("short", short), ("long", long))
    }
    return {
        "processor": processor(),
        "citations": citations,
        "xml_bytes": size,
        "bytes_a_citation": size / citations,
        "read_bytes_per_second": size / read,
        "rows_bytes_per_second": size / (build - finish),
        "build_bytes_per_second": size / build,
        "memory_bytes": memory,
        # Files are divided over the cores; putting the parts together is one core's work.
        "pubmed_hours": {
            str(cores): CITATIONS / citations * ((build - finish) / cores + finish) / 3600 for cores in CORES
        },
    }


def repeat(records: Sequence[bytes], path: Path, size: float) -> int:
    """Write records again and again, under new PMIDs, until the file has `size` bytes; give how many."""
    numbers = count(1)
    with path.open("wb") as file:
        file.write(b'<?xml version="1.0" encoding="utf-8"?>\n<PubmedArticleSet>\n')
        while file.tell() < size:
            for record in records:
                renumbered = _PMID.sub(rb"\g<1>%d" % next(numbers), record, count=1)
                file.write(b"<PubmedArticle>\n" + renumbered + b"\n</PubmedArticle>\n")
        file.write(b"</PubmedArticleSet>\n")
    return next(numbers) - 1


def _content(file: Path) -> bytes:
    with gzip.open(file) if file.suffix == ".gz" else file.open("rb") as stream:
        return stream.read()


def _in_a_process(file: Path, job: str, tokenizer: str) -> dict[str, float]:
    command = [sys.executable, "-m", "benchmarks.corpus", str(file), "--tokenizer", tokenizer, "--job", job]
    found: dict[str, float] = json.loads(subprocess.run(command, stdout=subprocess.PIPE, check=True).stdout)
    return found


class _Clock:
    """Notes when the last source of a build was read."""

    def __init__(self) -> None:
        self.read = 0.0

    def step(self, stage: str, done: int, total: int) -> None:
        self.read = time.perf_counter()

    def note(self, sentence: str) -> None:
        pass


def _job(file: Path, job: str, tokenizer: str) -> dict[str, float]:
    before, began = peak_memory(), time.perf_counter()
    clock = _Clock()
    if job == "read":
        for _ in formats.read_citations(file):
            pass
    else:
        with TemporaryDirectory() as folder:
            corpus.build([file], Path(folder) / "corpus", tokenizer=tokenizer, listener=clock, workers=1)
    ended = time.perf_counter()
    return {"seconds": ended - began, "finish": ended - clock.read, "memory": peak_memory() - before}


def _text(result: dict[str, Any]) -> str:
    hours = ", ".join(f"{hours:,.1f} h on {cores} cores" for cores, hours in result["pubmed_hours"].items())
    memory = result["memory_bytes"]
    return (
        f"{result['processor']}, one core; {result['citations']:,} citations, {result['xml_bytes'] / 1e6:,.0f} MB XML\n"
        f"reading        {result['read_bytes_per_second'] / 1e6:8.1f} MB/s\n"
        f"to token rows  {result['rows_bytes_per_second'] / 1e6:8.1f} MB/s\n"
        f"whole build    {result['build_bytes_per_second'] / 1e6:8.1f} MB/s\n"
        f"memory         {memory['short'] / 1e6:8.0f} MB, of four times as much XML {memory['long'] / 1e6:,.0f} MB\n"
        f"PubMed         {CITATIONS:,} citations of {result['bytes_a_citation']:,.0f} bytes: {hours}\n"
    )


if __name__ == "__main__":
    main()
