"""Speed and memory of encoders on random tokens; run as a module, this is the process whose memory is measured."""

import json
import statistics
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass

import torch
from safetensors import SafetensorError
from transformers import AutoModel, PreTrainedModel

from compactbio.corpus.progress import Listener
from compactbio.errors import UserError
from compactbio.modeling.families import depth, device_of
from compactbio.modeling.packing import Packed, encode
from compactbio.modeling.sharing import building
from compactbio.training.hardware import peak
from compactbio.training.loading import Source, find, quiet

ROUNDS = 5
_PASSES = 6  # single sentences a round
_SEED = 0


@dataclass(frozen=True)
class Conditions:
    """What the models are run on, and how.

    `precision` is that of weights and arithmetic, "bf16" or "fp32". Latency is taken on one sentence of
    `latency_tokens`, throughput and memory on `sentences` of `sentence_tokens` each, packed end to end.
    """

    processor: str
    device: str
    threads: int
    precision: str
    torch: str
    latency_tokens: int
    sentence_tokens: int
    sentences: int


@dataclass(frozen=True)
class Times:
    """Seconds that one model took: of every single sentence, and of every batch."""

    single: list[float]
    batch: list[float]

    @property
    def seconds_a_sentence(self) -> float:
        """The median of a single sentence, in seconds."""
        return statistics.median(self.single)

    @property
    def slow_sentence(self) -> float:
        """What 95 % of the single sentences stayed below, in seconds."""
        return statistics.quantiles(self.single, n=20, method="inclusive")[-1]

    @property
    def seconds_a_batch(self) -> float:
        """The median of a batch, in seconds."""
        return statistics.median(self.batch)


@contextmanager
def threads(count: int) -> Iterator[None]:
    """Within it torch computes with `count` threads."""
    before = torch.get_num_threads()
    torch.set_num_threads(count)
    try:
        yield
    finally:
        torch.set_num_threads(before)


def load(source: Source, precision: str) -> PreTrainedModel:
    """The encoder of a source without pooler and head, on the device, in eval mode, weights in `precision`.

    Raises UserError for weights that cannot be read, or that are not those of the configuration.
    """
    try:
        with building(None), quiet():
            model, report = AutoModel.from_pretrained(
                source.folder,
                dtype=torch.bfloat16 if precision == "bf16" else torch.float32,
                use_safetensors=True,
                trust_remote_code=False,
                local_files_only=True,
                output_loading_info=True,
            )
    except (OSError, SafetensorError, RuntimeError, ValueError) as error:
        reason = str(error).strip().partition("\n")[0][:200]
        raise UserError(f"{source.name}: its weights cannot be read ({reason}); fetch or save it again.") from None
    lost = sorted(key for key in report["missing_keys"] if not key.startswith("pooler."))
    if lost:
        raise UserError(
            f"{source.name}: its config.json describes weights that are not there ({lost[0]}, {len(lost)} in all); "
            "name a folder whose configuration and weights belong together."
        )
    if hasattr(model, "pooler"):
        model.pooler = None
    return model.to("cuda" if torch.cuda.is_available() else "cpu")


def random_batch(model: PreTrainedModel, sentences: int, length: int) -> Packed:
    """`sentences` of `length` tokens each, drawn from the model's vocabulary; the same ones at every call."""
    generator = torch.Generator().manual_seed(_SEED)
    rows = list(torch.randint(model.config.vocab_size, (sentences, length), generator=generator))
    return Packed.from_rows(rows, [torch.full_like(row, -100) for row in rows]).to(device_of(model))


def take_times(
    models: Sequence[PreTrainedModel], conditions: Conditions, rounds: int, listener: Listener
) -> list[Times]:
    """Time the models in turns, `rounds` times over, so that what else the machine does hits all alike.

    A first turn, in which kernels are chosen and memory is taken, does not count.
    """
    singles = [random_batch(model, 1, conditions.latency_tokens) for model in models]
    batches = [random_batch(model, conditions.sentences, conditions.sentence_tokens) for model in models]
    times = [Times([], []) for _ in models]
    for model, single, batch in zip(models, singles, batches, strict=True):
        _seconds(model, single)
        _seconds(model, batch)
    for done in range(1, rounds + 1):
        for model, single, batch, taken in zip(models, singles, batches, times, strict=True):
            taken.single.extend(_seconds(model, single) for _ in range(_PASSES))
            taken.batch.append(_seconds(model, batch))
        listener.step("rounds", done, rounds)
    return times


def peak_memory(source: Source, conditions: Conditions) -> int:
    """Bytes by which loading a model and running one batch raise the peak of a fresh process.

    What the libraries take before the model is loaded is not counted. On CUDA it is the device's memory instead.
    """
    task = json.dumps([str(source.folder), asdict(conditions)])
    # In a session of its own, so that Ctrl-C is answered by this process alone, which then ends the other.
    child = subprocess.run(
        [sys.executable, "-m", "compactbio.deploy.measuring", task],
        stdout=subprocess.PIPE,
        check=True,
        start_new_session=True,
    )
    return int(child.stdout)


def _measure_own_memory() -> None:
    folder, fields = json.loads(sys.argv[1])
    conditions = Conditions(**fields)
    before = peak()
    with threads(conditions.threads):
        model = load(find(folder), conditions.precision)
        _seconds(model, random_batch(model, conditions.sentences, conditions.sentence_tokens))
    sys.stdout.write(str(peak() - before))


def _seconds(model: PreTrainedModel, batch: Packed) -> float:
    with torch.inference_mode():
        _wait()
        began = time.perf_counter()
        encode(model, batch, {depth(model)}, set())
        _wait()
    return time.perf_counter() - began


def _wait() -> None:
    if torch.cuda.is_available():
        torch.cuda.synchronize()


if __name__ == "__main__":
    _measure_own_memory()
