"""The metrics of a run: metrics.jsonl, TensorBoard event files, and progress lines."""

import contextlib
import json
import math
import time

import jax
from etils import epath
from tensorboardX.event_file_writer import EventsWriter
from tensorboardX.proto.event_pb2 import Event, SessionLog
from tensorboardX.summary import scalar

from jaxiqa.errors import NonFiniteError
from jaxiqa.files import json_text, write_bytes

_MAX_WAITING = 1000  # steps whose metrics may stay on the device
_PATIENCE = 60.0  # seconds without a progress line


class MetricLog:
    """Writes the metrics of a run. A resumed run continues the file as if it had never stopped.

    A full disk does not end the run: lines that cannot be written wait in memory until the next line is written.

    Args:
      workdir: folder of metrics.jsonl, and of the event files in `tensorboard/`.
      start: the step that the run starts from. Lines of later steps (written after the last save) are dropped.
      total: the step that the run ends at, to estimate the remaining time.
      batch_size: images in a step.

    Attributes:
      skipped: number of steps that changed nothing, because their loss or gradient was NaN or infinite
        (config.skip_nonfinite) or their gradient too large (config.optimizer.grad_skip_norm).
    """

    def __init__(self, workdir: epath.PathLike, start: int, total: int, batch_size: int):
        self._path = epath.Path(workdir) / "metrics.jsonl"
        self._start, self._total, self._batch_size = start, total, batch_size
        kept = [line for line in read_metrics(workdir) if line["step"] <= start] if start else []
        write_bytes(self._path, "".join(json_text(line) + "\n" for line in kept).encode())
        self._file = self._path.open("a")
        (epath.Path(workdir) / "tensorboard").mkdir(exist_ok=True)
        self._board = EventsWriter(str(epath.Path(workdir) / "tensorboard" / "events"), f".{start}")
        if start:  # TensorBoard then hides the later steps that were written before
            self._board.write_event(Event(step=start, session_log=SessionLog(status=SessionLog.START)))
        self._waiting = []  # (step, metrics) on the device that are not checked yet
        self.skipped = self._written = sum(line.get("skipped", 0) for line in kept)
        self._full = False
        self._mark = (start, time.monotonic())

    def write(self, step: int, **metrics: float) -> None:
        """Write one line of metrics.jsonl. Floats are read back bit for bit, and those that are NaN as None."""
        try:
            self._file.write(json_text({"step": step, **metrics}) + "\n")
            for name, value in metrics.items():
                self._board.write_event(Event(wall_time=time.time(), step=step, summary=scalar(name, value)))
            self._file.flush()
            self._board.flush()
            self._full = False
        except OSError as error:  # the buffers keep what is not written
            if not self._full:
                print(f"warning: {self._path} cannot be written ({error.strerror}); the next line tries again")
            self._full = True

    def write_step(self, last, every: int, must_be_finite: bool = False) -> None:
        """Write the metrics of every `every`-th step, with a progress line, which is also printed each minute.

        Call it for each step. The metrics of the steps in between stay on the device and are checked together.

        Args:
          last: (step, {"loss", "learning_rate", "grad_norm", ...}) on the device; None for nothing.
          every: steps between two lines.
          must_be_finite: check the metrics even if no line is due, because a checkpoint follows.

        Raises:
          NonFiniteError: a metric is NaN or infinite. It names the first such step.
        """
        if last is None:
            return
        self._waiting.append(last)
        if last[0] == self._start + 1:
            self._mark = (last[0], time.monotonic())  # the rate is that without the compilation
        if not (must_be_finite or last[0] % every == 0 or len(self._waiting) >= _MAX_WAITING):
            if time.monotonic() - self._mark[1] > _PATIENCE:
                self.progress(last[0], float(last[1]["loss"]), float(last[1]["learning_rate"]))
            return
        waiting, self._waiting = self._waiting, []
        for (step, _), values in zip(waiting, jax.device_get([metrics for _, metrics in waiting]), strict=True):
            metrics = {name: float(value) for name, value in values.items()}
            self.skipped += int(metrics.pop("skipped", 0))
            if not all(map(math.isfinite, metrics.values())) and not values.get("skipped"):
                raise NonFiniteError(
                    f"step {step}: loss {metrics['loss']}, gradient norm {metrics['grad_norm']}; the last checkpoint "
                    "is kept. Lower config.optimizer.learning_rate or look for a bad label",
                    step,
                )
        if step % every == 0:
            line = {name: value for name, value in metrics.items() if math.isfinite(value)}
            if self.skipped > self._written:
                line["skipped"], self._written = self.skipped - self._written, self.skipped
            self.write(step, **line)
            self.progress(step, metrics["loss"], metrics["learning_rate"])

    def progress(self, step: int, loss: float, learning_rate: float) -> None:
        """Print the progress line. Its rate is the mean since the last progress line; the first step has none."""
        (last_step, last_time), now = self._mark, time.monotonic()
        self._mark = (step, now)
        speed = ""
        if step > last_step:
            rate = (step - last_step) / max(now - last_time, 1e-9)
            speed = f"  {rate * self._batch_size:.1f} images/s  ETA {clock((self._total - step) / rate)}"
        print(f"step {step}/{self._total}  loss {loss:.4f}  lr {learning_rate:.2e}{speed}", flush=True)

    @contextlib.contextmanager
    def paused(self):
        """Exclude the time inside (an evaluation, a save) from the training rate."""
        paused_at = time.monotonic()
        yield
        step, mark = self._mark
        self._mark = (step, mark + time.monotonic() - paused_at)

    def close(self) -> None:
        """Flush and close the files."""
        for file in (self._file, self._board):
            with contextlib.suppress(OSError):
                file.close()


def read_metrics(workdir: epath.PathLike) -> list[dict]:
    """The lines of metrics.jsonl of a workdir, without a last line that a crash cut off."""
    path = epath.Path(workdir) / "metrics.jsonl"
    lines = path.read_text().splitlines() if path.exists() else []
    metrics = []
    for line in lines:
        try:
            metrics.append(json.loads(line))
        except ValueError:
            break
    return metrics


def curve(workdir: epath.PathLike, score: str) -> tuple[list[int], list[float], list[tuple[int, float]]]:
    """The curves in metrics.jsonl of a workdir: steps, their losses, and (step, value) of the metric `score`."""
    lines = read_metrics(workdir)
    logged = [line for line in lines if "loss" in line]
    scores = [(line["step"], line[score]) for line in lines if line.get(score) is not None]
    return [line["step"] for line in logged], [line["loss"] for line in logged], scores


def clock(seconds: float) -> str:
    """Hours, minutes and seconds, "1:02:03"."""
    minutes, seconds = divmod(round(seconds), 60)
    return f"{minutes // 60}:{minutes % 60:02d}:{seconds:02d}"
