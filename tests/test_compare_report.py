"""The report of a comparison says what the runs came to, lets nothing through unescaped, and stands alone."""

import json
import re
from dataclasses import replace
from pathlib import Path
from statistics import fmean, stdev

import numpy as np
import pytest
from lxml import etree
from pydantic import TypeAdapter

from compactbio.comparison import report, suite
from compactbio.comparison.report import by_type, excerpt, frequent, latex, markdown
from compactbio.comparison.report import escaped_latex as escaped
from compactbio.comparison.table import Run, Table, build
from compactbio.errors import UserError
from compactbio.tasks.outcome import f1, interval, paired

TEACHER, BASE, ODD = "big-teacher", "plain", "R&D_50% <small>"
MODELS = (TEACHER, BASE, ODD)
RIGHT = {TEACHER: 0.9, BASE: 0.8, ODD: 0.65}
HOSTILE = "<script>alert('x')</script>"
CALIBRATION = {
    "temperature": 2.0, "found": 40, "error_before": 0.2, "error_after": 0.05,
    "data": {"name": HOSTILE, "split": "devel"},
    "bins_before": [{"found": 40, "score": 0.9, "right": 0.7}],
    "bins_after": [{"found": 40, "score": 0.75, "right": 0.7}],
    "types": {
        "A$": {"found": 40, "gold": 50, "points": [
            {"score": 0.0, "precision": 0.7, "recall": 0.56, "kept": 40},
            {"score": 0.8, "precision": 0.9, "recall": 0.36, "kept": 20},
        ]},
        "B": {"found": 3, "gold": 5, "points": []},
    },
}  # fmt: skip
MEASURED = "A CPU & co., 2 threads"
PROFILES = {
    TEACHER: {"parameters": 108_000_000, "tokens_per_second": 900.0, "latency_ms": 41.5, "measured": MEASURED},
    BASE: {"parameters": 65_200_000, "tokens_per_second": None, "latency_ms": None, "measured": MEASURED},
}


def evaluation(task: str, units: list[list[float]], sha256: str, mistakes: list[dict] | None = None, **more) -> dict:
    """A made-up evaluation; its F1 and reciprocal rank follow from `units`."""
    tp, fp, fn, *count = np.sum(units, axis=0)
    metric = "mrr" if task == "qa" else "f1"
    main = float(fn / count[0]) if task == "qa" else float(2 * tp / (2 * tp + fp + fn))
    unit = {"ner": "sentence", "relation": "example", "qa": "question"}[task]
    return {
        "task": task, "metric": metric, "scores": {metric: main}, "statistic": metric, "unit": unit, "units": units,
        "per_type": {} if task == "qa" else {"Made <up>": {"precision": 0.5, "recall": 0.5, "f1": main, "support": 40}},
        "mistakes": mistakes or [], "notes": ["Without the negative class."] if task == "relation" else [],
        "protocol": "word" if task == "ner" else task, "interval": [0, 1],
        "data": {"name": "made", "sha256": sha256, "split": "test", "rows": len(units)},
        "model": {"name": "made", "sha256": "0" * 64, "parameters": 1}, "seed": 0, "train_on": "train", **more,
    }  # fmt: skip


def mentions(model: str, seed: int, n: int = 80) -> list[list[float]]:
    """(tp, fp, fn) of `n` sentences of two mentions each, found as often as `RIGHT` says."""
    hits = np.random.default_rng([seed, MODELS.index(model)]).binomial(2, RIGHT[model], size=n)
    return [[float(hit), float(2 - hit), float(2 - hit)] for hit in hits]


def questions(model: str, seed: int) -> list[list[float]]:
    right = np.random.default_rng([seed, 7, MODELS.index(model)]).random(50) < RIGHT[model]
    return [[float(hit), float(hit), 1.0 if hit else 0.25, 1.0] for hit in right]


def mistake(model: str) -> dict:
    context = f"{'before ' * 60}{HOSTILE} after"
    return {"kind": "missed", "gold": f"{HOSTILE} [Drug]", "predicted": "", "count": 3, "context": context}


def comparison() -> list[Run]:
    """Three models on token files, on two folds and on questions, from two seeds; one run failed, two were not run."""
    runs = []
    for model in MODELS:
        for seed in (0, 1):
            scored = evaluation("ner", mentions(model, seed), "a" * 64, [mistake(model)])
            runs.append(Run(model, "mentions_1", seed, "", "done", "", scored, CALIBRATION if model == BASE else None))
            for fold in ("1", "2"):
                made = evaluation("relation", mentions(model, 10 * seed + int(fold), 30 + int(fold)), fold * 64)
                runs.append(Run(model, "pairs", seed, fold, "done", "", made))
            asked = evaluation("qa", questions(model, seed), "c" * 64)
            runs.append(Run(model, "questions", seed, "", "done", "", asked))
    failed = next(i for i, c in enumerate(runs) if (c.model, c.data, c.seed) == (BASE, "mentions_1", 1))
    runs[failed] = replace(runs[failed], state="failed", error=f"out of memory at {HOSTILE}", evaluation=None)
    return [
        replace(run, state="not run", evaluation=None) if (run.model, run.data) == (ODD, "questions") else run
        for run in runs
    ]


def scores(runs: list[Run], model: str, data: str, fold: str = "") -> list[float]:
    """F1 by seed, worked out from the counts without the package."""
    sums = [np.sum(c.evaluation["units"], axis=0) for c in runs if (c.model, c.data, c.fold) == (model, data, fold)]
    return [2 * tp / (2 * tp + fp + fn) for tp, fp, fn in sums]


def units(runs: list[Run], model: str, data: str, fold: str = "") -> np.ndarray:
    return np.array([c.evaluation["units"] for c in runs if (c.model, c.data, c.fold) == (model, data, fold)])


@pytest.fixture(scope="module")
def runs() -> list[Run]:
    return comparison()


@pytest.fixture(scope="module")
def table(runs) -> Table:
    return build(runs, BASE, TEACHER)


@pytest.fixture(scope="module")
def out(runs, table, tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("report")
    report.write(f"Made-up models & {HOSTILE}", table, runs, PROFILES, folder)
    return folder


def test_means_deviations_and_intervals_over_seeds_are_right(runs, table):
    row = table.row(ODD, "mentions_1")
    own = scores(runs, ODD, "mentions_1")
    assert (row.mean, row.deviation, row.runs) == (pytest.approx(fmean(own)), pytest.approx(stdev(own)), 2)
    assert (row.low, row.high) == interval(units(runs, ODD, "mentions_1"), f1)
    assert row.scores == {"f1": row.mean} and row.low < row.mean < row.high


def test_scores_of_folds_are_averaged_and_deviate_over_seeds(runs, table):
    row = table.row(TEACHER, "pairs")
    first, second = (scores(runs, TEACHER, "pairs", fold) for fold in "12")
    by_seed = [fmean(pair) for pair in zip(first, second, strict=True)]
    assert (row.mean, row.deviation, row.runs) == (pytest.approx(fmean(by_seed)), pytest.approx(stdev(by_seed)), 4)
    assert (row.low, row.high) == interval([units(runs, TEACHER, "pairs", fold) for fold in "12"], f1)


def test_a_fold_that_is_lacking_counts_against_the_deviation_and_the_test_that_need_it(runs):
    lacking = [
        replace(run, state="failed", evaluation=None)
        if (run.model, run.data, run.seed, run.fold) == (TEACHER, "pairs", 1, "2")
        else run
        for run in runs
    ]
    row = build(lacking, BASE).row(TEACHER, "pairs")
    first = scores(runs, TEACHER, "pairs", "1")
    wanted = fmean([fmean(first), scores(runs, TEACHER, "pairs", "2")[0]])
    assert (row.state, row.mean, row.deviation) == ("partial", pytest.approx(wanted), None)
    without = [c for c in runs if (c.model, c.data, c.fold) != (TEACHER, "pairs", "2")]
    assert row.test is not None and build(without, BASE).row(TEACHER, "pairs").test is None


def test_a_column_says_what_was_scored(table):
    mentions_, pairs, asked = table.columns
    assert (mentions_.task, mentions_.metric, mentions_.units, mentions_.folds) == ("ner", "f1", 80, 0)
    assert (mentions_.sha256, mentions_.seeds, mentions_.train_on) == ("a" * 64, (0, 1), "train")
    assert (pairs.units, pairs.folds, pairs.notes) == (63, 2, ("Without the negative class.",))
    assert (asked.metric, asked.unit) == ("mrr", "question")


def test_failed_and_missing_runs_are_reported_and_stop_nothing(table):
    partial, missing = table.row(BASE, "mentions_1"), table.row(ODD, "questions")
    assert (partial.state, partial.runs, partial.planned, partial.deviation) == ("partial", 1, 2, None)
    assert partial.failures == (f"seed 1: out of memory at {HOSTILE}",)
    assert (missing.state, missing.mean, missing.missing, missing.test) == ("not run", None, 2, None)
    lost = build([Run("one", "set", 0, "", "failed", "no memory", None)], "one")
    assert lost.row("one", "set").state == "failed" and lost.columns[0].task == "" and "failed" in markdown(lost)


def test_the_share_is_of_the_teachers_score(runs, table):
    share = fmean(scores(runs, ODD, "mentions_1")) / fmean(scores(runs, TEACHER, "mentions_1"))
    assert table.row(ODD, "mentions_1").share == pytest.approx(share)
    assert table.row(TEACHER, "pairs").share == 1.0
    assert {row.share for row in build(runs, BASE).rows} == {None}


def test_a_mean_over_some_folds_is_not_set_beside_one_over_all(runs, tmp_path):
    lacking = [run for run in runs if (run.model, run.data, run.fold) != (TEACHER, "pairs", "1")]
    table = build(lacking, BASE, TEACHER)
    teacher, base, odd = (table.row(model, "pairs") for model in MODELS)
    assert teacher.mean > base.mean and table.best("pairs") == base.mean
    assert (teacher.share, base.share, odd.share) == (1.0, None, None)
    assert table.row(BASE, "mentions_1").share is not None
    assert [row.every_fold for row in (teacher, base, odd)] == [False, True, True]
    assert table.overall(TEACHER) is None and table.overall(BASE) is not None
    report.write("Folds", table, lacking, PROFILES, tmp_path)
    for name, bold in (("table.md", "**{}**"), ("table.tex", "\\textbf{{{}}}"), ("index.html", "<strong>{}</strong>")):
        text = (tmp_path / name).read_text()
        assert bold.format(f"{100 * base.mean:.2f}") in text and bold.format(f"{100 * teacher.mean:.2f}") not in text
        assert f"{TEACHER} on pairs." in text and "on some of the folds only" in text
    assert f"| pairs | {BASE} |" not in (tmp_path / "table.md").read_text().partition("Share of the score")[2]
    # Models of the same folds, if not of all, can be compared.
    same = [run for run in lacking if (run.model, run.data, run.fold) != (BASE, "pairs", "1")]
    table = build(same, BASE, TEACHER)
    assert table.row(BASE, "pairs").share is not None and table.best("pairs") == table.row(ODD, "pairs").mean


def test_each_model_is_tested_against_the_baseline_and_p_adjusted_over_the_table(runs, table):
    tested = {(row.model, row.data): row.test for row in table.rows if row.test is not None}
    wanted = {(m, d) for m in (TEACHER, ODD) for d in ("mentions_1", "pairs", "questions")} - {(ODD, "questions")}
    assert set(tested) == wanted
    found = tested[TEACHER, "pairs"]
    a, b = ([units(runs, model, "pairs", fold) for fold in "12"] for model in (TEACHER, BASE))
    plain = paired(a, b, f1, repeats=table.repeats)
    assert (found.difference, found.low, found.high, found.p) == (plain.difference, plain.low, plain.high, plain.p)
    assert found.difference == pytest.approx(table.row(TEACHER, "pairs").mean - table.row(BASE, "pairs").mean)
    smallest = min(test.p for test in tested.values())
    assert min(test.adjusted for test in tested.values()) == pytest.approx(5 * smallest)
    assert tested[ODD, "mentions_1"].significant and tested[ODD, "mentions_1"].difference < 0


def test_many_tests_get_draws_enough_to_be_able_to_find_something():
    made = [
        Run(f"m{i}", f"d{j}", 0, "", "done", "", evaluation("ner", [[2, 0, 0] if i else [1, 1, 1]] * 5, "a" * 64))
        for i in range(9)
        for j in range(8)
    ]
    table = build(made, "m0")
    assert table.repeats == 6400
    assert all(row.test.significant for row in table.rows if row.test is not None)


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"protocol": "published"}, "differ in their protocols \\(published, word\\)"),
        ({"train_on": "train+devel"}, "differ in their training splits"),
        ({"data": {"sha256": "b" * 64}}, "not scored on the same test file"),
        ({"data": {"sha256": "a" * 64, "gold_sha256": "d" * 64}}, "not scored on the same test file"),
        ({"units": [[1.0, 0.0, 0.0]]}, "not scored on the same test file"),
    ],
)
def test_runs_that_cannot_be_compared_are_refused(change, said):
    made = evaluation("ner", [[1.0, 0.0, 0.0]] * 4, "a" * 64)
    runs = [Run(m, "set", 0, "", "done", "", {**made, **(change if m == "b" else {})}) for m in "ab"]
    with pytest.raises(UserError, match=said):
        build(runs, "a")


def test_scores_by_type_are_means_over_runs(runs):
    odd = next(entry for entry in by_type(runs, "pairs") if entry.model == ODD)
    # 40 in each of two folds, whatever the number of seeds.
    assert odd.support == 80
    wanted = fmean(scores(runs, ODD, "pairs", "1") + scores(runs, ODD, "pairs", "2"))
    assert odd.scores == {"precision": 0.5, "recall": 0.5, "f1": pytest.approx(wanted)}


def test_errors_are_counted_over_runs_and_shown_with_their_mention(runs):
    (error,) = frequent(runs, TEACHER, "mentions_1")
    assert (error.count, error.kind, error.gold) == (6, "missed", f"{HOSTILE} [Drug]")
    before, mention, after = error.excerpt
    assert (mention, before[0], after) == (HOSTILE, "…", " after")
    assert len(before + mention + after) <= 202


def test_errors_are_counted_by_kind(runs, out):
    assert report.by_kind(runs, "mentions_1") == {TEACHER: {"missed": 6}, BASE: {"missed": 3}, ODD: {"missed": 6}}
    page = (out / "index.html").read_text()
    assert "<h2>Errors by kind</h2>" in page and '<th class="n">Missed</th>' in page
    assert json.loads((out / "table.json").read_text())["errors_by_kind"]["mentions_1"][BASE] == {"missed": 3}


def test_the_page_shows_what_scores_mean_where_models_are_calibrated(out):
    page = (out / "index.html").read_text()
    assert page.count("Scores of the first run of each model on mentions_1, devel") == 2
    assert f"Not calibrated: {TEACHER}, R&amp;D_50% &lt;small&gt;." in page
    (picture,) = (out / "plots").glob("calibration-*.png")
    assert len(picture.read_bytes()) > 10_000


@pytest.mark.parametrize(
    ("context", "wanted", "parts"),
    [
        ("CDK4 binds CD here", ["CD"], ("CDK4 binds ", "CD", " here")),
        ("a b", ["", "b"], ("a ", "b", "")),
        ("renal failure", ["failure", "renal failure"], ("", "renal failure", "")),
        ("nothing", ["else"], ("", "", "nothing")),
        ("x" * 300, [], ("", "", "x" * 200 + "…")),
        ("y " * 200 + "end", ["end"], ("…" + ("y " * 200)[-197:], "end", "")),
    ],
)
def test_an_excerpt_is_cut_around_whole_words(context, wanted, parts):
    assert tuple(excerpt(context, wanted)) == parts


def test_the_markdown_has_the_figures_the_best_in_bold_and_a_dagger(table):
    lines = markdown(table).splitlines()
    assert lines[0] == "| model | mentions_1 (F1) | pairs (F1) | questions (MRR) |"
    teacher, base, odd = lines[2:5]
    row = table.row(TEACHER, "pairs")
    figures = [100 * value for value in (row.mean, row.deviation, row.low, row.high)]
    assert "| **{:.2f}** ± {:.2f}† [{:.2f}, {:.2f}] |".format(*figures) in teacher
    assert "(1 of 2 runs)" in base and "**" not in base and "†" not in base
    assert odd.startswith("| R&amp;D_50% &lt;small>") and odd.endswith("| not run |")
    assert "differs from plain" in markdown(table) and "- plain on mentions_1, seed 1: out of memory" in markdown(table)


def test_latex_escapes_every_special_sign(table):
    assert escaped("a_b&c%d#e$f{g}h~i^j\\k<l>\nm") == (
        r"a\_b\&c\%d\#e\$f\{g\}h\textasciitilde{}i\textasciicircum{}j\textbackslash{}k\textless{}l\textgreater{} m"
    )
    text = latex(table, "100% of A_B")
    assert r"R\&D\_50\% \textless{}small\textgreater{}" in text and r"mentions\_1 (F1)" in text
    assert r"100\% of A\_B" in text and "\\toprule" in text and "\\bottomrule" in text
    body = text[text.index("\\toprule") : text.index("\\bottomrule")].splitlines()
    assert {len(re.findall(r"(?<!\\)&", line)) for line in body if line.endswith("\\\\")} == {3}
    best = table.row(TEACHER, "mentions_1")
    assert f"\\textbf{{{100 * best.mean:.2f}}}" in text and "$^{\\dagger}$" in text and "\\emph{not run}" in text


def test_the_json_reads_back_as_the_table(table, out):
    read = json.loads((out / "table.json").read_text())
    beside = {key: read.pop(key) for key in ("title", "profiles", "versions")}
    assert TypeAdapter(Table).validate_python(read) == table
    assert beside["profiles"] == PROFILES and beside["versions"]["compactbio"]


def test_the_page_escapes_what_comes_from_outside(out):
    page = (out / "index.html").read_text()
    assert "<script" not in page and "<small>" not in page and "Made <up>" not in page
    assert "&lt;script&gt;alert(&#39;x&#39;)&lt;/script&gt;" in page
    assert "R&amp;D_50% &lt;small&gt;" in page and "Made &lt;up&gt;" in page


def test_the_page_needs_nothing_from_outside(out):
    page = (out / "index.html").read_text()
    without_names = re.sub(r'xmlns(:xlink)?="[^"]*"', "", page)
    assert not re.search(r"https?:|//[a-z]|@import|<link|<img|<iframe|\bsrc=|url\((?!#)", without_names)
    assert all(target.startswith("#") for target in re.findall(r'href="([^"]*)"', page))
    ids = re.findall(r'\bid="([^"]*)"', page)
    assert len(ids) == len(set(ids)) and {t[1:] for t in re.findall(r'href="([^"]*)"', page)} <= set(ids)


def test_the_page_holds_the_table_the_tests_the_failures_and_three_plots(table, out):
    page = (out / "index.html").read_text()
    for row in table.rows:
        if row.mean is not None:
            assert f"{100 * row.mean:.2f}" in page and f"[{100 * row.low:.2f}, {100 * row.high:.2f}]" in page
    assert (
        page.count("<svg") == 3 and "Left out, not scored on every data set and fold or not measured: R&amp;D" in page
    )
    assert page.count("1 of 2 runs") == 1 and "seed 1: out of memory" in page and "Without the negative class." in page
    for heading in ("Paired tests against plain", "Share of the teacher", "Failed and missing runs", "a" * 12):
        assert heading in page
    assert "&lt;small&gt; on questions (2 of 2 runs)." in page
    assert "Not measured: R&amp;D" in page


def table_widths(page: str) -> list[set[int]]:
    """For each table of a page, in how many columns its rows are; the page must be well-formed."""
    body = etree.fromstring(f"<body>{page.split('<body>')[1].split('</body>')[0]}</body>")
    return [
        {sum(int(cell.get("colspan", 1)) for cell in row) for row in found.iter("tr")} for found in body.iter("table")
    ]


def test_the_page_is_well_formed_and_its_rows_have_as_many_cells_as_their_heads(out):
    widths = table_widths((out / "index.html").read_text())
    assert len(widths) >= 8 and all(len(width) == 1 for width in widths)


def test_the_plots_are_files_too(out):
    names = {"score-by-parameters", "score-by-throughput"}
    files = {f"{name}.{kind}" for name in names for kind in ("svg", "png")}
    assert {path.name for path in (out / "plots").iterdir() if not path.name.startswith("calibration-")} == files
    for name in names:
        assert (out / "plots" / f"{name}.png").read_bytes().startswith(b"\x89PNG")
        etree.parse(out / "plots" / f"{name}.svg")
    assert "currentColor" in (out / "index.html").read_text()
    assert "currentColor" not in (out / "plots" / "score-by-parameters.svg").read_text()


def test_a_report_without_profiles_or_a_finished_run_is_a_report(tmp_path):
    lost = [Run("one", "set", 0, "", "failed", "no memory", None)]
    report.write("Nothing", build(lost, "one"), lost, {}, tmp_path)
    page = (tmp_path / "index.html").read_text()
    assert "no memory" in page and "<svg" not in page and "no run scored" in page
    assert all(len(width) == 1 for width in table_widths(page)) and "Most frequent errors" not in page


def write_suite(folder: Path, text: str) -> Path:
    for place in ("mine", "sets/NCBI", "sets/GAD/1", "sets/GAD/2", "sets/GAD/10"):
        (folder / place).mkdir(parents=True, exist_ok=True)
    for name in ("a.tsv", "b.tsv"):
        (folder / name).write_text("word\tO\n")
    path = folder / "suite.yaml"
    path.write_text(text)
    return path


def test_a_suite_is_read_with_its_paths_beside_it(tmp_path):
    path = write_suite(
        tmp_path,
        """
models: {ours: mine, theirs: owner/name}
data:
  NCBI: sets/NCBI
  GAD: {path: sets/GAD, task: relation, seeds: [5], settings: {epochs: 3}}
  loose: {train: a.tsv, test: b.tsv}
seeds: [0, 1]
teacher: theirs
settings: {epochs: 9, batch_size: 8, learning_rate: 5e-5}
""",
    )
    read = suite.load(path)
    assert {name: model.path for name, model in read.models.items()} == {
        "ours": str(tmp_path / "mine"),
        "theirs": "owner/name",
    }
    assert (read.baseline, read.teacher, read.train_on) == ("ours", "theirs", "train")
    assert read.data["NCBI"].path == tmp_path / "sets/NCBI" and read.data["NCBI"].folds == ()
    assert read.data["GAD"].folds == ("1", "2", "10")
    assert read.data["loose"].train == tmp_path / "a.tsv" and read.data["loose"].folds == ()
    assert (read.seeds_for("NCBI"), read.seeds_for("GAD")) == ((0, 1), (5,))
    assert read.settings_for("ours", "GAD") == {"epochs": 3, "batch_size": 8, "learning_rate": 5e-5}
    assert read.settings_for("ours", "NCBI") == {"epochs": 9, "batch_size": 8, "learning_rate": 5e-5}
    with pytest.raises(ValueError, match="frozen"):
        read.seeds = (3,)


def test_settings_of_teaching_go_to_those_that_have_teachers_and_of_texts_where_there_are_some(tmp_path):
    path = write_suite(
        tmp_path,
        """
models:
  large: mine
  small: owner/name
  taught: {path: owner/name, teachers: [large]}
  twice: {path: mine, teachers: [small, taught]}
  thrice: {path: mine, teachers: twice}
data:
  NCBI: {path: sets/NCBI, unlabelled: a.tsv, settings: {sample: 7}}
  GAD: sets/GAD
settings: {epochs: 2, distil_weight: 0.7}
""",
    )
    read = suite.load(path)
    assert read.models["taught"] == suite.Model(path="owner/name", teachers=("large",))
    assert read.models["twice"].path == str(tmp_path / "mine")
    assert read.levels == {"large": 0, "small": 0, "taught": 1, "twice": 2, "thrice": 3}
    assert read.texts_for("taught", "NCBI") == (tmp_path / "a.tsv",)
    assert read.texts_for("taught", "GAD") == read.texts_for("small", "NCBI") == ()
    assert read.settings_for("taught", "NCBI") == {"epochs": 2, "distil_weight": 0.7, "sample": 7}
    assert read.settings_for("taught", "GAD") == {"epochs": 2, "distil_weight": 0.7}
    assert read.settings_for("small", "NCBI") == read.settings_for("large", "GAD") == {"epochs": 2}


GOOD = {"models": "{a: mine}", "data": "{d: sets/NCBI}"}
TAUGHT = {"models": "{a: mine, b: {path: mine, teachers: [a]}}"}


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"sedes": "[1]"}, "unknown key 'sedes'; the nearest known one is 'seeds'"),
        ({"data": "{d: {path: sets/NCBI, tsk: ner}}"}, "unknown key 'data.d.tsk'; the nearest known one is 'task'"),
        ({"data": "{d: {path: sets/NCBI, folds: [1]}}"}, "unknown key 'data.d.folds'"),
        ({"baseline": "b"}, "baseline 'b' is not among the models (a)"),
        ({"teacher": "b"}, "teacher 'b' is not among the models (a)"),
        ({"models": "{}"}, "models: "),
        ({"models": ""}, "models: "),
        ({"models": "{a: 3}"}, "models.a: "),
        ({"data": "{}"}, "data: "),
        ({"data": "{d: }"}, "data.d: "),
        ({"data": "{d: {task: ner}}"}, "data.d: a data set needs path, or both train and test"),
        ({"data": "{d: {train: a.tsv}}"}, "data.d: a data set needs path, or both train and test"),
        ({"data": "{d: {path: sets/NCBI, test: b.tsv}}"}, "keep one of the two"),
        ({"data": "{d: {path: sets/NCBI, task: tagging}}"}, "data.d.task: "),
        ({"seeds": "[]"}, "seeds: "),
        ({"seeds": "[1, 1]"}, "seeds: a seed is there twice"),
        ({"seeds": "[-1]"}, "seeds.0: "),
        ({"seeds": "many"}, "seeds: "),
        ({"data": "{d: {path: sets/NCBI, seeds: [2, 2]}}"}, "data.d.seeds: a seed is there twice"),
        ({"train_on": "test"}, "train_on: "),
        ({"models": "{a: ./gone}"}, "models.a: there is no folder"),
        ({"models": "{a: /gone/away}"}, "models.a: there is no folder /gone/away"),
        ({"data": "{d: sets/gone}"}, "data.d: there is no"),
        ({"data": "{d: {train: a.tsv, test: gone.tsv}}"}, "data.d.test: there is no"),
        ({"models": "{a: {path: mine, teacher: [a]}}"}, "unknown key 'models.a.teacher'; the nearest known one is 'te"),
        ({"models": "{a: {teachers: [a]}}"}, "models.a.path is missing"),
        ({"models": "{a: {path: mine, teachers: [a]}}"}, "the teacher 'a' of a must be a model that is na"),
        ({"models": "{a: {path: mine, teachers: [b]}, b: mine}"}, "the teacher 'b' of a must be a model that is"),
        ({"models": "{b: mine, a: {path: mine, teachers: [c]}}"}, "must be a model that is named before it (only b)"),
        ({"models": "{b: mine, a: {path: mine, teachers: [b, b]}}"}, "a teacher of a is there twice"),
        ({"models": "{b: mine, a: {path: mine, teachers: 3}}"}, "models.a.teachers: name one, or a list of them"),
        ({"models": "{a: ''}"}, "models.a.path: it is empty; name a path"),
        ({"data": "{d: ''}"}, "data.d.path: it is empty; name a path"),
        ({**TAUGHT, "data": "{d: {path: sets/NCBI, unlabelled: ''}}"}, "data.d.unlabelled.0: it is empty"),
        ({**TAUGHT, "data": "{d: {path: sets/NCBI, unlabelled: }}"}, "data.d.unlabelled: name one, or a list of them"),
        ({"settings": "{distil_weight: 0.5}"}, "distil_weight (settings of the suite) is for models with teachers"),
        ({"data": "{d: {path: sets/NCBI, unlabelled: [a.tsv]}}"}, "unlabelled texts are for models with teachers"),
        ({**TAUGHT, "settings": "{sample: 5}"}, "sample (settings of the suite) is for unlabelled texts"),
        ({**TAUGHT, "data": "{d: {path: sets/NCBI, settings: {sample_by: x}}}"}, "sample_by (settings of d) is for un"),
        ({**TAUGHT, "data": "{d: {path: sets/NCBI, unlabelled: [gone.txt]}}"}, "data.d.unlabelled: there is no"),
    ],
)  # fmt: skip
def test_every_mistake_in_a_suite_is_one_sentence_with_file_and_key(tmp_path, change, said):
    path = write_suite(tmp_path, "\n".join(f"{key}: {value}" for key, value in {**GOOD, **change}.items()))
    with pytest.raises(UserError) as error:
        suite.load(path)
    sentence = str(error.value)
    assert str(path) in sentence and said in sentence and "\n" not in sentence and sentence.endswith(".")


@pytest.mark.parametrize(
    ("content", "said"),
    [(b"", "not a mapping"), (b"- a\n", "not a mapping"), (b"a: [\n", "not YAML"), (b"a: \xff\n", "not UTF-8"),
     (b"data: {d: .}\n", "models is missing"), (b"data: {d: a,\n  d: b}\n", "line 2 names 'd' a second time")],
)  # fmt: skip
def test_a_file_that_is_not_a_suite_is_refused(tmp_path, content, said):
    path = tmp_path / "suite.yaml"
    path.write_bytes(content)
    with pytest.raises(UserError, match=said):
        suite.load(path)
    with pytest.raises(UserError, match="cannot be read"):
        suite.load(tmp_path / "gone.yaml")
