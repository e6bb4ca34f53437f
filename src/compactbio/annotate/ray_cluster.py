"""The shards of a run, made on a Ray cluster by Ray Data: tasks that each read a group of files once, actors that
annotate its shards as they come. The result is the same as that of one process."""

import json
import logging
import re
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from compactbio.annotate import shards
from compactbio.annotate.shards import Entry, FileGroup, FinishedShards, Settings, Shard
from compactbio.documents import Document
from compactbio.errors import UserError
from compactbio.formats import Reading
from compactbio.formats.json_lines import document_of, serialise
from compactbio.formats.streams import Rejected

# How many workers may die of one shard; the cluster itself would try it forever.
_DEATHS = 3
_TRIES = ".tries"
_ACTORS_PER_READER = 8  # reading is some hundred times as fast as annotating


def make_shards(
    left: Sequence[FileGroup], done: FinishedShards, reading: Reading, settings: Settings, folder: Path
) -> Iterator[tuple[int, Shard]]:
    """Write the shards that `folder` lacks; gives the number of documents of each, as they are ready.

    All machines must see files, models and folder under the same paths. A worker that dies costs the shard that it was
    at, which another one makes.

    Raises:
        UserError: Without Ray, for a cluster that cannot be reached, for models that its machines cannot load, and for
            a shard whose workers die again and again.
    """
    try:
        import ray.data
    except ImportError:
        raise UserError("Ray is not installed: pip install 'compactbio[cluster]'.") from None
    if not left:
        return
    for tries in folder.glob(f"*{_TRIES}"):
        tries.unlink()
    resources = {"num_gpus": 1} if settings.gpus else {"num_cpus": settings.threads}
    groups = [
        {"number": one.number, "files": [str(path.absolute()) for path in one.files], "done": sorted(done.of(one))}
        for one in left
    ]
    try:
        if not ray.is_initialized():
            ray.init(log_to_driver=False, logging_level="critical")
            # Errors are reported below, in one sentence.
            logging.getLogger("ray.data").setLevel(logging.CRITICAL)
        with _one_block_per_row(ray.data.DataContext.get_current()):
            rows = (
                ray.data.from_items(groups, override_num_blocks=len(groups))
                .flat_map(
                    _read,
                    fn_args=(reading,),
                    compute=ray.data.TaskPoolStrategy(max(1, settings.workers // _ACTORS_PER_READER)),
                    num_cpus=0,
                )
                .map(
                    _Actor,
                    fn_constructor_args=(settings, str(folder.absolute())),
                    compute=ray.data.ActorPoolStrategy(min_size=1, max_size=settings.workers),
                    **resources,
                )
            )
            for row in rows.iter_rows():
                yield row["documents"], Shard(row["group"], row["number"], row["last"])
    except ConnectionError as error:
        raise UserError(f"The Ray cluster cannot be reached ({error}); check RAY_ADDRESS.") from None
    except ray.exceptions.RayError as error:
        raise UserError(_reason(error)) from error


@contextmanager
def _one_block_per_row(context: Any) -> Iterator[None]:
    """Within it an actor takes one shard at a time, which alone is lost with it; no progress is printed."""
    before = context.enable_progress_bars, context.target_max_block_size
    context.enable_progress_bars, context.target_max_block_size = False, 1
    try:
        yield
    finally:
        context.enable_progress_bars, context.target_max_block_size = before


def _reason(error: Exception) -> str:
    """What stopped a run on the cluster, in a sentence."""
    # Of what its workers raise, the cluster gives the text, after lines of their stacks.
    if raised := re.findall(rf"^{UserError.__module__}\.{UserError.__name__}: (.+)$", str(error), re.MULTILINE):
        return str(raised[-1])
    kind, first = type(error).__name__, str(error).partition("\n")[0]
    return f"The Ray cluster stopped the run ({kind}: {first}); run it again to resume, finished work is kept."


def _read(row: dict[str, Any], reading: Reading) -> Iterator[dict[str, Any]]:
    """Read a group once and give its shards."""
    group = FileGroup(row["number"], tuple(map(Path, row["files"])), 0)
    for shard, entries in shards.read_shards(group, reading, row["done"]):
        yield {**shard._asdict(), "entries": [_to_json(source, entry) for source, entry in entries]}


def _to_json(source: str, entry: Document | Rejected) -> str:
    more = (serialise(entry),) if isinstance(entry, Document) else (entry.place, entry.reason)
    return json.dumps([source, *more])


def _from_json(text: str) -> Entry:
    source, *more = json.loads(text)
    return source, document_of(json.loads(more[0])) if len(more) == 1 else Rejected(*more)


class _Actor:
    """Loads the models once, then annotates shards and writes them."""

    def __init__(self, settings: Settings, folder: str) -> None:
        self._folder, self._batch_size = Path(folder), settings.batch_size
        self._annotate = shards.start_worker(None, settings)

    def __call__(self, row: dict[str, Any]) -> dict[str, Any]:
        shard = Shard(row["group"], row["number"], row["last"])
        path = self._folder / shard.file_name
        # A worker may have died between writing its shard and reporting it.
        if not path.exists():
            tries = path.with_suffix(_TRIES)
            deaths = tries.stat().st_size if tries.exists() else 0
            if deaths == _DEATHS:
                raise UserError(
                    f"{deaths} workers died over shard {path.stem}, most likely for lack of memory; run it again with "
                    "fewer workers, finished work is kept."
                )
            with tries.open("ab") as file:
                file.write(b".")
            batches = shards.batches_of([_from_json(text) for text in row["entries"]], self._batch_size)
            lines = [shards.to_line(result) for batch in batches for result in self._annotate(batch)]
            shards.write_shard(path, lines)
        return {**shard._asdict(), "documents": len(row["entries"])}
