"""Many documents to one annotated file: in several processes, in flat memory, resumed where a run was killed.

Beside the output `OUT` are `OUT.run.json` (what the run was made of, and its counts) and, where documents could not be
annotated or written, `OUT.failed.jsonl` with their places and reasons. `.OUT.shards` holds finished work while it runs.
"""

import shutil
from collections import deque
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass, replace
from itertools import groupby
from operator import itemgetter
from pathlib import Path
from statistics import fmean
from typing import Any

from pydantic import TypeAdapter, ValidationError

from compactbio.annotate import ray_cluster, shards
from compactbio.annotate.annotator import find_taggers
from compactbio.annotate.models import check_score, scoring_of
from compactbio.annotate.output import OutputFiles, format_of
from compactbio.annotate.shards import Entry, Failure, FileGroup, FinishedShards, Settings, Shard, start_worker
from compactbio.corpus.deduplication import Versions, choose
from compactbio.documents import Document
from compactbio.documents.names import split_type
from compactbio.errors import UserError, check_count, check_counts, check_named, plain
from compactbio.files import check_has_name, clean, file_digest, locked, refuse_inside, several, write_json
from compactbio.files import output as output_path
from compactbio.formats import Reading, find_texts, records_per_byte
from compactbio.formats.checks import counting_left_out
from compactbio.formats.file_names import shown
from compactbio.modeling import hardware, runtimes
from compactbio.modeling.loading import Source
from compactbio.processes import cores, end_as_import, ordered_results
from compactbio.progress import Listener, listening
from compactbio.tasks import calibration_file
from compactbio.tasks.data import digest
from compactbio.tasks.settings import unknown_words

_QUICKLY_COUNTED = 30_000_000  # bytes of input that are counted beforehand
_SAMPLED = 8  # files whose beginnings say how many documents there are, where that is more
Paths = str | Path | Sequence[str | Path]


@dataclass(frozen=True)
class AnnotatedFile:
    """What a run of `annotate_files` wrote."""

    state: str  # "finished", or "already finished" where an earlier run had written the same
    out: str
    format: str  # of `out`
    documents: int  # in `out`
    entities: dict[str, int]  # mentions in `out` by type
    failed: int  # documents that were set aside
    runtimes: dict[str, str]  # of each model
    updated: int = 0  # PubMed records that were passed over for newer ones of their PMIDs
    deleted: int = 0  # PubMed records that were passed over because the NLM withdrew them


def annotate_files(
    inputs: Paths,
    out: str | Path,
    *,
    models: Paths,
    format: str | None = None,
    input_format: str | None = None,
    text_field: str | None = None,
    min_score: float = 0.0,
    min_precision: float | None = None,
    keep: bool = False,
    runtime: str = "auto",
    device: str = "auto",
    batch_size: int = 128,
    workers: int | None = None,
    on_cluster: bool = False,
    listener: Listener | None = None,
) -> AnnotatedFile:
    """Annotate all documents of the inputs with NER models, into one file.

    A run that was stopped resumes when it is called again with the same arguments, and gives the same file; a finished
    one is left alone. A document that cannot be read or annotated is set aside with its reason. Of PubMed records the
    newest of each PMID is annotated, and none that the NLM has withdrawn.

    Args:
        inputs: Files, folders or patterns of PubMed XML, JSON lines, Parquet, plain text or annotated documents (see
            `formats.read_texts`).
        out: The file to write; a folder for BRAT.
        models: Local folders or hub names, or "TYPE=MODEL" to name the mentions of a model of one type.
        format: "jsonl", "parquet", "bioc", "pubtator" or "brat"; by default as the suffix of `out` says.
        input_format: One of `formats.recognise.TEXTS`; by default recognised for each file.
        text_field: The field of JSON lines and Parquet that holds the text.
        min_score: The lowest score of an entity, in [0, 1].
        min_precision: As for `Annotator.from_pretrained`.
        keep: Keep the annotations that documents bring, one that is also found once.
        runtime: As for `Annotator.from_pretrained`.
        device: "cpu", "cuda", or "auto" for CUDA GPUs where there are any.
        batch_size: Documents that are annotated together; fewer where they are long.
        workers: Processes; by default one per GPU, or one per core where there is none.
        on_cluster: Run the workers on the Ray cluster that RAY_ADDRESS names, or on a local one; every machine must
            see files, models and `out` under the same paths.
        listener: Receives the progress (see `progress.Listener`).

    Raises:
        UserError: For whatever the user can fix, where `out` is in a folder of inputs, where no document could be
            annotated, and where another run is writing `out`.
        OSError: Where `out` cannot be written.

    Examples:
        >>> from compactbio import annotate_files
        >>> result = annotate_files("notes.txt", "entities.jsonl", models="tagger", workers=1)
        >>> result.documents, result.entities
        (2, {'Drug': 2})
    """
    end_as_import()
    place = output_path(out)
    check_has_name(place)
    output = OutputFiles(place, format_of(place, format))
    reading, lowest = Reading(text_field, input_format), (min_score, min_precision)
    named = several(inputs, "inputs")
    job = _prepare(named, models, reading, lowest, keep, runtime, device, batch_size, workers, listener, output.format)
    # In a folder of inputs, the output would be an input of the next run.
    refuse_inside(place, {*filter(Path.is_dir, map(Path, named)), *job.files})
    with locked(output.out):
        run = _Run(job, output, on_cluster)
        identity = run.identity()
        result = run.earlier(identity) or run.make(identity)
    job.note_unknown_words()
    return result


def stream(
    inputs: Paths,
    *,
    models: Paths,
    input_format: str | None = None,
    text_field: str | None = None,
    min_score: float = 0.0,
    min_precision: float | None = None,
    keep: bool = False,
    runtime: str = "auto",
    device: str = "auto",
    batch_size: int = 128,
    workers: int | None = None,
    listener: Listener | None = None,
) -> Iterator[Document | Failure]:
    """The same documents one by one as they are ready, in their order; nothing is written or kept."""
    reading, lowest = Reading(text_field, input_format), (min_score, min_precision)
    job = _prepare(inputs, models, reading, lowest, keep, runtime, device, batch_size, workers, listener)
    job.listener.note(", ".join(f"{model} on {used}" for model, used in job.runtime_by_model().items()))
    entries = shards.read_entries(job.files, replace(reading, passed_over=job.versions().passed_over))
    batches = shards.batches_of(entries, batch_size)
    done = ordered_results(start_worker, (job.settings,), batches, job.settings.workers)

    def results() -> Iterator[Document | Failure]:
        for batch in done:
            yield from batch
        job.note_unknown_words()

    return results()


_RESULT = TypeAdapter(AnnotatedFile)


@dataclass(frozen=True)
class _Job:
    """What is to be annotated, and how; nothing is loaded yet."""

    files: Sequence[Path]
    reading: Reading
    sources: Sequence[Source]
    settings: Settings
    listener: Listener

    def runtime_by_model(self) -> dict[str, str]:
        """The runtime of each model by its name, numbered where several models have the same."""
        found: dict[str, str] = {}
        for source, runtime in zip(self.sources, self.settings.runtimes, strict=True):
            name = source.public_name()
            same = sum(1 for known in found if known == name or known.startswith(f"{name} ("))
            found[f"{name} ({same + 1})" if same else name] = runtime
        return found

    def versions(self) -> Versions:
        """Which of PubMed's records are passed over, reported to the listener."""
        found = choose(self.files, self.reading, self.settings.workers, self.listener)
        if found.updated or found.deleted:
            self.listener.note(
                f"passed over: {found.updated:,} records replaced by newer ones of their PMIDs, "
                f"{found.deleted:,} withdrawn ones"
            )
        return found

    def note_unknown_words(self) -> None:
        """Report the models that do not say how the words of their training data were cut."""
        for source in self.sources:
            if sentence := unknown_words(source.config, source.public_name()):
                self.listener.note(sentence)


def _prepare(
    inputs: Paths,
    models: Paths,
    reading: Reading,
    lowest: tuple[float, float | None],
    keep: bool,
    runtime: str,
    device: str,
    batch_size: int,
    workers: int | None,
    listener: Listener | None,
    format: str = "jsonl",
) -> _Job:
    """Find the inputs and the models, and choose runtimes, processes and threads; `lowest`: score and precision."""
    score, precision = check_score(lowest[0]), plain(lowest[1])
    batch_size, [workers] = check_count("batch_size", batch_size), check_counts(workers=workers)
    names = tuple(check_named(name, "The name of a model") for name in several(models, "models"))
    if not names:
        raise UserError("Name at least one model to annotate with.", setting="model")
    listener = listening(listener)
    found = find_texts(several(inputs, "inputs"), reading.format)
    for note in found.notes():
        listener.note(note)
    processors = cores()
    with hardware.on_device(device):
        sources = find_taggers(names, runtime)
        if runtime == "fastest":
            listener.note("Choosing the fastest runtime ...")
        threads = max(1, processors // (workers or processors))
        chosen = tuple(runtimes.chosen(source, runtime, threads) for source in sources)
        gpus = hardware.gpus() if any(name in runtimes.TORCH for name in chosen) else ()
    for source, name in zip(sources, chosen, strict=True):
        for note in scoring_of(source, name, precision).notes:
            listener.note(note)
    count = workers or len(gpus) or processors
    threads = max(1, processors // count)
    settings = Settings(names, chosen, score, bool(keep), threads, count, batch_size, device, gpus, precision, format)
    return _Job(found.files, reading, sources, settings, listener)


class _Progress:
    """Reports how many documents are done, and of how many: counted where that is quick, else estimated from the
    groups that are done, and before the first is from the beginnings of some files."""

    def __init__(self, groups: Sequence[FileGroup], reading: Reading, listener: Listener) -> None:
        self._listener = listener
        self._bytes = sum(group.bytes for group in groups)
        self._documents = 0
        self._finished = (0, 0)  # documents and bytes of the groups that are done
        self._known, self._per_byte = 0, 0.0
        if self._bytes < _QUICKLY_COUNTED:
            with counting_left_out(quiet=True):  # what is left out is said as the documents are annotated
                self._known = sum(1 for group in groups for _ in shards.read_entries(group.files, reading))
        else:
            files = [path for group in groups for path in group.files]
            found = (records_per_byte(path, reading) for path in files[:: -(-len(files) // _SAMPLED)])
            self._per_byte = fmean([rate for rate in found if rate] or [0.0])

    def add(self, documents: int, finished_bytes: int = 0) -> None:
        """So many more documents are done, which end groups of so many bytes."""
        self._documents += documents
        if finished_bytes:
            self._finished = (self._documents, self._finished[1] + finished_bytes)
            self._per_byte = self._finished[0] / self._finished[1]
        left = self._per_byte * (self._bytes - self._finished[1])
        total = self._known or round(self._finished[0] + left)
        self._listener.step("documents", self._documents, total and max(total, self._documents))


@dataclass(frozen=True)
class _Run:
    job: _Job
    output: OutputFiles
    on_cluster: bool

    def identity(self) -> dict[str, Any]:
        """What must be the same for a run to be resumed."""
        settings = self.job.settings
        calibrations = [source.folder / calibration_file.NAME for source in self.job.sources]
        return {
            "models": [runtimes.digest(*one) for one in zip(self.job.sources, settings.runtimes, strict=True)],
            "tokenizers": [source.reading for source in self.job.sources],
            "types": [split_type(name)[0] for name in settings.models],
            "runtimes": list(settings.runtimes),
            "inputs": [[shown(path.name), digest(path)] for path in self.job.files],
            "text_field": self.job.reading.field,
            "input_format": self.job.reading.format,
            "min_score": settings.min_score,
            "min_precision": settings.min_precision,
            "calibrations": [file_digest(path) if path.is_file() else None for path in calibrations],
            "keep": settings.keep,
            "format": self.output.format,
        }

    def earlier(self, identity: dict[str, Any]) -> AnnotatedFile | None:
        """The result of an earlier run that wrote the output of the same."""
        out = self.output.out
        unfinished = self.output.unfinished() == {**identity, "cut": shards.CUT_VERSION}
        if not out.exists() or (unfinished and self.output.may_be_ours()):
            # With its shards still there, a run died after it wrote the output and before it wrote its record.
            return None
        record = self.output.recorded()
        # Older versions recorded no tokenizers, and no size.
        older = {key: value for key, value in identity.items() if key != "tokenizers"}
        whole = record.get("bytes") in (None, self.output.bytes())
        try:
            if record.get("identity") in (identity, older) and whole:
                return replace(_RESULT.validate_python(record.get("result")), state="already finished", out=str(out))
        except ValidationError:
            pass
        raise UserError(
            f"{out} exists and is not the output of this run, or was changed since; remove it, or choose another "
            "output.",
            setting="out",
        )

    def make(self, identity: dict[str, Any]) -> AnnotatedFile:
        """Annotate what no finished shard holds, then put the shards together."""
        job, output = self.job, self.output
        groups = shards.group_files(job.files)
        done = self._begin({**identity, "cut": shards.CUT_VERSION})
        versions = job.versions()
        reading = replace(job.reading, passed_over=versions.passed_over)
        progress = _Progress(groups, reading, job.listener)
        if done.damaged:
            job.listener.note(f"damaged files of finished work, which are made again: {done.damaged:,}")
        if done.documents:
            job.listener.note(f"resuming: {done.documents:,} documents are done already")
            progress.add(done.documents, sum(group.bytes for group in groups if done.complete(group)))
        left = [group for group in groups if not done.complete(group)]
        made: Iterator[tuple[int, Shard | None]]
        if self.on_cluster:
            made = ray_cluster.make_shards(left, done, reading, job.settings, output.shards)
        else:
            made = self._make_shards(left, done, reading)
        for count, shard in made:
            progress.add(count, groups[shard.group].bytes if shard and shard.last else 0)
        documents, failed, types = output.write()
        name, entities, used = output.out.name, dict(sorted(types.items())), job.runtime_by_model()
        result = AnnotatedFile(
            "finished", name, output.format, documents, entities, failed, used, versions.updated, versions.deleted
        )
        write_json(output.record, {"identity": identity, "bytes": output.bytes(), "result": asdict(result)})
        shutil.rmtree(output.shards)
        return replace(result, out=str(output.out))

    def _begin(self, identity: dict[str, Any]) -> FinishedShards:
        """Open the folder of shards; gives those that are finished."""
        folder = self.output.shards
        # A run that was refused before its first shard can be begun again as another.
        if self.output.unfinished() != identity and shards.shard_files(folder):
            raise UserError(
                f"{self.output.out}: {folder.name} beside it holds an unfinished run of other models, inputs or "
                f"settings, or its {self.output.identity.name} is damaged; resume it with those, choose another "
                "output, or remove that folder.",
                setting="out",
            )
        folder.mkdir(exist_ok=True)
        clean(folder)
        write_json(self.output.identity, identity)
        return FinishedShards(folder)

    def _make_shards(
        self, left: Sequence[FileGroup], done: FinishedShards, reading: Reading
    ) -> Iterator[tuple[int, Shard | None]]:
        """Write the shards that are left, in processes of this machine; gives the number of documents that have been
        annotated since, and each shard that is finished."""
        begun = deque[Shard]()  # of the batches that are being annotated, whose results come in their order

        def batches() -> Iterator[Sequence[Entry]]:
            for group in left:
                for shard, entries in shards.read_shards(group, reading, done.of(group)):
                    for batch in shards.batches_of(entries, self.job.settings.batch_size):
                        begun.append(shard)
                        yield batch

        made = ordered_results(start_worker, (self.job.settings,), batches(), self.job.settings.workers)
        with_shard = ((begun.popleft(), batch) for batch in made)
        for shard, results in groupby(with_shard, key=itemgetter(0)):
            lines: list[str] = []
            for _, batch in results:
                lines += [shards.to_line(result) for result in batch]
                yield len(batch), None
            shards.write_shard(self.output.shards / shard.file_name, lines)
            yield 0, shard
