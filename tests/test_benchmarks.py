"""The benchmarks run, and what they compare is the same loss; how fast is not tested."""

import json
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from benchmarks import lengths
from benchmarks.baseline import Baseline
from benchmarks.training import RECIPES, Job, flops, models, padded, rows

from citation_files import article_set, deletion, record
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


def test_the_command_prints_ratios_of_each_recipe_and_precision():
    command = [sys.executable, "-m", "benchmarks.training", "--small", "--json", "--steps", "1", "--rounds", "1"]
    command += ["--recipe", "tiny-biobert", "--citations", "4"]
    result = json.loads(subprocess.run(command, cwd=ROOT, stdout=subprocess.PIPE, check=True).stdout)
    assert [(row["recipe"], row["precision"]) for row in result["rows"]] == [
        ("tiny-biobert", "fp32"),
        ("tiny-biobert", "bf16"),
    ]
    for row in result["rows"]:
        assert row["ratio"] == pytest.approx(row["tokens_per_second"] / row["baseline_tokens_per_second"])
        assert row["memory_bytes"] > 0 and row["share_of_matrix_rate"] > 0


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


def test_corpus_rates_memory_and_what_pubmed_would_take(tmp_path, tokenizer_folder):
    source = tmp_path / "made.xml"
    source.write_text(article_set(record(1), record(2), deletion(3)))
    command = [sys.executable, "-m", "benchmarks.corpus", source, "--tokenizer", tokenizer_folder, "--json"]
    command += ["--megabytes", "0.05", "--rounds", "1"]
    result = json.loads(subprocess.run(command, cwd=ROOT, stdout=subprocess.PIPE, check=True).stdout)
    assert result["citations"] > 100 and result["xml_bytes"] > 50_000
    assert result["read_bytes_per_second"] > result["build_bytes_per_second"] > 0
    hours = list(result["pubmed_hours"].values())
    assert hours == sorted(hours, reverse=True) and hours[-1] > 0


def test_inference_is_compared_with_the_pipeline():
    command = [sys.executable, "-m", "benchmarks.inference", "--small", "--json", "--sentences", "8", "--rounds", "1"]
    result = json.loads(subprocess.run(command, cwd=ROOT, stdout=subprocess.PIPE, check=True).stdout)
    speeds = result["tokens_per_second"]
    assert {"torch-fp32", "onnx-fp32", "onnx-int8", "pipeline, batch 1", "pipeline, batch 8"} <= set(speeds)
    assert result["ratio_to_pipeline"] == pytest.approx(speeds[result["fastest_runtime"]] / speeds["pipeline, batch 1"])
    assert result["ratio_to_batched_pipeline"] > 0


@pytest.mark.slow
@pytest.mark.skipif(shutil.which("wrk") is None, reason="wrk, the load generator, is not installed")
def test_the_server_is_compared_with_the_annotator():
    command = [sys.executable, "-m", "benchmarks.serving", "--json", "--seconds", "1", "--rounds", "1"]
    command += ["--texts", "50"]
    result = json.loads(subprocess.run([*command, "--runtime", "torch-fp32"], cwd=ROOT, stdout=subprocess.PIPE).stdout)
    assert result["errors"] == 0 and result["requests"] > 10 and 0 < result["p99_seconds"] < 60
    assert 13e6 < result["parameters"] < 15e6 and result["share_of_offline"] > 0
