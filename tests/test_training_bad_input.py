"""Whatever a user gets wrong in training is one sentence, exit status 2, and nothing lost."""

import json
import multiprocessing
import os
import shutil
import socket
import subprocess
import threading
import time
from pathlib import Path

import pytest
from transformers import BertConfig, BertModel

import small_models
from compactbio import corpus, recipes
from compactbio.errors import UserError
from compactbio.training import pretraining, run_folder
from compactbio.training.pretraining import train
from conftest import bert, command, one_sentence


@pytest.fixture
def begin(cli, token_corpus, teacher_folder, tmp_path):
    """Train on the command line, with arguments that are right where none are given."""

    def run(*more: object, name: str = "distil-biobert", out: Path = tmp_path / "run", teacher: object = None):
        return cli(*command(out, token_corpus, teacher or teacher_folder, *map(str, more), name=name)[3:])

    return run


def test_a_right_command_is_right(begin):
    status, stdout, _ = begin("--steps", 2, "--json")
    assert status == 0 and json.loads(stdout)["state"] == "finished"
    status, stdout, _ = begin("--steps", 2, "--json")
    assert status == 0 and json.loads(stdout)["state"] == "already finished"


@pytest.mark.parametrize("layer_map", ["last", "[0,3]"])
def test_a_layer_map_can_be_set(begin, layer_map):
    status, _, messages = begin("--steps", 1, "--set", f"layer_map={layer_map}")
    assert status == 0, messages


def test_unknown_recipe_key_and_option(begin, cli):
    one_sentence(begin(name="distil-biobort"), "'distil-biobert'")
    one_sentence(begin("--set", "lerning_rate=1"), "'learning_rate'")
    one_sentence(begin("--set", "steps"), "key=value")
    one_sentence(begin("--set", "loss.mlm=2", "--set", "loss=3"), "loss")
    status, _, stderr = cli("train", "distil-biobert", "--corpsu", "x")
    assert status == 2 and "Traceback" not in stderr


def test_folders_that_are_no_model_or_corpus(begin, cli, teacher_folder, tmp_path):
    (tmp_path / "empty").mkdir()
    one_sentence(begin(teacher=tmp_path / "nowhere"), "nowhere", "no such")
    one_sentence(begin(teacher=tmp_path / "empty"), "config.json")
    arguments = ("train", "distil-biobert", "--out", tmp_path / "run", "--teacher", teacher_folder)
    one_sentence(cli(*arguments, "--corpus", tmp_path / "empty"), "empty")
    assert not (tmp_path / "run").exists()


def test_a_teacher_whose_weights_are_cut_off(begin, teacher_folder, tmp_path):
    folder = shutil.copytree(teacher_folder, tmp_path / "cut")
    weights = (folder / "model.safetensors").read_bytes()
    (folder / "model.safetensors").write_bytes(weights[: len(weights) // 2])
    one_sentence(begin(teacher=folder), "weights cannot be read")


def test_a_teacher_whose_configuration_promises_more_layers_than_there_are(begin, teacher_folder, tmp_path):
    folder = shutil.copytree(teacher_folder, tmp_path / "deep")
    config = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps({**config, "num_hidden_layers": 8}))
    one_sentence(begin(teacher=folder), "weights that are not there", "64 in all")


def test_a_teacher_whose_mlm_head_is_not_known(begin, tmp_path):
    teacher = small_models.save("rembert", "mlm", tmp_path / "rembert")
    one_sentence(begin(teacher=teacher), "'rembert', whose MLM head compactbio does not know", "modernbert")


def test_a_teacher_without_an_mlm_head_is_refused_and_can_be_adapted(begin, cli, token_corpus, tmp_path):
    config = BertConfig(**{**bert().config.to_dict(), "architectures": None})
    BertModel(config).save_pretrained(tmp_path / "headless")
    corpus.tokenizer(token_corpus).save_pretrained(tmp_path / "headless")
    one_sentence(begin(teacher=tmp_path / "headless"), "no MLM head", "as its init", "--teacher")
    adapted = train(
        recipes.load("bio-tinybert", steps=2, batch_size=4), token_corpus, tmp_path / "adapted",
        init=str(tmp_path / "headless"),
    )  # fmt: skip
    assert adapted.state == "finished"
    assert begin("--steps", 1, teacher=tmp_path / "adapted")[0] == 0


def test_what_differs_from_the_run_in_a_folder_is_named():
    known = {"teachers": [{"name": "a", "runtime": "torch-fp32"}], "labels": ["B", "I"]}
    wanted = {"teachers": [{"name": "a", "runtime": "torch-bf16"}], "labels": ["B", "O"]}
    found = run_folder._different(known, wanted, ["teachers", "labels"])
    assert found == "other teachers (runtime 'torch-fp32', not 'torch-bf16') and other labels"
    found = run_folder._different(
        {"settings": {"seed": 0, "distil_weight": 0.5}}, {"settings": {"seed": 0}}, ["settings"]
    )
    assert found == "other settings (distil_weight 0.5, not None)"
    found = run_folder._different({"data": {"train": "ab" * 32}}, {"data": {"train": "cd" * 32}}, ["data"])
    assert found == "other data (train abababababab, not cdcdcdcdcdcd)"


def test_a_run_from_before_recipes_had_head_steps_is_the_same_run(begin, tmp_path):
    assert begin("--steps", 2)[0] == 0
    path = tmp_path / "run" / "run.json"
    record = json.loads(path.read_text())
    record["identity"]["recipe"].pop("head_steps", None)
    path.write_text(json.dumps(record))
    status, printed, _ = begin("--steps", 2, "--json")
    assert status == 0 and json.loads(printed)["state"] == "already finished"


def test_a_hub_name_while_offline_is_refused_and_nobody_is_asked(begin, monkeypatch):
    asked = []
    monkeypatch.setattr(socket.socket, "connect", lambda self, address: asked.append(address))
    one_sentence(begin(teacher="dmis-lab/biobert-base-cased-v1.2"), "HF_HUB_OFFLINE", "local folder")
    assert asked == []


def test_a_hub_out_of_reach_is_refused_before_its_library_tries_again_and_again(token_corpus, tmp_path):
    with socket.socket() as closed:
        closed.bind(("127.0.0.1", 0))  # bound but not listening: every connection is refused
        port = closed.getsockname()[1]
        environment = {key: value for key, value in os.environ.items() if not key.lower().endswith("_proxy")}
        environment |= {
            "HF_HUB_OFFLINE": "0",
            "HF_ENDPOINT": f"http://127.0.0.1:{port}",
            "HF_HOME": str(tmp_path / "hf"),
        }
        run = subprocess.run(
            command(tmp_path / "run", token_corpus, Path("owner/name")), env=environment, capture_output=True, text=True
        )
    assert run.returncode == 2 and "out of reach" in run.stderr.splitlines()[-1]
    assert "retry" not in run.stderr.lower()


def test_another_vocabulary_than_the_teachers(begin, tmp_path):
    other = bert(layers=4, vocab=40)
    other.save_pretrained(tmp_path / "other")
    one_sentence(begin(teacher=tmp_path / "other"), "40", "with the tokenizer of")
    bert(layers=4).save_pretrained(tmp_path / "other")
    vocabulary = tmp_path / "vocab.txt"
    vocabulary.write_text("[PAD]\n[UNK]\n[CLS]\n[SEP]\n[MASK]\nother\n")
    shutil.copy(vocabulary, tmp_path / "other" / "vocab.txt")
    one_sentence(begin(teacher=tmp_path / "other"), "another tokenizer", "vocabulary", "with the tokenizer of")


def test_a_teacher_that_lowers_case_on_a_corpus_that_keeps_it(begin, teacher_folder, tmp_path):
    folder = shutil.copytree(teacher_folder, tmp_path / "cased")
    config = json.loads((folder / "tokenizer_config.json").read_text())
    (folder / "tokenizer_config.json").write_text(json.dumps({**config, "do_lower_case": False}))
    one_sentence(begin(teacher=folder), "another tokenizer", "normalizer", "the corpus's lowers case", "tokenizer of")
    for file in ("tokenizer.json", "tokenizer_config.json"):
        (folder / file).unlink()
    one_sentence(begin(teacher=folder), "no tokenizer")


def test_depths_and_lengths_that_do_not_fit(begin, token_corpus, teacher_folder, tmp_path):
    one_sentence(begin("--set", "layers=5"), "deeper than its teacher of 4", "at most 4", "layer_map")
    one_sentence(begin("--set", "layer_map=[0,1,2]"), "3 layers for a student of 2")
    one_sentence(begin("--set", "layer_map=[0,4]"), "0 to 3")
    with pytest.raises(UserError, match="max_length 16"):
        train(recipes.load("distil-biobert", max_length=16), token_corpus, tmp_path / "a", teacher=str(teacher_folder))
    short = bert(layers=4)
    short.config.max_position_embeddings = 20
    short.save_pretrained(tmp_path / "short")
    one_sentence(begin(teacher=tmp_path / "short"), "20 positions", "max_length 20")


def test_held_out_rows_without_a_masked_piece_choose_no_student(begin, cli, token_corpus, teacher_folder, tmp_path):
    said = ("No piece of the 10 held-out rows is masked", "more held-out rows", "--corpus")
    one_sentence(begin("--set", "mlm_probability=1e-9"), *said)
    assert not (tmp_path / "run" / "model.safetensors").exists()
    arguments = ("--corpus", token_corpus, "--teacher", teacher_folder, "--set", "mlm_probability=1e-9")
    one_sentence(cli("plan", "distil-biobert", *arguments, "--set", "layers=2", "--set", "max_length=32"), *said)


def test_teacher_and_init_where_the_recipe_has_no_use_for_them(begin, cli, token_corpus, teacher_folder, tmp_path):
    one_sentence(begin("--init", teacher_folder), "--init")
    one_sentence(begin(name="bio-tinybert"), *["--teacher"])


def test_a_name_from_an_unset_variable_is_not_the_recipes_own(begin, cli, token_corpus, tmp_path):
    one_sentence(begin("--teacher", ""), "name of a model is empty")
    arguments = ("train", "bio-distilbert-uncased", "--corpus", token_corpus, "--out", tmp_path / "other")
    one_sentence(cli(*arguments, "--init", ""), "name of a model is empty")
    one_sentence(begin("--public"), "--public goes with --push")


def test_a_run_that_was_refused_before_its_first_step_can_be_begun_otherwise(begin):
    one_sentence(begin("--set", "layers=5"), "at most 4")
    assert begin("--steps", 1)[0] == 0


def test_resume_with_nothing_to_resume(begin):
    one_sentence(begin("--resume"), "no run to resume")


def test_an_out_that_holds_something_else(begin, tmp_path):
    (tmp_path / "run").mkdir()
    (tmp_path / "run" / "thesis.tex").write_text("mine")
    one_sentence(begin(), "not empty")
    for foreign in ("{}", "no json"):
        (tmp_path / "run" / "run.json").write_text(foreign)
        one_sentence(begin(), "not a record of compactbio")
    assert (tmp_path / "run" / "thesis.tex").read_text() == "mine"


def test_resuming_with_another_recipe_corpus_or_teacher(
    begin, cli, token_corpus, teacher_folder, tokenizer_folder, tmp_path
):
    assert begin("--steps", 2)[0] == 0
    record = tmp_path / "run" / "run.json"
    record.write_text(json.dumps({**json.loads(record.read_text()), "result": None}))
    one_sentence(begin("--steps", 2), "unfinished", "--resume")
    one_sentence(begin("--steps", 3, "--resume"), "another recipe", "steps 2, not 3")
    other = shutil.copytree(teacher_folder, tmp_path / "other")
    bert(layers=4, seed=9).save_pretrained(other)
    one_sentence(begin("--steps", 2, "--resume", teacher=other), "another teacher")
    source = tmp_path / "more.jsonl"
    source.write_text('{"abstract": "aspirin for patients"}\n{"abstract": "insulin for mouse"}\n')
    corpus.build([source], tmp_path / "corpus", tokenizer=tokenizer_folder, max_length=32, workers=1)
    settings = command(tmp_path / "run", tmp_path / "corpus", teacher_folder, "--steps", "2", "--resume")[3:]
    one_sentence(cli(*settings), "another corpus")
    assert begin("--steps", 2, "--resume")[0] == 0


def test_a_loss_that_is_not_a_number_stops_and_keeps_the_last_good_checkpoint(begin, tmp_path):
    outcome = begin("--steps", 30, "--set", "learning_rate=1e18", "--set", "warmup_steps=20", "--set", "save_every=1")
    status, stdout, stderr = outcome
    assert (status, stdout) == (2, "")
    last = stderr.strip().splitlines()[-1]
    assert "not finite at step" in last
    step = int(last.split("at step ")[1].split(";")[0])
    saved = sorted(int(p.name.split("-")[1]) for p in (tmp_path / "run" / "checkpoints").glob("checkpoint-*"))
    assert saved and saved[-1] < step


@pytest.fixture
def small_disk(tmp_path):
    """A file system of 256 kilobytes."""
    place = tmp_path / "disk"
    place.mkdir()
    mounted = subprocess.run(["mount", "-t", "tmpfs", "-o", "size=256k", "tmpfs", str(place)], capture_output=True)
    if mounted.returncode:
        pytest.skip("no right to mount a small file system")
    yield place
    subprocess.run(["umount", str(place)], check=True)


def test_no_space_left_while_training(begin, small_disk):
    status, stdout, stderr = begin("--steps", 40, "--set", "save_every=2", out=small_disk / "run")
    assert (status, stdout) == (2, "") and "Traceback" not in stderr
    assert "no space is left" in stderr.splitlines()[-1]


def test_no_space_left_while_building_a_corpus(cli, small_disk, tokenizer_folder, tmp_path):
    source = tmp_path / "long.txt"
    source.write_text("".join(f"aspirin {i} for patients {'study ' * 200}\n" for i in range(20_000)))
    outcome = cli("corpus", "build", source, "--tokenizer", tokenizer_folder, "--out", small_disk / "corpus")
    assert outcome[0] == 2 and "no space is left" in outcome[2].splitlines()[-1]
    assert not (small_disk / "corpus" / "manifest.json").exists()


def test_no_right_to_write(begin):
    # /sys refuses a new folder to everyone, the superuser too.
    if not Path("/sys/kernel").exists():
        pytest.skip("no /sys here")
    one_sentence(begin(out=Path("/sys/compactbio-run")), "/sys/compactbio-run", "no permission")


def test_help_shows_an_example_for_every_command(cli):
    for names in (["train"], ["demo"], ["recipes"], ["recipes", "show"], ["corpus", "build"], ["corpus", "stats"]):
        status, stdout, _ = cli(*names, "--help")
        assert status == 0 and "Example: compactbio" in " ".join(stdout.split())


def test_recipes_are_listed_and_shown(cli):
    status, stdout, _ = cli("recipes", "--json")
    listed = json.loads(stdout)
    assert status == 0 and [row["name"] for row in listed] == recipes.names()
    status, stdout, _ = cli("recipes", "show", "tiny-biobert")
    assert (status, stdout) == (0, recipes.text("tiny-biobert"))
    status, stdout, _ = cli("recipes")
    assert status == 0 and "bio-mobilebert" in stdout


def test_a_model_is_not_shared_among_devices_by_the_launcher(cli, token_corpus, teacher_folder, tmp_path, monkeypatch):
    monkeypatch.setenv("ACCELERATE_USE_FSDP", "true")
    line = command(tmp_path / "out", token_corpus, teacher_folder, "--steps", "1")[3:]
    one_sentence(cli(*line), "ACCELERATE_USE_FSDP is set", "--multi_gpu", "torchrun")


def test_a_process_that_prepares_batches_and_is_killed(begin, monkeypatch):
    made = pretraining.arguments_for

    def arguments(*given, **more):
        made_here = made(*given, **more)
        made_here.dataloader_num_workers = 1  # as on a GPU
        return made_here

    def kill():
        while not (children := multiprocessing.active_children()):
            time.sleep(0.01)
        children[0].kill()

    monkeypatch.setattr(pretraining, "arguments_for", arguments)
    threading.Thread(target=kill, daemon=True).start()
    status, _, stderr = begin("--steps", 500)
    [*_, sentence] = stderr.splitlines()
    assert status == 2 and "Traceback" not in stderr
    assert sentence.startswith("A process that prepares batches ended") and "--resume" in sentence
