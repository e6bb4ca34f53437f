"""The benchmarks run, and what they compare is the same loss; how fast is not tested."""

import json
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from benchmarks import corpus, lengths, paired, training
from benchmarks.baseline import Baseline
from benchmarks.training import RECIPES, Job, flops, models, padded, rows

import forked
from citation_files import article_set, deletion, record
from compactbio.modeling.hardware import has_bf16
from compactbio.objectives import Distiller

ROOT = Path(__file__).parents[1]


@pytest.mark.parametrize("recipe", RECIPES)
def test_baseline_and_ours_compute_one_loss_and_one_gradient(recipe):
    job = Job(recipe, "baseline", citations=5, steps=1, small=True)
    chosen, teacher, student = models(job)
    reads = teacher if chosen.kind == "distil" else None
    ours = Distiller(student, reads, chosen).eval()
    batch = padded(rows(job, teacher.config.vocab_size)[:5])
    loss = ours(*batch).loss
    loss.backward()
    found = {name: p.grad.clone() for name, p in ours.named_parameters() if p.grad is not None}
    ours.zero_grad()
    plain = Baseline(student, reads, chosen, ours.projection).eval()
    wanted = plain(*batch)
    wanted.backward()
    assert loss.item() == pytest.approx(wanted.item(), rel=1e-5)
    for name, p in plain.named_parameters():
        if p.grad is not None:
            torch.testing.assert_close(found[name], p.grad, rtol=1e-3, atol=1e-5, msg=name)


@pytest.fixture
def forks(monkeypatch):
    """The processes of the benchmarks are forked."""
    monkeypatch.setenv("PYTHONPATH", f"{ROOT}{os.pathsep}{os.environ.get('PYTHONPATH', '')}")
    for module in (corpus, training):
        monkeypatch.setattr(module, "subprocess", forked)


SMALL = ("--small", "--steps", "1", "--rounds", "1", "--recipe", "tiny-biobert", "--citations", "4")


@pytest.mark.slow
def test_the_command_prints_ratios_of_each_recipe_and_precision(capsys, forks):
    training.main([*SMALL, "--json"])
    result = json.loads(capsys.readouterr().out)
    precisions = ["fp32", "bf16"] if has_bf16() else ["fp32"]
    rows = [row for row in result["rows"] if "not_run" not in row]
    assert [(row["recipe"], row["precision"]) for row in rows] == [("tiny-biobert", one) for one in precisions]
    assert list(result["machine"]["matrix_gflops"]) == precisions
    for row in rows:
        assert row["ratio"] == pytest.approx(row["tokens_per_second"] / row["baseline_tokens_per_second"])
        used = row["tokens_per_second"] * row["flops_per_token"] / 1e9
        assert row["share_of_matrix_rate"] == pytest.approx(used / result["machine"]["matrix_gflops"][row["precision"]])
        assert min(row["memory_bytes"], row["baseline_memory_bytes"]) > 1e5


@pytest.mark.parametrize("form", [["--json"], []])
def test_bf16_is_not_run_and_said_so_where_the_processor_has_none(form, capsys, monkeypatch):
    ran = []
    monkeypatch.setattr(training, "has_bf16", lambda: False)
    monkeypatch.setattr(training, "_in_a_process", lambda job: ran.append(job.variant) or training.measure(job))
    training.main([*SMALL, *form, "--ablate"])
    printed, messages = capsys.readouterr()
    assert ran == ["baseline", "fp32"] and "--ablate, not run: this processor has no bf16" in messages
    if not form:
        assert re.search(r"^tiny-biobert +bf16 +not run: this processor has no bf16$", printed, re.MULTILINE)
        return
    fp32, bf16 = json.loads(printed)["rows"]
    assert fp32["precision"] == "fp32" and fp32["ratio"] > 0
    assert (bf16["precision"], bf16["ratio"], bf16["not_run"]) == ("bf16", None, "not run: this processor has no bf16")


def test_arithmetic_is_what_the_design_counts():
    """DESIGN of the benchmark: about 455 MFLOP a token for distil-biobert at BioBERT's size."""
    a_token = flops(Job("distil-biobert", "bf16", citations=8, steps=3, small=False))
    assert a_token == pytest.approx(455e6, rel=0.05)


def test_lengths_follow_the_histogram():
    drawn = lengths.draw(5000)
    assert (min(drawn), max(drawn)) == (3, 256)
    share = lengths.HISTOGRAM[256] / sum(lengths.HISTOGRAM.values())
    assert sum(length == 256 for length in drawn) / 5000 == pytest.approx(share, abs=0.02)
    assert max(lengths.draw(50, longest=32)) == 32


@pytest.mark.slow
def test_corpus_rates_memory_and_what_pubmed_would_take(tmp_path, tokenizer_folder, capsys, forks):
    source = tmp_path / "made.xml"
    source.write_text(article_set(record(1), record(2), deletion(3)))
    arguments = [str(source), "--tokenizer", str(tokenizer_folder), "--json", "--megabytes", "0.05", "--rounds", "1"]
    corpus.main(arguments)
    result = json.loads(capsys.readouterr().out)
    assert result["citations"] > 100 and result["xml_bytes"] > 50_000
    # How fast is the machine's affair; the figures belong together.
    assert result["bytes_a_citation"] == result["xml_bytes"] / result["citations"]
    assert result["rows_bytes_per_second"] > result["build_bytes_per_second"]
    hours = list(result["pubmed_hours"].values())
    assert hours == sorted(hours, reverse=True) and hours[-1] > 0


@pytest.mark.slow
def test_inference_is_compared_with_the_pipeline(forks):
    command = [sys.executable, "-m", "benchmarks.inference", "--small", "--json", "--sentences", "8", "--rounds", "1"]
    result = json.loads(forked.run(command, stdout=subprocess.PIPE, check=True).stdout)
    speeds = result["tokens_per_second"]
    assert {"torch-fp32", "onnx-fp32", "onnx-int8", "pipeline, batch 1", "pipeline, batch 8"} <= set(speeds)
    assert result["ratio_to_pipeline"] == pytest.approx(speeds[result["fastest_runtime"]] / speeds["pipeline, batch 1"])
    batched = speeds[result["best_pipeline_batch"]]
    assert result["ratio_to_batched_pipeline"] == pytest.approx(speeds[result["fastest_runtime"]] / batched)


@pytest.mark.slow
@pytest.mark.skipif(shutil.which("wrk") is None, reason="wrk, the load generator, is not installed")
def test_the_server_is_compared_with_the_annotator():
    command = [sys.executable, "-m", "benchmarks.serving", "--json", "--seconds", "1", "--rounds", "1"]
    command += ["--texts", "50"]
    result = json.loads(subprocess.run([*command, "--runtime", "torch-fp32"], cwd=ROOT, stdout=subprocess.PIPE).stdout)
    assert result["errors"] == 0 and result["requests"] > 10 and 0 < result["p99_seconds"] < 60
    assert 13e6 < result["parameters"] < 15e6 and result["share_of_offline"] > 0


def test_groups_of_runs_are_compared_over_data_sets(tmp_path, capsys):
    rng = np.random.default_rng(0)

    def runs(name, right, count):
        made = []
        for number in range(count):
            units = [[int(hit), int(not hit), int(not hit)] for hit in rng.random(200) < right]
            record = {"statistic": "f1", "units": units, "data": {"name": name, "split": "devel", "sha256": name * 20}}
            made.append(tmp_path / f"{name}-{right}-{number}.json")
            made[-1].write_text(json.dumps(record))
        return made

    good, bad = [*runs("one", 0.9, 3), *runs("two", 0.8, 1)], [*runs("one", 0.5, 1), *runs("two", 0.7, 2)]
    paired.main([*map(str, good), "--against", *map(str, bad)])
    *scores, difference = capsys.readouterr().out.splitlines()
    assert len(scores) == 4 and scores[0].startswith("A one, devel") and "runs: 3" in scores[0]
    means = [float(line.rsplit(": ", 1)[1].split()[0]) for line in scores]
    assert float(difference.split(": ")[1].split()[0]) == pytest.approx(
        (means[0] + means[2] - means[1] - means[3]) / 2, abs=0.011
    )
    assert "p = 0.00" in difference
    with pytest.raises(SystemExit):
        paired.main([str(good[0]), "--against", str(bad[1])])
    assert "Only one group was scored on one, devel; two, devel" in capsys.readouterr().err
