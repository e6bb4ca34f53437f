"""The parts of a run made on a Ray cluster by Ray Data: readers that each read a unit once, actors that annotate its
parts as they come. The result is that of one process."""

import json
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from compactbio.annotate import parts, work
from compactbio.annotate.parts import Entry, Finished, Place, Unit
from compactbio.documents import Document
from compactbio.errors import UserError
from compactbio.formats.documentlines import document_of, said
from compactbio.formats.problems import Rejected
from compactbio.formats.texts import Reading
from compactbio.records import atomic

# How often a part is tried again after its worker died; one that kills every worker must not go on forever.
_TRIES = 3
_FED = 8  # actors that one reader serves; reading is some hundred times as fast as annotating


def make_parts(
    left: Sequence[Unit],
    done: Finished,
    reading: Reading,
    settings: work.Settings,
    folder: Path,
    format: str,
) -> Iterator[tuple[int, Place | None]]:
    """Write the parts that `folder` lacks; gives the number of documents of each, as they are ready.

    All machines must see files, models and folder under the same paths. A worker that dies costs the part it was at,
    which another one makes. Raises UserError without Ray, for a cluster that cannot be reached, for models that its
    machines cannot load, and for a part whose workers die again and again.
    """
    try:
        import ray
    except ImportError:
        raise UserError("Ray is not installed: pip install 'compactbio[cluster]'.") from None
    if not left:
        return
    try:
        if not ray.is_initialized():
            ray.init(log_to_driver=False, logging_level="error")
        for row in _rows(ray, left, done, reading, settings, folder, format):
            yield row["documents"], Place(row["unit"], row["number"], row["last"])
    except ConnectionError as error:
        raise UserError(f"The Ray cluster cannot be reached ({error}); check RAY_ADDRESS.") from None
    except ray.exceptions.RayError as error:
        raise UserError(_why(error)) from error


def _rows(
    ray: Any,
    left: Sequence[Unit],
    done: Finished,
    reading: Reading,
    settings: work.Settings,
    folder: Path,
    format: str,
) -> Iterator[dict[str, Any]]:
    context = ray.data.DataContext.get_current()
    before = context.enable_progress_bars, context.target_max_block_size
    # A block a part: what an actor takes at once, and what is lost with it.
    context.enable_progress_bars, context.target_max_block_size = False, 1
    device = {"num_gpus": 1} if settings.devices else {"num_cpus": settings.threads}
    try:
        units = [
            {
                "number": unit.number,
                "files": [str(path.absolute()) for path in unit.files],
                "done": sorted(done.of(unit)),
            }
            for unit in left
        ]
        made = (
            ray.data.from_items(units, override_num_blocks=len(units))
            .flat_map(_read, fn_args=(reading,), concurrency=max(1, settings.workers // _FED), num_cpus=0)
            .map(
                _Actor,
                fn_constructor_args=(settings, str(folder.absolute()), format),
                concurrency=(1, settings.workers),
                max_task_retries=_TRIES,
                **device,
            )
        )
        yield from made.iter_rows()
    finally:
        context.enable_progress_bars, context.target_max_block_size = before


def _why(error: Exception) -> str:
    """What became of a run on the cluster, in a sentence."""
    cause: BaseException | None = error
    while cause is not None:
        if isinstance(cause, UserError):
            return str(cause)
        cause = getattr(cause, "cause", None) or cause.__cause__
    return (
        f"The workers of the cluster died again and again ({type(error).__name__}), most likely for lack of memory; "
        "run the same command again with fewer --workers, finished work is kept."
    )


def _read(row: dict[str, Any], reading: Reading) -> Iterator[dict[str, Any]]:
    """Read a unit once and give its parts."""
    unit = Unit(row["number"], tuple(map(Path, row["files"])), 0)
    for place, entries in parts.read(unit, reading, row["done"]):
        yield {**place._asdict(), "entries": [_packed(source, entry) for source, entry in entries]}


def _packed(source: str, entry: Document | Rejected) -> str:
    return json.dumps([source, said(entry)] if isinstance(entry, Document) else [source, entry.place, entry.reason])


def _unpacked(text: str) -> Entry:
    source, *more = json.loads(text)
    return source, document_of(json.loads(more[0])) if len(more) == 1 else Rejected(*more)


class _Actor:
    """Loads the models once, then annotates parts and writes them."""

    def __init__(self, settings: work.Settings, folder: str, format: str) -> None:
        self._folder, self._format = Path(folder), format
        self._annotate = work.start(None, settings)

    def __call__(self, row: dict[str, Any]) -> dict[str, Any]:
        place = Place(row["unit"], row["number"], row["last"])
        path = self._folder / place.name
        # A worker may have died between writing its part and saying so.
        if not path.exists():
            chunks = parts.chunks([_unpacked(text) for text in row["entries"]])
            lines = (work.line(one, self._format) for chunk in chunks for one in self._annotate(chunk))
            atomic.write_text(path, "".join(lines))
        return {**place._asdict(), "documents": len(row["entries"])}
