"""Merges concurrent requests of one signature into batches, and splits the answers again.

A request whose inputs have other shapes than the signature declares runs alone.

Every input has the batch in its first dimension, or is a scalar; scalars must be equal for
requests to share a batch. With `pad_variable_length_inputs` the other dimensions may
differ: they are filled with "" and 0, which is how this project's models mark what is not
there. (TensorFlow Serving fills with the request's first value, and refuses scalars.)

An answer must not show that others were in the batch: outputs that grew with the padding, or with
another request's larger `k`, are cut back to the sizes that `output_sizes` has learned.
"""

from __future__ import annotations

import collections
import contextlib
import dataclasses
import os
import threading
import time
import weakref
from collections.abc import Sequence

import numpy as np

from serving.model_server.core import predictor, tensors, workers
from serving.model_server.core.errors import Code, StatusError
from serving.model_server.core.metrics import Metrics
from serving.model_server.core.output_sizes import OutputSizes
from serving.model_server.core.predictor import Arrays, Executor
from serving.model_server.core.servable import Servable


@dataclasses.dataclass(frozen=True)
class Batching:
    """How requests are merged; names and defaults are those of TF Serving's BatchingParameters.

    Attributes:
      max_batch_size: rows of a merged batch at most.
      batch_timeout_micros: how long the first request waits for company.
      max_enqueued_batches: batches that may wait; more requests get UNAVAILABLE.
      num_batch_threads: batches that run at the same time; 0 for one a core.
      allowed_batch_sizes: a batch is padded with copies of a row to the next of these sizes.
      pad_variable_length_inputs: requests of different inner sizes may share a batch.
    """

    max_batch_size: int = 1000
    batch_timeout_micros: int = 0
    max_enqueued_batches: int = 10
    num_batch_threads: int = 0
    allowed_batch_sizes: tuple[int, ...] = ()
    pad_variable_length_inputs: bool = False


@dataclasses.dataclass(eq=False)
class _Task:
    servable: Servable
    signature: str
    inputs: Arrays
    rows: int
    deadline: float | None
    arrived: float
    # Held until the task has ended; cheaper than an Event.
    ended: threading.Lock = dataclasses.field(default_factory=threading.Lock)
    outputs: Arrays | None = None
    error: Exception | None = None
    abandoned: bool = False

    def inner(self) -> dict[tuple[str, int], int]:
        """Size of each dimension but the first, by (input, axis)."""
        return {
            (name, axis): value.shape[axis]
            for name, value in self.inputs.items()
            for axis in range(1, value.ndim)
        }


class Batcher:
    """Runs signatures in batches; call it as a `predictor.Executor`.

    Args:
      config: sizes and times.
      run: what runs a signature.
      metrics: counts batches and waiting times.
    """

    def __init__(self, config: Batching, run: Executor, metrics: Metrics) -> None:
        self._config = config
        self._run = run
        self._metrics = metrics
        self._timeout = config.batch_timeout_micros / 1e6
        self._changed = threading.Condition()
        self._queues: dict[object, collections.deque[_Task]] = {}
        self._shapes: weakref.WeakKeyDictionary[Servable, dict[str, OutputSizes]] = (
            weakref.WeakKeyDictionary()
        )
        for number in range(config.num_batch_threads or os.cpu_count() or 1):
            self._begin_thread(number)

    def __call__(
        self, servable: Servable, signature: str, inputs: Arrays, deadline: float | None = None
    ) -> Arrays:
        """Runs a request, alone or with others.

        Raises:
          StatusError: UNAVAILABLE when too many wait; DEADLINE_EXCEEDED; else as
            `predictor.execute`.
        """
        rows = _rows(inputs)
        shapes = self._shapes_of(servable, signature)
        specs = servable.signatures[signature].inputs
        unusual = not all(tensors.fits(value.shape, specs[name]) for name, value in inputs.items())
        if unusual or rows is None or rows > self._config.max_batch_size or not shapes.batchable:
            return self._run(servable, signature, inputs, deadline)
        task = _Task(servable, signature, inputs, rows, deadline, time.monotonic())
        task.ended.acquire()
        self._enqueue(task)
        wait = -1 if deadline is None else max(deadline - time.monotonic(), 0)
        if not task.ended.acquire(timeout=wait):
            task.abandoned = True
            raise StatusError(
                Code.DEADLINE_EXCEEDED, "the deadline passed in the batching queue or the graph"
            )
        if task.error is not None:
            raise task.error
        return task.outputs

    def _shapes_of(self, servable: Servable, signature: str) -> OutputSizes:
        by_signature = self._shapes.get(servable)
        if by_signature is None:
            with self._changed:
                by_signature = self._shapes.setdefault(servable, {})
        return by_signature.setdefault(signature, OutputSizes())

    def _enqueue(self, task: _Task) -> None:
        key = (id(task.servable), task.signature, _company(task, self._config.pad_variable_length_inputs))
        with self._changed:
            queue = self._queues.setdefault(key, collections.deque())
            waiting = sum(other.rows for other in queue)
            if waiting + task.rows > self._config.max_enqueued_batches * self._config.max_batch_size:
                raise StatusError(
                    Code.UNAVAILABLE, "The batch scheduling queue to which this task was submitted is full"
                )
            queue.append(task)
            self._changed.notify()

    def _begin_thread(self, number: int) -> None:
        threading.Thread(target=self._work, args=(number,), name=f"batch-{number}", daemon=True).start()

    def _work(self, number: int) -> None:
        while True:
            for _ in range(workers.LIFETIME):  # see there why a thread ends
                self._run_next()
            with contextlib.suppress(RuntimeError):  # the system gives no thread now
                self._begin_thread(number)
                return

    def _run_next(self) -> None:
        tasks = self._next()
        begun = time.monotonic()
        for task in tasks:
            self._metrics.queued("batch", begun - task.arrived)
        try:
            self._process(tasks)
        except BaseException as error:  # a waiting request must hear of whatever it was
            _end(tasks, error=error)

    def _next(self) -> list[_Task]:
        """Waits for a batch that is full or has waited long enough, and takes it."""
        with self._changed:
            while True:
                now = time.monotonic()
                due = None
                chosen: object = None
                for key, queue in self._queues.items():
                    ready = queue[0].arrived + self._timeout
                    if sum(task.rows for task in queue) >= self._config.max_batch_size:
                        ready = min(ready, now)
                    if due is None or ready < due:
                        due, chosen = ready, key
                if due is None or due > now:
                    self._changed.wait(None if due is None else due - now)
                    continue
                queue = self._queues[chosen]
                tasks, rows = [], 0
                while queue and rows + queue[0].rows <= self._config.max_batch_size:
                    task = queue.popleft()
                    if task.abandoned:
                        continue
                    tasks.append(task)
                    rows += task.rows
                if not queue:
                    del self._queues[chosen]
                elif self._timeout == 0:
                    self._changed.notify()
                if tasks:
                    return tasks

    def _process(self, tasks: Sequence[_Task]) -> None:
        alive = []
        for task in tasks:
            try:
                predictor.check_deadline(task.deadline)
                alive.append(task)
            except StatusError as error:
                _end([task], error=error)
        if not alive:
            return
        shapes = self._shapes_of(alive[0].servable, alive[0].signature)
        groups: dict[object, list[_Task]] = {}
        for task in alive:
            sizes = tuple(sorted(task.inner().items()))
            groups.setdefault((sizes, shapes.wanted(task.inputs)), []).append(task)
        if len(groups) > 1:
            expected = [shapes.predict(task.inputs) for task in alive]
            if None not in expected and self._run_merged(alive, shapes, expected):
                return
        for group in groups.values():
            if not (len(group) > 1 and self._run_merged(group, shapes, None)):
                self._run_each(group, shapes)

    def _run_each(self, tasks: Sequence[_Task], shapes: OutputSizes) -> None:
        for task in tasks:
            try:
                self._metrics.batch(task.rows)
                inputs = self._to_allowed_size(task.inputs, task.rows) if shapes.batchable else task.inputs
                outputs = self._run(task.servable, task.signature, inputs, task.deadline)
                if inputs is not task.inputs:
                    outputs = {name: value[: task.rows] for name, value in outputs.items()}
                if any(value.ndim == 0 or len(value) != task.rows for value in outputs.values()):
                    shapes.batchable = False
                    if inputs is not task.inputs:
                        outputs = self._run(task.servable, task.signature, task.inputs, task.deadline)
                else:
                    shapes.learn(task.inputs, outputs)
                _end([task], outputs=outputs)
            except Exception as error:
                _end([task], error=error)

    def _run_merged(
        self,
        tasks: Sequence[_Task],
        shapes: OutputSizes,
        expected: Sequence[dict[tuple[str, int], int]] | None,
    ) -> bool:
        """Runs tasks as one; False when they have to run without each other.

        Args:
          tasks: two or more; of different sizes, of inputs or wanted, only with `expected`.
          shapes: of their signature.
          expected: sizes of each task's outputs, when the inputs are padded.
        """
        if not shapes.batchable:
            return False
        rows = sum(task.rows for task in tasks)
        first = tasks[0]
        merged = {
            name: value if value.ndim == 0 else _concatenate([task.inputs[name] for task in tasks])
            for name, value in first.inputs.items()
        }
        self._metrics.batch(rows)
        try:
            # No deadline: the batch is for several. Those who left are not waited for.
            outputs = self._run(first.servable, first.signature, self._to_allowed_size(merged, rows), None)
        except StatusError:
            return False  # one of them may be at fault; each shall hear its own error
        outputs = {name: value[:rows] if value.ndim else value for name, value in outputs.items()}
        if any(value.ndim == 0 or len(value) != rows for value in outputs.values()):
            shapes.batchable = False
            return False
        if expected is None:
            shapes.learn(merged, outputs)
        elif shapes.predict(merged) != {
            (name, axis): value.shape[axis]
            for name, value in outputs.items()
            for axis in range(1, value.ndim)
        }:
            return False
        start = 0
        for number, task in enumerate(tasks):
            own = {name: value[start : start + task.rows] for name, value in outputs.items()}
            if expected is not None:
                own = {name: _cut(name, value, expected[number]) for name, value in own.items()}
            start += task.rows
            _end([task], outputs=own)
        return True

    def _to_allowed_size(self, inputs: Arrays, rows: int) -> Arrays:
        wanted = next((size for size in self._config.allowed_batch_sizes if size >= rows), rows)
        if wanted == rows or rows == 0:
            return inputs
        return {
            name: value
            if value.ndim == 0
            else np.concatenate([value, value[:1].repeat(wanted - rows, axis=0)])
            for name, value in inputs.items()
        }


def _rows(inputs: Arrays) -> int | None:
    """The batch size; None when the inputs have none, or not the same."""
    sizes = {len(value) for value in inputs.values() if value.ndim}
    return sizes.pop() if len(sizes) == 1 else None


def _company(task: _Task, padding: bool) -> object:
    """What must be equal for two requests to share a batch."""
    scalars = tuple(sorted((name, value.item()) for name, value in task.inputs.items() if value.ndim == 0))
    if padding:
        # Nothing can be taken from an empty dimension, and nothing added to it means nothing.
        return scalars, tuple(sorted(place for place, size in task.inner().items() if size == 0))
    return scalars, tuple(sorted(task.inner().items()))


def _concatenate(values: Sequence[np.ndarray]) -> np.ndarray:
    inner = [max(sizes) for sizes in zip(*(value.shape[1:] for value in values), strict=True)]
    shape = (sum(len(value) for value in values), *inner)
    filling = b"" if values[0].dtype == object else 0
    merged = np.full(shape, filling, values[0].dtype)
    start = 0
    for value in values:
        place = (slice(start, start + len(value)), *(slice(size) for size in value.shape[1:]))
        merged[place] = value
        start += len(value)
    return merged


def _cut(name: str, value: np.ndarray, sizes: dict[tuple[str, int], int]) -> np.ndarray:
    return value[(slice(None), *(slice(sizes[name, axis]) for axis in range(1, value.ndim)))]


def _end(tasks: Sequence[_Task], outputs: Arrays | None = None, error: BaseException | None = None) -> None:
    for task in tasks:
        if task.outputs is None and task.error is None:
            task.outputs, task.error = outputs, error
            task.ended.release()
