"""From sources to a finished corpus."""

import json
import shutil
from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from compactbio.corpus import citation_rows, settings
from compactbio.corpus.citation_rows import Part
from compactbio.corpus.reading import FORMAT_VERSION, MANIFEST, PARTS, TOKENIZER, manifest
from compactbio.corpus.settings import RowSettings, Selection, Source, fingerprint
from compactbio.corpus.shards import finish
from compactbio.errors import UserError
from compactbio.files import locked, refuse_foreign, value_digest, write_json
from compactbio.formats.sources import search
from compactbio.modeling.tokenizers import (
    WITH_MASK,
    as_record,
    is_wide,
    load_tokenizer,
    save_tokenizer,
    tokenizer_digest,
)
from compactbio.processes import unordered_results
from compactbio.progress import Listener, Silent

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerFast

_STARTED = "build.json"
# The share of unknown pieces that a corpus may have. BERT's vocabularies leave 0.004 % of PubMed's pieces unknown, a
# vocabulary without capitals on texts with them 8 %.
MOST_UNKNOWN = 0.05
ENOUGH_PIECES = 100_000


@dataclass(frozen=True)
class _Job:
    """A build, all its inputs resolved."""

    out: Path
    rows: RowSettings
    selection: Selection
    tokenizer: dict[str, Any]
    workers: int
    strict: bool
    listener: Listener

    @property
    def parts(self) -> Path:
        return self.out / PARTS


def build(
    inputs: Iterable[str | Path],
    tokenizer: str | Path,
    out: str | Path,
    *,
    max_length: int = 256,
    overflow: settings.Overflow = "drop",
    holdout: int = 0,
    exclude: str | Path | None = None,
    require_abstract: bool = False,
    published: bool = False,
    workers: int = 1,
    strict: bool = False,
    listener: Listener | None = None,
) -> dict[str, Any]:
    """Make a corpus of token rows in the folder `out` and give its manifest.

    Inputs are files, folders or patterns of PubMed/MEDLINE XML, JSON lines, Parquet or plain text. A row is a
    citation's title, a blank and its abstract, with special pieces, cut at `max_length` pieces; `overflow="keep"`
    makes further rows of the tail. Square brackets that enclose a whole title, which mark a translation, are left out;
    `published`: all of a title's, as the published corpus had it. Neither the order of inputs nor `workers` changes a
    byte of the result.

    A PMID keeps its newest record (version, then date of revision, then file name, then place); a DeleteCitation
    list withdraws a PMID whatever file it stands in; a record without PMID is dropped where its exact text stands
    elsewhere. `exclude` names a file of PMIDs to leave out. `holdout` rows are set aside by a hash of the citation.

    A build that was killed goes on where it was. A source that is not whole is left out and named in the manifest;
    with `strict` the first is an error. A finished corpus of the same sources and settings is left as it is.

    The manifest has `sources`, `failed_sources`, `tokenizer`, `settings`, `unknown_share` (of the pieces read, those
    that stand for what the vocabulary lacks), `rows`, `tokens`, `length_histogram` (rows by length, in steps of 16
    tokens), `sha256` of each shard, `fingerprint`, and `counts`, of records:
    read = kept + updated + deleted + empty + duplicate + excluded + failed. `without_abstract` counts the kept ones
    that are a title only; with `require_abstract` it counts the dropped ones, and belongs to the sum.

    Raises UserError for a mistake in the arguments, an `out` that holds something else, texts of which the vocabulary
    lacks more than 5 %, and where no citation is left;
    OSError where `out` cannot be written.
    """
    listener = listener or Silent()
    found = search(inputs)
    for note in found.notes():
        listener.note(note)
    selection = Selection(holdout, require_abstract, None if exclude is None else settings.read_exclude(Path(exclude)))
    if workers < 1:
        raise UserError(f"--workers {workers}: must be 1 or more.")
    with locked(Path(out)):
        refuse_foreign(Path(out), "corpus", MANIFEST, PARTS)
        pieces = load_tokenizer(tokenizer, WITH_MASK)
        rows = _row_settings(pieces, max_length, overflow, published=published)
        described = as_record(pieces, tokenizer)
        job = _Job(Path(out), rows, selection, described, workers, strict, listener)
        return _built(found.files, pieces, job)


def _built(paths: Sequence[Path], pieces: "PreTrainedTokenizerFast", job: _Job) -> dict[str, Any]:
    """The manifest of the finished corpus, after what was left to do for it."""
    sources = _identify(paths, job)
    identity = _fingerprint(sources, job)
    if (job.out / MANIFEST).exists():
        return _finished(identity, job)
    _start(job)
    save_tokenizer(pieces, job.out / TOKENIZER)
    record = {"format_version": FORMAT_VERSION, "fingerprint": identity, **_contents(sources, job)}
    write_json(job.out / MANIFEST, record)
    shutil.rmtree(job.parts, ignore_errors=True)
    return record


def _row_settings(
    pieces: "PreTrainedTokenizerFast", max_length: int, overflow: settings.Overflow, *, published: bool
) -> RowSettings:
    special = pieces.num_special_tokens_to_add(pair=False)
    if max_length <= special:
        raise UserError(f"--max-length {max_length}: must be more than the {special} special pieces of a row.")
    wide, unknown = is_wide(pieces), pieces.unk_token_id
    return RowSettings(tokenizer_digest(pieces), max_length, overflow, wide, published, unknown)


def _identify(paths: Sequence[Path], job: _Job) -> list[Source]:
    """The sources in the order of the corpus; a file that was named under two paths, or lies there twice, once."""
    stage, found = "checking sources", list[Source]()
    for source in unordered_results(
        fingerprint, paths, job.workers, lambda: job.listener.step(stage, len(found), len(paths))
    ):
        found.append(source)
        job.listener.step(stage, len(found), len(paths))
    found.sort(key=lambda source: (source.name, source.sha256, source.problem or "", str(source.path)), reverse=True)
    # Of copies the last one stays: one without a problem where there is any.
    return list({(source.name, source.sha256 or source.path): source for source in found}.values())[::-1]


def _fingerprint(sources: Sequence[Source], job: _Job) -> str:
    return value_digest(
        {
            "format_version": [FORMAT_VERSION, citation_rows.PART_VERSION],
            "sources": [[source.name, source.sha256, source.problem] for source in sources],
            "tokenizer": job.tokenizer["sha256"],
            "settings": settings.as_record(job.rows, job.selection),
        }
    )


def _finished(identity: str, job: _Job) -> dict[str, Any]:
    record = manifest(job.out)
    if record["fingerprint"] != identity:
        raise UserError(
            f"{job.out}: holds a finished corpus of other sources or settings; name another folder for --out, "
            "or remove this one first."
        )
    if job.strict and record["failed_sources"]:
        first = record["failed_sources"][0]
        raise UserError(f"{first['name']}: {first['reason']}.")
    shutil.rmtree(job.parts, ignore_errors=True)
    job.listener.note(f"{job.out}: this corpus is already built; nothing to do.")
    return record


def _start(job: _Job) -> None:
    """Mark the folder as a build of these row settings, or go on with one."""
    job.parts.mkdir(parents=True, exist_ok=True)
    mark, ours = job.parts / _STARTED, asdict(job.rows)
    if not mark.exists():
        write_json(mark, ours)
    theirs = json.loads(mark.read_text(encoding="utf-8"))
    if theirs != ours:
        keys = ", ".join(sorted(key for key in ours if theirs.get(key) != ours[key]))
        raise UserError(
            f"{job.out}: holds an unfinished corpus of other settings ({keys}); go on with those, "
            "name another folder for --out, or remove this one first."
        )


def _make_parts(sources: Sequence[Source], job: _Job) -> list[Part]:
    """A part for each source that has no problem, in the order of the corpus; those made earlier are used again."""
    stage = "reading citations"
    path = (job.out / TOKENIZER / "tokenizer.json").absolute()
    for source in sources:
        if source.problem is not None:
            _set_aside(source, source.problem, job)
    tasks = [
        citation_rows.Task(source, job.rows, path, job.parts.absolute()) for source in sources if not source.problem
    ]
    made = {part.source: part for part in map(citation_rows.finished, tasks) if part is not None}
    todo = [task for task in tasks if task.source not in made]
    # The largest first, so that no worker is left with it alone at the end.
    todo.sort(key=lambda task: -task.source.bytes)
    if made:
        job.listener.note(f"going on: {len(made)} of {len(tasks)} sources are done already")
    for part in unordered_results(
        citation_rows.make, todo, job.workers, lambda: job.listener.step(stage, len(made), len(tasks))
    ):
        if part.problem is not None:
            _set_aside(part.source, part.problem, job)
        made[part.source] = part
        job.listener.step(stage, len(made), len(tasks))
        _check_unknown(made.values(), job, at_least=ENOUGH_PIECES)
    _check_unknown(made.values(), job)
    return [made[task.source] for task in tasks]


def _check_unknown(made: Iterable[Part], job: _Job, at_least: int = 1) -> None:
    """Refuse texts that the vocabulary does not fit, as soon as `at_least` so many pieces show it."""
    tallies = [part.tally for part in made]
    pieces, unknown = sum(tally.pieces for tally in tallies), sum(tally.unknown for tally in tallies)
    if pieces >= at_least and unknown > MOST_UNKNOWN * pieces:
        raise UserError(
            f"{unknown / pieces:.1%} of the pieces are unknown to the vocabulary of {job.tokenizer['name']}, where a "
            f"corpus may have {MOST_UNKNOWN:.0%}: take a tokenizer that fits the texts, and lowers case if its "
            "vocabulary has no capitals."
        )


def _set_aside(source: Source, problem: str, job: _Job) -> None:
    if job.strict:
        raise UserError(f"{source.path} {problem}.")
    job.listener.note(f"set aside: {source.path} {problem}")


def _contents(sources: Sequence[Source], job: _Job) -> dict[str, Any]:
    """Make the parts, then the shards, and give what the manifest says of both."""
    made = _make_parts(sources, job)
    failed = _failed(sources, made)
    whole = [part for part in made if part.problem is None]
    if not any(part.tally.records for part in whole):
        raise UserError(_nothing_read(sources, failed))
    return {
        "tokenizer": job.tokenizer,
        "settings": settings.as_record(job.rows, job.selection),
        "failed_sources": failed,
        **finish(whole, job.selection, job.out, job.listener.note, job.rows.wide),
    }


def _failed(sources: Sequence[Source], made: Sequence[Part]) -> list[dict[str, Any]]:
    problems = {part.source: part.problem for part in made}
    reasons = [(source, source.problem or problems[source]) for source in sources]
    return [
        {"name": source.name, "bytes": source.bytes, "sha256": source.sha256, "reason": reason}
        for source, reason in reasons
        if reason is not None
    ]


def _nothing_read(sources: Sequence[Source], failed: Sequence[dict[str, Any]]) -> str:
    where = f"the file {sources[0].name}" if len(sources) == 1 else f"any of the {len(sources)} files"
    why = f"; {failed[0]['name']} {failed[0]['reason']}" if failed else ""
    return f"No citation in {where}{why}."
