"""A data set on disk: its splits, its task, its format, and that no kinds are mixed in silence."""

import json
from pathlib import Path
from typing import get_args

import pytest

from annotated_files import BIOC, CONLL, MARKED, PUBTATOR, SQUAD, pair, put
from compactbio.errors import UserError
from compactbio.tasks.data import digest, find
from conftest import one_sentence


def sizes(path: Path, **more) -> list[int]:
    data = find(path, **more)
    return [len(data.read(split)) for split in ("train", "devel", "test")]


def conll(sentences: int, every: int | None = None) -> str:
    """Sentences that differ, with a `-DOCSTART-` at the beginning, or before every so many of them."""
    lines = []
    for number in range(sentences):
        if (every is None and number == 0) or (every and number % every == 0):
            lines.append("-DOCSTART-\tO\n")
        lines.append(f"zinc\tB\ncures\tO\nrash{number}\tB\n")
    return "\n".join(lines)


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("one.conll", conll(100)),
        ("two.conll", conll(100, every=50)),
        ("none.conll", conll(100).replace("-DOCSTART-\tO\n\n", "")),
        (
            "blank.jsonl",
            "".join(
                json.dumps({"id": "", "text": f"zinc {i}", "spans": [{"start": 0, "end": 4, "type": ""}]}) + "\n"
                for i in range(100)
            ),
        ),
        ("same.pubtator", "".join(f"1|t|Zinc {i}\n1|a|Text.\n1\t0\t4\tZinc\tC\n\n" for i in range(100))),
    ],
)
def test_a_single_file_without_names_of_documents_is_split(tmp_path, name, content):
    assert sizes(put(tmp_path, content, name)) == [70, 10, 20]


def test_the_sentences_of_ten_documents_stay_together(tmp_path):
    data = find(put(tmp_path, conll(100, every=10), "ten.conll"))
    documents = {split: {one.id.split(".")[0] for one in data.read(split)} for split in ("train", "devel", "test")}
    assert {split: len(names) for split, names in documents.items()} == {"train": 7, "devel": 1, "test": 2}
    assert len(set.union(*documents.values())) == 10


def test_equal_sentences_of_a_file_without_names_stay_together(tmp_path):
    data = find(put(tmp_path, conll(40) + "\n" + conll(40), "twice.conll"))
    texts = [{one.text for one in data.read(split)} for split in ("train", "devel", "test")]
    assert sum(map(len, texts)) == len(set.union(*texts)) == 40


# Formats


def test_a_named_format_is_the_one_that_is_read(tmp_path):
    # Of two lines that could be sentences with a class as well.
    path = put(tmp_path, "id 7 B\nzinc O\n", "data.txt")
    with pytest.raises(UserError, match="is not a format of data: take conll"):
        find(path, format="iob")
    with pytest.raises(UserError, match="line 2: it has 2 columns, the first line has 3"):
        find(path, format="conll")
    assert find(put(tmp_path, CONLL, "word.txt"), format="conll").read("test", whole=True)[0].text.startswith("Mild")
    with pytest.raises(UserError, match="malformed XML"):
        find(put(tmp_path, CONLL, "data.conll"), format="bioc")


def test_the_command_line_takes_all_formats(cli, tmp_path):
    from compactbio.cli import options
    from compactbio.formats import READABLE
    from compactbio.formats.recognise import TEXTS

    assert set(get_args(options.DataFormat)) == set(READABLE)
    assert set(get_args(options.TextFormat)) == set(TEXTS)
    path = put(tmp_path, CONLL, "gold.txt")
    status, printed, _ = cli("evaluate", path, "--predictions", path, "--format", "conll", "--json")
    assert status == 0 and json.loads(printed)["f1"] == 1.0
    status, _, messages = cli("evaluate", path, "--predictions", path, "--format", "pubtator")
    assert status == 2 and "line 1" in messages


def test_a_suite_names_the_format_of_a_data_set(tmp_path):
    from compactbio.comparison import suite

    put(tmp_path, CONLL, "a.txt")
    model = tmp_path / "model"
    model.mkdir()
    content = "models: {m: model}\ndata: {d: {train: a.txt, test: a.txt, format: conll}}\n"
    assert suite.load(put(tmp_path, content, "suite.yaml")).data["d"].format == "conll"


# Kinds


@pytest.mark.parametrize(("one", "other"), [(CONLL, SQUAD), (CONLL, MARKED), (MARKED, SQUAD)])
def test_splits_of_different_tasks_are_refused_by_name(tmp_path, one, other):
    put(tmp_path, one, "train.txt")
    put(tmp_path, other, "test.txt")
    with pytest.raises(UserError, match=r"different tasks \(train.txt is of \w+, test.txt is of \w+\)"):
        find(tmp_path)


def test_splits_in_different_formats_of_one_task_are_read(tmp_path):
    put(tmp_path, CONLL, "train.txt")
    put(tmp_path, BIOC, "dev.xml")
    put(tmp_path, PUBTATOR, "test.pubtator")
    put(tmp_path, "Nothing.", "latest.tsv")
    data = find(tmp_path)
    assert data.task == "ner" and [len(data.read(split)) for split in ("train", "devel", "test")] == [2, 1, 1]


def test_a_nested_brat_folder_is_one_data_set(tmp_path):
    for number in range(20):
        (tmp_path / f"part{number % 2}").mkdir(exist_ok=True)
        pair(tmp_path / f"part{number % 2}", "Zinc.", "T1\tDrug 0 4\tZinc\n", f"d{number}")
    put(tmp_path, "Read this.", "README.txt")
    assert sizes(tmp_path) == [14, 2, 4]


def test_what_is_not_read_of_a_folder_is_not_in_its_digest(tmp_path):
    pair(tmp_path, "Zinc.", "T1\tDrug 0 4\tZinc\n", "d")
    before, digest_of_pair = digest(tmp_path), digest(tmp_path / "d.ann")
    for name in ("README.md", "README.txt", "annotation.conf", "a.py"):
        put(tmp_path, "Read this.", name)
    assert digest(tmp_path) == before
    put(tmp_path, "Iron.", "e.txt")
    assert digest(tmp_path) != before
    # Of one document its annotations are read too.
    before = digest(tmp_path / "d.txt")
    put(tmp_path, "", "d.ann")
    assert digest(tmp_path / "d.txt") != before == digest_of_pair


def test_no_run_is_made_in_a_folder_of_data_or_around_it(cli, start, tmp_path):
    data = tmp_path / "around" / "data"
    data.mkdir(parents=True)
    for number in range(20):
        pair(data, "Zinc.", "T1\tDrug 0 4\tZinc\n", f"d{number}")
    for more in ((), ("--search",)):
        for out in (data / "runs" / "one", data, data.parent):
            refused = cli("finetune", data, "--model", start, "--out", out, "--set", "epochs=1", *more)
            one_sentence(refused, "is read as data", "(option --out)")
    assert len(list(data.iterdir())) == 40
    one_sentence(cli("finetune", data / "d1.txt", "--model", start, "--out", data / "d1.txt"), "is the same place")


# What token files may not be


@pytest.mark.parametrize(
    ("content", "line", "said"),
    [
        ("a\tO\nFamotidine\tO-\tOdelirium\tB\nb\tO\n", 2, "4 columns, the first line has 2"),
        ("a\tNN\tO\nb\tO\n", 2, "2 columns, the first line has 3"),
        ("a O\nb NN O\n", 2, "3 columns, the first line has 2"),
        ('a\tO\n""""\tO\nb\tB\n', 2, "quoted, as CSV is"),
        ('"a"\t"O"\n"b"\t"B"\n', 1, "quoted, as CSV is"),
        ('a\tO\nb\t"B"\n', 2, "quoted, as CSV is"),
    ],
)
def test_token_files_of_uneven_or_quoted_columns_are_refused_with_the_line(tmp_path, content, line, said):
    with pytest.raises(UserError, match=rf"a\.tsv, line {line}: it .*{said}"):
        find(put(tmp_path, content, "a.tsv"), "ner", format="conll").read("train", whole=True)


def test_words_in_quotes_are_words(tmp_path):
    [document] = find(put(tmp_path, '"\tO\n"zinc"\tB\n\'\'\tO\n', "a.tsv")).read("train", whole=True)
    assert document.text == '" "zinc" \'\''


def test_quoted_or_uneven_tables_of_sentences_are_refused_with_the_line(tmp_path):
    good = "@A$ blocks @B$\t1\n"
    for bad, said in (
        ('"@A$ is ""so"" @B$"\t1\n', "quoted"),
        ('@A$ @B$\t"1"\n', "quoted"),
        ("1\t@A$ @B$\t1\n", "columns"),
    ):
        data = find(put(tmp_path, good + bad, "a.tsv"), format="marked")
        with pytest.raises(UserError, match=f"line 2: it .*{said}"):
            data.read("train", whole=True)


def test_cr_alone_ends_the_lines_of_a_token_file(cli, tmp_path):
    gold = put(tmp_path, CONLL, "gold.txt")
    for name, content in (("cr.txt", CONLL.replace("\n", "\r")), ("crlf.txt", CONLL.replace("\n", "\r\n"))):
        status, printed, messages = cli("evaluate", gold, "--predictions", put(tmp_path, content, name), "--json")
        assert status == 0, messages
        assert json.loads(printed)["f1"] == 1.0


@pytest.mark.parametrize("word", ["<", "{", "[", "<html>", '{"id"'])
def test_a_token_file_of_any_name_may_begin_with_any_word(tmp_path, word):
    content = f"{word}\tO\nzinc\tB\n\nrash\tB\n"
    for name in ("a.conll", "a.txt", "a.tsv", "a"):
        assert find(put(tmp_path, content, name)).read("test", whole=True)[0].text == f"{word} zinc"


def test_whole_numbers_are_ids_in_every_json_format(tmp_path):
    lines = '{"id": 7, "text": "Zinc.", "spans": [{"start": 0, "end": 4, "type": "C", "identifier": 15}]}\n'
    [one] = find(put(tmp_path, lines, "a.jsonl")).read("train", whole=True)
    assert (one.id, one.spans[0].identifier) == ("7", "15")
    squad = SQUAD.replace('"a1_002"', "12").replace('"a3"', "7.0")
    found = find(put(tmp_path, squad, "a.json")).read("train", whole=True)
    assert [document.id for document in found] == ["12", "a2_001", "7"]
    bioasq = (
        '{"questions": [{"id": 5, "type": "factoid", "body": "What?", "snippets": [{"text": "Zinc, \\"id\\": 5."}]}]}'
    )
    [one] = find(put(tmp_path, bioasq, "b.json"), "qa").read("train", whole=True)
    assert (one.id, one.text) == ("5_001", 'Zinc, "id": 5.')
