"""A profile counts what a hand and a flop counter count, measures what it says, and sets it beside the baseline."""

import io
import json
import subprocess
import sys
from contextlib import redirect_stderr, redirect_stdout

import pytest
import torch
from safetensors.torch import save_file
from torch.utils.flop_counter import FlopCounterMode
from transformers import BartConfig, BertConfig, BertModel

from compactbio.cli import main
from compactbio.deploy import profile
from compactbio.deploy.profile import Conditions, Times, disk_bytes, flops_per_token, in_order, stored_parameters
from compactbio.errors import UserError
from compactbio.modeling import encoder_parameters
from compactbio.modeling.loading import find, weights_in
from compactbio.progress import Silent
from conftest import VOCABULARY, bert, distilbert, mobilebert

CONDITIONS = Conditions("a processor", "cpu", 1, "fp32", torch.__version__, 16, 48, 2)
FAMILIES = {"bert": bert, "distilbert": distilbert, "mobilebert": mobilebert}


@pytest.fixture(scope="module")
def folders(tmp_path_factory):
    """Two BERTs, of four layers and of two, half as wide."""
    large, small = tmp_path_factory.mktemp("models") / "large", tmp_path_factory.mktemp("models") / "small"
    bert(layers=4).save_pretrained(large)
    bert(layers=2, hidden=12).save_pretrained(small)
    return large, small


def command_line(*arguments: object) -> tuple[int, str, str]:
    """Run the command line in this process: arguments in, (status, stdout, stderr) out."""
    stdout, stderr = io.StringIO(), io.StringIO()
    with pytest.MonkeyPatch.context() as patch, redirect_stdout(stdout), redirect_stderr(stderr):
        patch.setattr(sys, "argv", ["compactbio", *map(str, arguments)])
        with pytest.raises(SystemExit) as leaving:
            main()
    return int(leaving.value.code or 0), stdout.getvalue(), stderr.getvalue()


@pytest.fixture(scope="module")
def printed(folders):
    """What `profile --json` prints of both, beside the second, and what it says meanwhile."""
    large, small = folders
    status, stdout, stderr = command_line("profile", small, large, "--baseline", large, "--json")
    assert status == 0, stderr
    return json.loads(stdout), stderr


def test_a_small_bert_is_counted_as_by_hand(tmp_path):
    width, inner, vocabulary, positions = 24, 48, len(VOCABULARY), 64
    bert(layers=3, hidden=width).save_pretrained(tmp_path)
    model = profile.load(find(str(tmp_path)), "fp32")
    embeddings = (vocabulary + positions + 2) * width + 2 * width
    layer = 4 * (width * width + width) + 2 * width * inner + inner + width + 2 * 2 * width
    head = width * width + width + 2 * width + vocabulary
    assert sum(p.numel() for p in model.embeddings.parameters()) == embeddings
    assert encoder_parameters(model) == embeddings + 3 * layer
    assert stored_parameters(weights_in(tmp_path)) == embeddings + 3 * layer + head
    assert flops_per_token(model, 10) == 3 * (2 * (4 * width * width + 2 * width * inner) + 4 * 10 * width)


def test_stored_parameters_add_up_over_shards_and_leave_indices_out(tmp_path):
    save_file({"a": torch.zeros(3, 5), "positions": torch.arange(7)}, tmp_path / "model-00001-of-00002.safetensors")
    save_file({"b": torch.zeros(4, dtype=torch.bfloat16)}, tmp_path / "model-00002-of-00002.safetensors")
    (tmp_path / "pytorch_model.bin").write_bytes(b"0" * 1000)
    assert stored_parameters(weights_in(tmp_path)) == 19
    assert disk_bytes(weights_in(tmp_path)) == sum(len(file.read_bytes()) for file in tmp_path.glob("*.safetensors"))


def test_weights_that_torch_saved_are_counted_as_those_in_safetensors(tmp_path):
    model = FAMILIES["bert"](layers=1)
    model.save_pretrained(tmp_path)
    wanted = stored_parameters(weights_in(tmp_path))
    (tmp_path / "model.safetensors").unlink()
    torch.save(model.state_dict(), tmp_path / "pytorch_model.bin")
    assert stored_parameters(weights_in(tmp_path)) == wanted


@pytest.mark.parametrize("family", FAMILIES)
def test_flops_are_those_that_torch_counts_in_a_forward_pass(family, tmp_path):
    FAMILIES[family](layers=3).save_pretrained(tmp_path)
    model = profile.load(find(str(tmp_path)), "fp32")
    model.set_attn_implementation("eager")
    sentences, length = 3, 20
    counter = FlopCounterMode(display=False)
    with counter, torch.no_grad():
        model(input_ids=torch.ones(sentences, length, dtype=torch.long))
    assert flops_per_token(model, length) * sentences * length == counter.get_total_flops()


def test_the_pooler_is_neither_run_nor_counted(tmp_path):
    shape = {"num_hidden_layers": 2, "hidden_size": 12, "num_attention_heads": 2, "intermediate_size": 24}
    BertModel(BertConfig(vocab_size=50, **shape)).save_pretrained(tmp_path)
    model = profile.load(find(str(tmp_path)), "fp32")
    assert sum(p.numel() for p in model.parameters()) == encoder_parameters(model)
    assert stored_parameters(weights_in(tmp_path)) == encoder_parameters(model) + 12 * 12 + 12


def test_weights_are_in_the_precision_that_is_named(folders):
    for precision, dtype in (("bf16", torch.bfloat16), ("fp32", torch.float32)):
        model = profile.load(find(str(folders[0])), precision)
        assert {weight.dtype for weight in model.parameters()} == {dtype} and not model.training


def test_a_batch_has_the_sentences_asked_for_and_is_the_same_each_time():
    first, second = (profile.random_batch(bert(vocab=90), 3, 7) for _ in range(2))
    assert first.lengths == [7, 7, 7] and torch.equal(first.input_ids, second.input_ids)
    assert int(first.input_ids.max()) < 90 and len(first.input_ids.unique()) > 10


@pytest.mark.parametrize("family", FAMILIES)
def test_every_family_is_timed_in_every_round(family):
    models = [FAMILIES[family](), bert(layers=1)]
    for times in profile.take_times(models, CONDITIONS, 3, Silent()):
        assert len(times.batch) == 3 and len(times.single) == 18 and min(times.batch) > 0
        assert 0 < times.seconds_per_sentence <= times.slow_sentence <= max(times.single)


def test_models_are_timed_in_turns():
    order: list[str] = []
    models = {"a": bert(layers=1), "b": bert(layers=1)}
    for name, model in models.items():
        model.base_model.register_forward_hook(lambda *_, name=name: order.append(name))
    profile.take_times(list(models.values()), CONDITIONS, 2, Silent())
    turns = "".join(name for i, name in enumerate(order) if i == 0 or order[i - 1] != name)
    assert turns == "ababab"


def test_medians_and_percentile_are_those_of_the_seconds_taken():
    times = Times(single=[float(i) for i in range(1, 101)], batch=[9.0, 1.0, 2.0])
    assert (times.seconds_per_sentence, times.seconds_per_batch) == (50.5, 2.0)
    assert times.slow_sentence == pytest.approx(95.05)


def test_memory_is_that_of_a_fresh_process_whatever_this_one_holds(tmp_path, monkeypatch):
    monkeypatch.setattr(profile, "subprocess", subprocess)
    bert(layers=1, hidden=120, vocab=100_000).save_pretrained(tmp_path)
    weights = disk_bytes(weights_in(tmp_path))
    held = torch.ones(200_000_000)
    taken = profile.peak_memory(find(str(tmp_path)), CONDITIONS)
    assert weights < taken < weights + held.nbytes / 4


def test_threads_are_set_within_and_given_back_after():
    before = torch.get_num_threads()
    with profile.torch_threads(before + 1):
        assert torch.get_num_threads() == before + 1
    assert torch.get_num_threads() == before


def test_the_command_prints_one_object_a_model_in_the_order_given(printed):
    rows, stderr = printed
    assert [(row["model"], row["layers"], row["hidden_size"]) for row in rows] == [("small", 2, 12), ("large", 4, 24)]
    for row in rows:
        assert (row["family"], row["heads"], row["baseline"]) == ("bert", 4, "large")
        assert row["embedding_parameters"] < row["encoder_parameters"] < row["parameters"] < row["disk_bytes"] / 4
        assert 0 < row["latency_ms"] <= row["latency_p95_ms"] and row["throughput_tokens_per_second"] > 0
        assert row["peak_memory_bytes"] > 0
        conditions = row["conditions"]
        assert (conditions["threads"], conditions["torch"]) == (torch.get_num_threads(), torch.__version__)
        # The tiny models have 64 positions, fewer than the 128 tokens of a sentence.
        assert (conditions["latency_tokens"], conditions["sentence_tokens"], conditions["sentences"]) == (32, 64, 8)
    assert "memory: 2 of 2" in stderr and "rounds: 5 of 5" in stderr


def test_ratios_are_the_figures_over_those_of_the_baseline(printed):
    small, large = printed[0]
    figures = {
        "parameters": "parameters",
        "disk": "disk_bytes",
        "flops": "flops_per_token",
        "latency": "latency_ms",
        "throughput": "throughput_tokens_per_second",
        "memory": "peak_memory_bytes",
    }
    assert set(large["ratios"].values()) == {1.0}
    assert small["ratios"] == {ratio: small[figure] / large[figure] for ratio, figure in figures.items()}
    assert small["ratios"]["flops"] < 1


def test_each_model_is_measured_once_and_a_foreign_baseline_first():
    assert in_order(["b", "a", "b"], None) == in_order(["b", "a"], "a") == ["b", "a"]
    assert in_order(["b", "a"], "c") == ["c", "b", "a"]
    with pytest.raises(UserError, match="at least one"):
        in_order([], "c")


def test_the_table_is_plain_text_with_the_machine_below(folders):
    status, stdout, stderr = command_line("profile", folders[1])
    assert status == 0 and "\x1b" not in stdout and "rounds: 5 of 5" in stderr
    assert "small" in stdout and stdout.count("1.00x") == 6
    machine = stdout.splitlines()[-1]
    assert machine.startswith("Machine: ") and torch.__version__ in machine


def test_what_a_user_can_fix_is_one_sentence(tmp_path):
    def refused(folder: object, *words: str) -> None:
        status, stdout, stderr = command_line("profile", folder)
        assert (status, stdout, len(stderr.strip().splitlines())) == (2, "", 1), stderr
        assert all(word in stderr for word in words), stderr

    (tmp_path / "empty").mkdir()
    BartConfig().save_pretrained(tmp_path / "bart")
    bert(layers=1).save_pretrained(tmp_path / "damaged")
    (tmp_path / "damaged" / "model.safetensors").write_bytes(b"no weights")
    bert(layers=1).save_pretrained(tmp_path / "deeper")
    config = json.loads((tmp_path / "deeper" / "config.json").read_text())
    (tmp_path / "deeper" / "config.json").write_text(json.dumps({**config, "num_hidden_layers": 2}))
    bert(layers=1).save_pretrained(tmp_path / "pickled")
    (tmp_path / "pickled" / "model.safetensors").rename(tmp_path / "pickled" / "pytorch_model.bin")
    refused(tmp_path / "nowhere", "nowhere", "no such model folder")
    refused(tmp_path / "empty", "empty", "config.json")
    refused(tmp_path / "bart", "bart", "a decoder beside its encoder")
    refused(tmp_path / "damaged", "damaged", "cannot be read")
    refused(tmp_path / "deeper", "deeper", "weights that are not there")
    refused(tmp_path / "pickled", "pickled", "safetensors")
