"""Teachers' outputs computed on several processes, or on a Ray cluster by Ray Data, into one cache."""

import logging
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from compactbio.documents import Document
from compactbio.errors import UserError
from compactbio.modeling import hardware, runtimes
from compactbio.processes import cores, ordered_results
from compactbio.training.soft_labels import Ensemble, Teacher
from compactbio.training.unlabelled import Texts


@dataclass(frozen=True)
class Work:
    """What each worker needs: the teachers, the folder of the cache, the device, and its number of threads."""

    teachers: tuple[Teacher, ...]
    cache: Path
    device: str
    threads: int


def work_of(teachers: tuple[Teacher, ...], workers: int) -> Work:
    """What each of `workers` workers on this machine needs."""
    device = "auto" if hardware.uses_gpu() else "cpu"
    return Work(teachers, runtimes.cache().absolute(), device, max(1, cores() // workers))


def on_processes(work: Work, chunks: Iterable[Sequence[Document]], workers: int) -> Iterator[int]:
    """Compute what the cache lacks on some processes; gives the number of documents of each chunk, in order."""
    return ordered_results(_start, (work,), chunks, workers)


def _start(_: int | None, work: Work) -> Callable[[Sequence[Document]], int]:
    torch.set_num_threads(work.threads)
    ensemble = Ensemble(work.teachers, work.cache)

    def fill(documents: Sequence[Document]) -> int:
        with hardware.on_device(work.device):
            ensemble.fill(documents)
        return len(documents)

    return fill


def on_cluster(work: Work, texts: Texts, workers: int) -> Iterator[int]:
    """The same for texts on a Ray cluster, in any order: each file is read by one task, its chunks are computed by
    actors.

    All machines must see the files, the models and the cache under the same paths. Raises UserError without Ray, and
    where the cluster cannot be reached or stops; what was computed is kept.
    """
    try:
        import ray.data
    except ImportError:
        raise UserError("Ray is not installed: pip install 'compactbio[cluster]'.", setting="cluster") from None
    resources = {"num_gpus": 1} if hardware.uses_gpu() else {"num_cpus": work.threads}
    try:
        if not ray.is_initialized():
            ray.init(log_to_driver=False, logging_level="critical")
            # Errors are reported below, in one sentence.
            logging.getLogger("ray.data").setLevel(logging.CRITICAL)
        ray.data.DataContext.get_current().enable_progress_bars = False
        rows = (
            ray.data.from_items([{"file": str(path.absolute())} for path in texts.files])
            .flat_map(_read, fn_args=(texts,), num_cpus=0)
            .map(
                _Actor,
                fn_constructor_args=(work,),
                compute=ray.data.ActorPoolStrategy(min_size=1, max_size=workers),
                **resources,
            )
        )
        for row in rows.iter_rows():
            yield row["documents"]
    except ConnectionError as error:
        raise UserError(f"The Ray cluster cannot be reached ({error}); check RAY_ADDRESS.") from None
    except ray.exceptions.RayError as error:
        first = str(error).strip().rpartition("\n")[2]
        raise UserError(
            f"The Ray cluster stopped the teachers ({first}); run the same command again, what they computed is kept."
        ) from error


def _read(row: dict[str, Any], texts: Texts) -> Iterator[dict[str, Any]]:
    """The chunks of a file."""
    for chunk in texts.of((Path(row["file"]),)).chunks():
        yield {"chunk": chunk}


class _Actor:
    """Computes chunks; it loads the teachers once."""

    def __init__(self, work: Work) -> None:
        self._fill = _start(None, work)

    def __call__(self, row: dict[str, Any]) -> dict[str, Any]:
        return {"documents": self._fill(list(row["chunk"]))}
