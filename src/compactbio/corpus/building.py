"""From sources to a finished corpus."""

import shutil
from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from compactbio.corpus import citation_rows
from compactbio.corpus.citation_rows import Overflow, RowSettings, Source, TokenisedSource, fingerprint
from compactbio.corpus.deduplication import Selection
from compactbio.corpus.reading import FORMAT_VERSION, MANIFEST, TOKENISED, TOKENIZER, check_shards, manifest
from compactbio.corpus.shards import finish
from compactbio.errors import UserError, check_count, check_named
from compactbio.files import (
    file_digest,
    locked,
    output,
    read_json_or_none,
    refuse_foreign,
    several,
    value_digest,
    write_json,
)
from compactbio.formats import find_citations
from compactbio.processes import cores, end_as_import, unordered_results
from compactbio.progress import Listener, listening

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerFast

_STARTED = "build.json"
# The share of unknown tokens that a corpus may have. BERT's vocabularies leave 0.004 % of PubMed's tokens unknown, a
# vocabulary without capitals on texts with them 8 %.
MOST_UNKNOWN = 0.05
ENOUGH_TOKENS = 100_000


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
    def folder(self) -> Path:
        """Where the tokenised sources are until the corpus is finished."""
        return self.out / TOKENISED

    @property
    def settings(self) -> dict[str, Any]:
        """The settings as the manifest has them; the list of excluded PMIDs as its size and hash."""
        exclude = self.selection.exclude
        return {
            **{key: getattr(self.rows, key) for key in ("max_length", "overflow", "published")},
            "holdout": self.selection.holdout,
            "require_abstract": self.selection.require_abstract,
            "exclude": None if exclude is None else {"listed": len(exclude), "sha256": value_digest(sorted(exclude))},
        }


def build_corpus(
    inputs: str | Path | Sequence[str | Path],
    out: str | Path,
    *,
    tokenizer: str | Path,
    max_length: int = 256,
    overflow: Overflow = "drop",
    holdout: int = 0,
    exclude: str | Path | None = None,
    require_abstract: bool = False,
    published: bool = False,
    workers: int | None = None,
    strict: bool = False,
    listener: Listener | None = None,
) -> dict[str, Any]:
    """Make a corpus of token rows from citations, which `distil` and `pretrain` read.

    A row is a citation's title, a blank and its abstract, with special tokens. A PMID keeps its newest record (version,
    then date of revision, then file name, then place); a DeleteCitation list withdraws a PMID whatever file it is in; a
    record without PMID is dropped where its exact text is elsewhere. Neither the order of inputs nor `workers` changes
    a byte of the result. A build that was killed resumes when it is called again; a finished corpus of the same sources
    and settings is left as it is.

    Args:
        inputs: Files, folders or patterns of PubMed XML, JSON lines, plain text, each also as .gz, or Parquet.
        out: The folder to make, new or of the same build.
        tokenizer: A tokenizer's folder, a vocab.txt, or a hub name.
        max_length: Tokens of a row, special ones included.
        overflow: What becomes of tokens beyond that: "drop", or "keep" for further rows.
        holdout: Rows to set aside for held-out loss, by a hash of the citation.
        exclude: A file of PMIDs to leave out, one per line.
        require_abstract: Drop citations that are a title only.
        published: Write titles without any square bracket, as in the published corpus; by default only those that
            enclose a whole title, which mark a translation, are left out.
        workers: Processes; by default one per core.
        strict: Stop at the first source that is damaged, instead of setting it aside, named in the manifest.
        listener: Receives the progress (see `progress.Listener`).

    Returns:
        The manifest: `sources`, `failed_sources`, `tokenizer`, `settings`, `unknown_share` (of the tokens read, those
        that replace what the vocabulary lacks), `rows`, `tokens`, `length_histogram` (rows by length, in steps of 16
        tokens), `sha256` of each shard and of the tokenizer, `fingerprint`, and `counts` of records: read = kept +
        updated + deleted + empty + duplicate + excluded + failed. `without_abstract` counts the kept ones that are a
        title only; with `require_abstract` it counts the dropped ones, and belongs to the sum.

    Raises:
        UserError: A mistake in the arguments, an `out` that holds something else, texts of which the vocabulary lacks
            more than 5 %, and where no citation is left.
        OSError: `out` cannot be written.

    Examples:
        >>> from compactbio import build_corpus
        >>> manifest = build_corpus("notes.txt", "notes-corpus", tokenizer="start", max_length=32, workers=1)
        >>> manifest["rows"]["train"]
        2
    """
    # Here, for it imports transformers, which the worker processes do not need.
    from compactbio.modeling import tokenizers

    end_as_import()
    inputs, out, listener = several(inputs, "inputs"), output(out), listening(listener)
    found = find_citations(inputs)
    for note in found.notes():
        listener.note(note)
    if overflow not in ("drop", "keep"):
        raise UserError(f"{overflow}: overflow is drop or keep.", setting="overflow")
    max_length = check_count("max_length", max_length)
    workers = cores() if workers is None else check_count("workers", workers)
    holdout, published, require_abstract = check_count("holdout", holdout, 0), bool(published), bool(require_abstract)
    selection = Selection(holdout, require_abstract, None if exclude is None else _read_exclude(exclude))
    with locked(out):
        refuse_foreign(out, "corpus", MANIFEST, TOKENISED)
        loaded = tokenizers.load_tokenizer(tokenizer, tokenizers.WITH_MASK)
        special = loaded.num_special_tokens_to_add(pair=False)
        if max_length <= special:
            what = f"A length of {max_length} tokens: it must be more than the {special} special ones of a row."
            raise UserError(what, setting="max_length")
        digest, wide = tokenizers.tokenizer_digest(loaded), max(loaded.get_vocab().values(), default=0) >= 1 << 16
        rows = RowSettings(digest, max_length, overflow, wide, published, loaded.unk_token_id)
        job = _Job(out, rows, selection, _tokenizer_record(loaded, digest, tokenizer), workers, strict, listener)
        sources = _sources(found.files, job)
        made_of = _fingerprint(sources, job)
        if (out / MANIFEST).exists():
            return _finished(made_of, job)
        _start(job)
        tokenizers.save_tokenizer(loaded, out / TOKENIZER)
        try:
            record = {"format_version": FORMAT_VERSION, "fingerprint": made_of, **_contents(sources, job)}
            record["sha256"][f"{TOKENIZER}/tokenizer.json"] = file_digest(out / TOKENIZER / "tokenizer.json")
        except UserError:
            # One that was refused may be built with other settings; what is tokenised is kept under its own.
            (job.folder / _STARTED).unlink(missing_ok=True)
            raise
        write_json(out / MANIFEST, record)
        shutil.rmtree(job.folder, ignore_errors=True)
        return record


def _tokenizer_record(tokenizer: "PreTrainedTokenizerFast", digest: str, name: str | Path) -> dict[str, Any]:
    """A tokenizer as a record in the manifest of a corpus; of a local path only the last part is named."""
    path = Path(name)
    return {
        "name": path.resolve().name if path.exists() else str(name),
        "sha256": digest,
        "vocab_size": max(tokenizer.get_vocab().values()) + 1,  # ids may have gaps
        "pad_id": tokenizer.pad_token_id,
        "cls_id": tokenizer.cls_token_id,
        "sep_id": tokenizer.sep_token_id,
        "mask_id": tokenizer.mask_token_id,
    }


def _read_exclude(file: str | Path) -> frozenset[str]:
    """The PMIDs of a file, one per line; blank lines and what follows a # are passed over."""
    path = Path(check_named(file, "The path of the PMIDs to exclude", setting="exclude"))
    try:
        text = path.read_text(encoding="utf-8-sig")
    except FileNotFoundError as error:
        raise UserError(f"{path}: no such file (PMIDs to exclude).") from error
    except (UnicodeDecodeError, IsADirectoryError) as error:
        raise UserError(f"{path}: not a text file of PMIDs.") from error
    pmids: set[str] = set()
    for number, line in enumerate(text.splitlines(), 1):
        words = line.partition("#")[0].split()
        if len(words) > 1:
            raise UserError(f"{path}, line {number}: one PMID per line is expected.")
        pmids.update(word.lstrip("0") if word.isascii() and word.isdigit() else word for word in words)
    return frozenset(pmids)


def _sources(paths: Sequence[Path], job: _Job) -> list[Source]:
    """The sources in the order of the corpus; a file under two paths, or with a copy beside it, once."""
    found = list[Source]()

    def report() -> None:
        job.listener.step("checking sources", len(found), len(paths))

    for source in unordered_results(fingerprint, paths, job.workers, report):
        found.append(source)
        report()
    found.sort(key=lambda source: (source.name, source.sha256, source.problem or "", str(source.path)), reverse=True)
    # Of copies the last is kept: one without a problem where there is any.
    return list({(source.name, source.sha256 or source.path): source for source in found}.values())[::-1]


def _fingerprint(sources: Sequence[Source], job: _Job) -> str:
    return value_digest(
        {
            "format_version": [FORMAT_VERSION, citation_rows.VERSION],
            "sources": [[source.name, source.sha256, source.problem] for source in sources],
            "tokenizer": job.tokenizer["sha256"],
            "settings": job.settings,
        }
    )


def _finished(digest: str, job: _Job) -> dict[str, Any]:
    record = manifest(job.out)
    if record["fingerprint"] != digest:
        raise UserError(
            f"{job.out}: holds a finished corpus of other sources or settings; name another folder, or remove this one "
            "first.",
            setting="out",
        )
    if job.strict and record["failed_sources"]:
        first = record["failed_sources"][0]
        raise UserError(f"{first['name']}: {first['reason']}.")
    check_shards(job.out, record, job.listener)
    shutil.rmtree(job.folder, ignore_errors=True)
    job.listener.note(f"{job.out}: this corpus is already built; nothing to do.")
    return record


def _start(job: _Job) -> None:
    """Mark the folder as a build of these row settings, or resume one."""
    job.folder.mkdir(parents=True, exist_ok=True)
    mark, ours = job.folder / _STARTED, asdict(job.rows)
    theirs = read_json_or_none(mark)
    if not isinstance(theirs, dict):
        write_json(mark, ours)  # where it was damaged too: what is tokenised is kept under its own settings
    elif theirs != ours:
        keys = ", ".join(sorted(key for key in ours if theirs.get(key) != ours[key]))
        raise UserError(
            f"{job.out}: holds an unfinished corpus of other settings ({keys}); resume it with those, name another "
            "folder, or remove this one first.",
            setting="out",
        )


def _tokenise(sources: Sequence[Source], job: _Job) -> list[TokenisedSource]:
    """Each source without a problem, tokenised, in the order of the corpus; those done earlier are used again."""
    path, folder = (job.out / TOKENIZER / "tokenizer.json").absolute(), job.folder.absolute()
    for source in sources:
        _check_whole(source, source.problem, job)
    tasks = [citation_rows.Task(source, job.rows, path, folder) for source in sources if not source.problem]
    done = {before.source: before for before in map(citation_rows.earlier, tasks) if before is not None}
    # The largest first, so that no worker is left with it alone at the end.
    todo = sorted((task for task in tasks if task.source not in done), key=lambda task: -task.source.bytes)
    if done:
        job.listener.note(f"resuming: {len(done)} of {len(tasks)} sources are done already")

    def report() -> None:
        job.listener.step("reading citations", len(done), len(tasks))

    for result in unordered_results(citation_rows.tokenise, todo, job.workers, report):
        _check_whole(result.source, result.problem, job)
        done[result.source] = result
        report()
        _check_unknown(done.values(), job, at_least=ENOUGH_TOKENS)
    _check_unknown(done.values(), job)
    return [done[task.source] for task in tasks]


def _check_unknown(tokenised: Iterable[TokenisedSource], job: _Job, at_least: int = 1) -> None:
    """Refuse texts that the vocabulary does not fit, as soon as `at_least` so many tokens show it."""
    tallies = [source.tally for source in tokenised]
    tokens, unknown = sum(tally.tokens for tally in tallies), sum(tally.unknown for tally in tallies)
    if tokens >= at_least and unknown > MOST_UNKNOWN * tokens:
        raise UserError(
            f"{unknown / tokens:.1%} of the tokens are unknown to the vocabulary of {job.tokenizer['name']}, where a "
            f"corpus may have {MOST_UNKNOWN:.0%}: take a tokenizer that fits the texts, and lowers case if its "
            "vocabulary has no capitals.",
            setting="tokenizer",
        )


def _check_whole(source: Source, problem: str | None, job: _Job) -> None:
    """Say that a source with a problem is set aside; where the build is strict, raise UserError."""
    if problem is None:
        return
    if job.strict:
        raise UserError(f"{source.path} {problem}.")
    job.listener.note(f"set aside: {source.path} {problem}")


def _contents(sources: Sequence[Source], job: _Job) -> dict[str, Any]:
    """Tokenise the sources, write the shards, and give what the manifest says of both."""
    tokenised = _tokenise(sources, job)
    problems = {result.source: result.problem for result in tokenised}
    failed = [
        {"name": source.name, "bytes": source.bytes, "sha256": source.sha256, "reason": reason}
        for source in sources
        if (reason := source.problem or problems[source]) is not None
    ]
    whole = [result for result in tokenised if result.problem is None]
    if not any(result.tally.records for result in whole):
        where = f"the file {sources[0].name}" if len(sources) == 1 else f"any of the {len(sources)} files"
        why = f"; {failed[0]['name']} {failed[0]['reason']}" if failed else ""
        raise UserError(f"No citation in {where}{why}.")
    return {
        "tokenizer": job.tokenizer,
        "settings": job.settings,
        "failed_sources": failed,
        **finish(whole, job.selection, job.out, job.listener.note, job.rows.wide),
    }
