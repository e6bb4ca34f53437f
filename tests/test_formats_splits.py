"""The files of a data set are told by their names, and what is not clear is said."""

import pytest

from annotated_files import pair, put
from compactbio.errors import UserError
from compactbio.formats.sources import find_texts, folds, splits


def test_splits_are_recognised_by_names(tmp_path):
    for name in ("NCBItrainset.TXT", "my.Valid.tsv", "test.tsv.gz", "7B_golden.json", "train_dev.tsv", "README.md"):
        put(tmp_path, "x", name)
    put(tmp_path, "", "devel.tsv")
    put(tmp_path, "x", ".train.tsv.partial")
    assert splits(tmp_path) == {
        "train": tmp_path / "NCBItrainset.TXT",
        "devel": tmp_path / "my.Valid.tsv",
        "test": tmp_path / "test.tsv.gz",
        "gold": tmp_path / "7B_golden.json",
    }


def test_brat_folders_are_splits(tmp_path):
    pair(tmp_path / "train", "Zinc.", "")
    (tmp_path / "test").mkdir()
    assert splits(tmp_path) == {"train": tmp_path / "train"}


def test_two_files_of_a_split_or_none_are_said(tmp_path):
    put(tmp_path, "x", "notes.md")
    with pytest.raises(UserError, match="has train or test in its name"):
        splits(tmp_path)
    put(tmp_path, "x", "test1.tsv")
    put(tmp_path, "x", "test2.tsv")
    with pytest.raises(UserError, match=r"test1\.tsv, test2\.tsv are all test files; leave one of them"):
        splits(tmp_path)
    with pytest.raises(UserError, match="no such folder"):
        splits(tmp_path / "none")


@pytest.mark.parametrize(("names", "said"), [
    (("data/train-00000-of-00001.parquet", "data/test.parquet"), r"within it; name one of them \(data\)"),
    (("training/abstracts.tsv", "testing/abstracts.tsv"), r"folders of their own \(testing, training\); put one file"),
    (("train/data-00000-of-00001.arrow", "dataset_dict.json"), "it holds Arrow files; write each split as Parquet"),
])  # fmt: skip
def test_splits_that_are_elsewhere_are_found_for_the_user(names, said, tmp_path):
    for name in names:
        (tmp_path / name).parent.mkdir(exist_ok=True)
        put(tmp_path, "x", name)
    with pytest.raises(UserError, match=said):
        splits(tmp_path)


def test_what_the_datasets_library_writes_beside_the_data_is_no_data(tmp_path):
    for name in ("train.jsonl", "dataset_info.json", "state.json"):
        put(tmp_path, "x", name)
    found = find_texts([tmp_path])
    assert [path.name for path in found.files] == ["train.jsonl"] and len(found.passed_over) == 2


def test_folds_come_in_the_order_of_their_numbers(tmp_path):
    for name in ("10", "9", "1"):
        (tmp_path / name).mkdir()
        put(tmp_path / name, "x", "train.tsv")
        put(tmp_path / name, "x", "test.tsv")
    (tmp_path / "other").mkdir()
    assert [fold.name for fold in folds(tmp_path)] == ["1", "9", "10"]
    (tmp_path / "9" / "test.tsv").unlink()
    assert folds(tmp_path) == []
    assert folds(tmp_path / "1") == []


@pytest.mark.parametrize(
    ("name", "role"),
    [
        ("latest.tsv", None), ("contest.tsv", None), ("attested.txt", None), ("testosterone.tsv", None),
        ("device.tsv", None), ("strain.tsv", None), ("constraints.txt", None), ("invalid.tsv", None),
        ("marigold.json", None), ("trainer_state.json", None), ("developers.txt", None), ("evaluation.tsv", None),
        ("test.tsv", "test"), ("TEST.TSV", "test"), ("my-test.v2.tsv.gz", "test"), ("BC5CDR_Test.PubTator", "test"),
        ("CDR_TestSet.PubTator.txt", "test"), ("NCBItestset_corpus.txt", "test"), ("test2.tsv", "test"),
        ("CDR_sample.test.DNER.PubTator", "test"), ("BioASQ-test-factoid-7b.json", "test"), ("testing.tsv", "test"),
        ("NCBItrainset_corpus.txt", "train"), ("training.json", "train"), ("myTrain.tsv", "train"),
        ("CDR_TrainingSet.txt", "train"), ("train-00000-of-00001.jsonl", "train"),
        ("NCBIdevelopset_corpus.txt", "devel"), ("dev.txt", "devel"), ("val.tsv", "devel"), ("validation.tsv", "devel"),
        ("my.Valid.tsv", "devel"), ("CDR_DevelopmentSet.txt", "devel"), ("BC5CDR_TrainDev.PubTator", None),
        ("train_dev.tsv", None), ("7B_golden.json", "gold"), ("12B1_golden.json", "gold"), ("CDR.gold.txt", "gold"),
    ],
)  # fmt: skip
def test_a_role_is_a_whole_word_of_the_name(tmp_path, name, role):
    put(tmp_path, "x", name)
    if role is None or role not in ("train", "test"):
        put(tmp_path, "x", "train.tsv" if role != "train" else "test.tsv")
    found = splits(tmp_path)
    assert {key: path.name for key, path in found.items() if path.name == name} == ({role: name} if role else {})


def test_parts_of_one_split_are_to_be_joined(tmp_path):
    for part in range(2):
        (tmp_path / f"train-0000{part}-of-00002.parquet").write_bytes(b"PAR1")
        with pytest.raises(
            UserError, match=r"its train split is in parts \(train-00000-of.*\); join all of them into one"
        ):
            splits(tmp_path)
    for part in range(2):
        (tmp_path / f"train-0000{part}-of-00002.parquet").unlink()
    whole = put(tmp_path, "x", "train-00000-of-00001.parquet")
    assert splits(tmp_path) == {"train": whole}


def test_nested_brat_folders_are_splits(tmp_path):
    for split in ("train", "test"):
        (tmp_path / split / "one").mkdir(parents=True)
        pair(tmp_path / split / "one", "Zinc.", "T1\tDrug 0 4\tZinc\n")
    assert splits(tmp_path) == {"train": tmp_path / "train", "test": tmp_path / "test"}
