"""One run at a time writes an output: a lock beside it, which the system takes back however the process ends."""

import hashlib
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from tempfile import gettempdir

from filelock import FileLock, Timeout

from compactbio.errors import UserError
from compactbio.records import atomic

_MOMENT = 0.2  # seconds; a lock that another process is just removing is free within


@contextmanager
def held(path: Path, *, seconds: float = _MOMENT) -> Iterator[None]:
    """Keep the file or folder `path`, whether it exists or not, to this process; what dead ones left of it is removed.

    The lock is `.NAME.lock` beside `path`, gone afterwards; where nothing may be written there, it stands among the
    system's temporary files. Raises UserError where another run has it for longer than `seconds`, OSError where the
    folder of `path` cannot be made.
    """
    place = path.resolve()
    place.parent.mkdir(parents=True, exist_ok=True)
    lock = FileLock(_file(place))
    try:
        lock.acquire(timeout=seconds)
    except Timeout:
        raise UserError(f"{path}: another run is writing it; wait until that ends, or name another place.") from None
    try:
        atomic.clean(place)
        yield
    finally:
        # While it is held: who has opened it already sees that its name is gone, and opens another.
        Path(lock.lock_file).unlink(missing_ok=True)
        lock.release()


def _file(place: Path) -> Path:
    beside = place.with_name(f".{place.name}.lock")
    try:
        beside.open("ab").close()
    except OSError:
        name = hashlib.sha256(os.fsencode(place)).hexdigest()[:16]
        return Path(gettempdir()) / f"compactbio-{os.getuid()}-{name}.lock"
    return beside
