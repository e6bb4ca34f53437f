"""The parts of a run made on a Ray cluster by Ray Data: readers that each read a unit once, actors that annotate its
parts as they come. The result is that of one process."""

import json
import logging
import re
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from compactbio.annotate import run_units
from compactbio.annotate.run_units import Entry, Finished, Place, Unit
from compactbio.documents import Document
from compactbio.errors import UserError
from compactbio.files import write_text
from compactbio.formats import Reading
from compactbio.formats.json_lines import document_of, serialise
from compactbio.formats.streams import Rejected

# Workers that may die of a part; one that kills every worker must not be tried forever, as the cluster would.
_DEATHS = 3
_TRIES = ".tries"
_FED = 8  # actors that one reader serves; reading is some hundred times as fast as annotating


def make_parts(
    left: Sequence[Unit],
    done: Finished,
    reading: Reading,
    settings: run_units.Settings,
    folder: Path,
    format: str,
) -> Iterator[tuple[int, Place | None]]:
    """Write the parts that `folder` lacks; gives the number of documents of each, as they are ready.

    All machines must see files, models and folder under the same paths. A worker that dies costs the part it was at,
    which another one makes. Raises UserError without Ray, for a cluster that cannot be reached, for models that its
    machines cannot load, and for a part whose workers die again and again.
    """
    try:
        import ray.data
    except ImportError:
        raise UserError("Ray is not installed: pip install 'compactbio[cluster]'.") from None
    if not left:
        return
    for tries in folder.glob(f"*{_TRIES}"):
        tries.unlink()
    try:
        if not ray.is_initialized():
            ray.init(log_to_driver=False, logging_level="critical")
            # What goes wrong is said by us, in a sentence.
            logging.getLogger("ray.data").setLevel(logging.CRITICAL)
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
    settings: run_units.Settings,
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
            .flat_map(
                _read,
                fn_args=(reading,),
                compute=ray.data.TaskPoolStrategy(max(1, settings.workers // _FED)),
                num_cpus=0,
            )
            .map(
                _Actor,
                fn_constructor_args=(settings, str(folder.absolute()), format),
                compute=ray.data.ActorPoolStrategy(min_size=1, max_size=settings.workers),
                **device,
            )
        )
        yield from made.iter_rows()
    finally:
        context.enable_progress_bars, context.target_max_block_size = before


def _why(error: Exception) -> str:
    """What became of a run on the cluster, in a sentence."""
    # Of what its workers raise, the cluster gives the text, after lines of their stacks.
    if raised := re.findall(rf"^{UserError.__module__}\.{UserError.__name__}: (.+)$", str(error), re.MULTILINE):
        return str(raised[-1])
    first = str(error).partition("\n")[0]
    return f"The Ray cluster stopped the run ({type(error).__name__}: {first}); run it again, finished work is kept."


def _read(row: dict[str, Any], reading: Reading) -> Iterator[dict[str, Any]]:
    """Read a unit once and give its parts."""
    unit = Unit(row["number"], tuple(map(Path, row["files"])), 0)
    for place, entries in run_units.read(unit, reading, row["done"]):
        yield {**place._asdict(), "entries": [_packed(source, entry) for source, entry in entries]}


def _packed(source: str, entry: Document | Rejected) -> str:
    return json.dumps(
        [source, serialise(entry)] if isinstance(entry, Document) else [source, entry.place, entry.reason]
    )


def _unpacked(text: str) -> Entry:
    source, *more = json.loads(text)
    return source, document_of(json.loads(more[0])) if len(more) == 1 else Rejected(*more)


class _Actor:
    """Loads the models once, then annotates parts and writes them."""

    def __init__(self, settings: run_units.Settings, folder: str, format: str) -> None:
        self._folder, self._format = Path(folder), format
        self._annotate = run_units.start(None, settings)

    def __call__(self, row: dict[str, Any]) -> dict[str, Any]:
        place = Place(row["unit"], row["number"], row["last"])
        path = self._folder / place.name
        # A worker may have died between writing its part and saying so.
        if not path.exists():
            tries = path.with_suffix(_TRIES)
            deaths = tries.stat().st_size if tries.exists() else 0
            if deaths == _DEATHS:
                raise UserError(
                    f"{deaths} workers died over part {path.stem}, most likely for lack of memory; run the same "
                    "command again with fewer workers, finished work is kept."
                )
            with tries.open("ab") as file:
                file.write(b".")
            chunks = run_units.chunks([_unpacked(text) for text in row["entries"]])
            lines = (run_units.line(one, self._format) for chunk in chunks for one in self._annotate(chunk))
            write_text(path, "".join(lines))
        return {**place._asdict(), "documents": len(row["entries"])}
