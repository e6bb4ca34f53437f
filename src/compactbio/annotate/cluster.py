"""The parts of a run made on a Ray cluster by Ray Data, a part a task; the result is that of one process."""

from collections.abc import Sequence
from itertools import accumulate, islice
from pathlib import Path
from typing import Any

from compactbio.annotate import work
from compactbio.corpus.progress import Listener
from compactbio.errors import UserError
from compactbio.formats.texts import Reading
from compactbio.records import atomic


def make_parts(
    files: Sequence[Path],
    reading: Reading,
    settings: work.Settings,
    folder: Path,
    format: str,
    listener: Listener,
) -> None:
    """Write the parts that `folder` lacks. All machines must see files, models and folder under the same paths."""
    try:
        import ray
    except ImportError:
        raise UserError("Ray is not installed: pip install 'compactbio[cluster]'.") from None
    if not ray.is_initialized():
        ray.init(log_to_driver=False, logging_level="error")
    context = ray.data.DataContext.get_current()
    context.enable_progress_bars = False
    paths = [str(path.absolute()) for path in files]
    found = ray.data.from_items([{"file": path} for path in paths]).map(_counted, fn_args=(reading,)).take_all()
    counts = {row["file"]: row["documents"] for row in found}
    ends = list(accumulate(counts[path] for path in paths))
    total = ends[-1]
    numbers = range(-(-total // work.PART))
    todo = [number for number in numbers if not (folder / work.part_name(number)).exists()]
    if not todo:
        return
    tasks = [{"number": number, "pieces": _pieces(number, paths, ends)} for number in todo]
    made = ray.data.from_items(tasks, override_num_blocks=len(tasks)).map(
        _Worker,
        fn_constructor_args=(settings, str(folder.absolute()), reading, format),
        concurrency=(1, settings.workers),
        num_cpus=settings.threads,
    )
    done = len(numbers) - len(todo)
    for _ in made.iter_rows():
        done += 1
        listener.step("documents", min(done * work.PART, total), total)


def _counted(row: dict[str, Any], reading: Reading) -> dict[str, Any]:
    return {"file": row["file"], "documents": sum(1 for _ in work.entries([Path(row["file"])], reading))}


def _pieces(number: int, paths: Sequence[str], ends: Sequence[int]) -> list[dict[str, Any]]:
    """Which documents of which files make up a part."""
    first, last = number * work.PART, (number + 1) * work.PART
    found, start = [], 0
    for path, end in zip(paths, ends, strict=True):
        if start < last and end > first:
            found.append({"file": path, "from": max(first - start, 0), "to": min(last, end) - start})
        start = end
    return found


class _Worker:
    """An actor: loads the models once, then makes parts."""

    def __init__(self, settings: work.Settings, folder: str, reading: Reading, format: str) -> None:
        self._folder, self._reading, self._format = Path(folder), reading, format
        work.prepare(settings)

    def __call__(self, row: dict[str, Any]) -> dict[str, Any]:
        """Make one part and write it."""
        some = [
            entry
            for piece in row["pieces"]
            for entry in islice(work.entries([Path(piece["file"])], self._reading), piece["from"], piece["to"])
        ]
        chunks = (some[at : at + work.CHUNK] for at in range(0, len(some), work.CHUNK))
        lines = [work.line(one, self._format) for chunk in chunks for one in work.chunk(chunk)]
        atomic.write_text(self._folder / work.part_name(row["number"]), "".join(lines))
        return {"number": row["number"]}
