"""Serving speed: `python -m benchmarks.serving` loads the server with wrk and compares it with the annotator offline.

A NER model of 14 million parameters with random weights, one sentence a request, concurrent clients on this machine.
wrk (a load generator in C) must be installed.
"""

import argparse
import json
import os
import re
import shutil
import signal
import statistics
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import torch
from transformers import AutoModelForTokenClassification, AutoTokenizer

from benchmarks import tagger
from compactbio import Annotator
from compactbio.deploy.onnx_programs import Quantiser, program_of
from compactbio.modeling import runtimes
from compactbio.processes import processor

_SHAPE = {"layers": 4, "width": 312, "inner": 1200}
_SCRIPT = """
local bodies = {}
for line in io.lines("%s") do bodies[#bodies + 1] = line end
local at = 0
request = function()
  at = at %% #bodies + 1
  return wrk.format("POST", "/v1/annotate", {["Content-Type"] = "application/json"}, bodies[at])
end
done = function(summary, latency)
  local errors = summary.errors
  io.write(string.format("RESULT %%d %%d %%f %%d %%d\\n", summary.requests, summary.duration, latency:percentile(99),
    errors.status, errors.connect + errors.read + errors.write + errors.timeout))
end
"""


def main(arguments: Sequence[str] | None = None) -> None:
    """Measure, and print it."""
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.serving", description=__doc__, epilog="Example: python -m benchmarks.serving --json"
    )
    parser.add_argument("--clients", type=int, default=32, help="concurrent connections (32)")
    parser.add_argument("--seconds", type=int, default=20, help="seconds of load a round (20)")
    parser.add_argument("--rounds", type=int, default=3, help="rounds of load; the median counts (3)")
    parser.add_argument("--texts", type=int, default=2000, help="different sentences (2,000)")
    parser.add_argument("--runtime", choices=runtimes.NAMES, default="onnx-int8", help="(onnx-int8)")
    parser.add_argument("--json", action="store_true", help="print one JSON object")
    options = parser.parse_args(arguments)
    if shutil.which("wrk") is None:
        raise SystemExit("wrk is not installed: install it from your system's packages.")
    with TemporaryDirectory() as folder:
        result = measure(Path(folder), options)
    sys.stdout.write(json.dumps(result, indent=2) + "\n" if options.json else _text(result))


def measure(folder: Path, options: argparse.Namespace) -> dict[str, Any]:
    """Requests a second, latency and memory of the server, beside the offline rate on the same texts."""
    model = folder / "model"
    tagger.write(model, **_SHAPE)
    loaded = AutoModelForTokenClassification.from_pretrained(model).eval()
    if options.runtime == "onnx-int8":
        Quantiser(program_of(loaded, "ner"), loaded, "ner", model).make(per_channel=True)
    texts = tagger.sentences(options.texts)
    tokens = sum(len(ids) for ids in AutoTokenizer.from_pretrained(model)(texts)["input_ids"]) / len(texts)
    offline = _offline(model, options.runtime, texts)
    bodies = folder / "bodies.jsonl"
    bodies.write_text("".join(json.dumps({"text": text}) + "\n" for text in texts))
    script = folder / "load.lua"
    script.write_text(_SCRIPT % bodies)
    server, port = _started(model, options.runtime)
    try:
        _load(script, port, options.clients, min(5, options.seconds))
        first = _resident(server.pid)
        runs = [_load(script, port, options.clients, options.seconds) for _ in range(options.rounds)]
        last = _resident(server.pid)
    finally:
        server.send_signal(signal.SIGTERM)
        server.wait()
    rate = statistics.median(requests / seconds for requests, seconds, *_ in runs)
    return {
        "machine": {"processor": processor(), "threads": torch.get_num_threads()},
        "parameters": sum(p.numel() for p in loaded.parameters()),
        "runtime": options.runtime,
        "tokens_a_request": tokens,
        "clients": options.clients,
        "requests": sum(run[0] for run in runs),
        "requests_per_second": rate,
        "offline_texts_per_second": offline,
        "share_of_offline": rate / offline,
        "p99_seconds": max(run[2] for run in runs),
        "errors": sum(run[3] + run[4] for run in runs),
        "memory_bytes": {"after first load": first, "at the end": last},
    }


def _offline(model: Path, runtime: str, texts: Sequence[str]) -> float:
    annotator = Annotator.from_pretrained(model, runtime=runtime)
    annotator(texts)
    taken = []
    for _ in range(3):
        began = time.perf_counter()
        annotator(texts)
        taken.append(time.perf_counter() - began)
    return len(texts) / statistics.median(taken)


def _started(model: Path, runtime: str) -> tuple[subprocess.Popen[str], int]:
    command = [sys.executable, "-m", "compactbio", "serve", str(model), "--port", "0", "--runtime", runtime]
    server = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True)
    assert server.stderr is not None
    for line in server.stderr:
        if found := re.search(r"http://127\.0\.0\.1:(\d+)", line):
            return server, int(found[1])
    raise SystemExit("The server did not start.")


def _load(script: Path, port: int, clients: int, seconds: int) -> tuple[int, float, float, int, int]:
    """Requests, seconds, p99 in seconds, answers with an error, connections that failed."""
    command = ["wrk", "-t1", f"-c{clients}", f"-d{seconds}s", "-s", str(script), f"http://127.0.0.1:{port}"]
    said = subprocess.run(command, capture_output=True, text=True, check=True, env=os.environ).stdout
    found = re.search(r"RESULT (\d+) (\d+) (\S+) (\d+) (\d+)", said)
    assert found is not None, said
    return int(found[1]), int(found[2]) / 1e6, float(found[3]) / 1e6, int(found[4]), int(found[5])


def _resident(process: int) -> int:
    found = re.search(r"VmRSS:\s*(\d+) kB", Path(f"/proc/{process}/status").read_text())
    assert found is not None
    return int(found[1]) * 1024


def _text(result: dict[str, Any]) -> str:
    machine, memory = result["machine"], result["memory_bytes"]
    return (
        f"{machine['processor']}, {machine['threads']} threads; {result['parameters'] / 1e6:.1f} M parameters, "
        f"{result['runtime']}, {result['tokens_a_request']:.1f} tokens a request, {result['clients']} clients\n"
        f"server   {result['requests_per_second']:8,.0f} requests/s, {result['share_of_offline']:.0%} of offline\n"
        f"offline  {result['offline_texts_per_second']:8,.0f} texts/s\n"
        f"p99      {1000 * result['p99_seconds']:8,.0f} ms\n"
        f"errors   {result['errors']:8,} in {result['requests']:,} requests\n"
        f"memory   {', '.join(f'{size / 1e6:,.0f} MB {when}' for when, size in memory.items())}\n"
    )


if __name__ == "__main__":
    main()
