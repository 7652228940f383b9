"""The time windows of a run: what is learned from, and what is predicted."""

from __future__ import annotations

import dataclasses
from typing import TYPE_CHECKING

import numpy as np

from schema import names as F
from schema.config import LabelWindows, Split

if TYPE_CHECKING:  # it needs TensorFlow
    from models.data.event_log import EventLog


@dataclasses.dataclass(frozen=True)
class Windows:
    """Which events are the past and which are the labels of an evaluation.

    Attributes:
      past: splits that models may learn from.
      future: the split that they are scored on.
      cutoff: unix seconds: everything before it is the past. With leave-one-out, where the future
        of one user is the past of another, the second after the last event.
      end: unix seconds: the future ends before it.
      by_time: whether the cutoff alone divides past and future (not leave-one-out).
    """

    past: tuple[str, ...]
    future: str
    cutoff: int
    end: int
    by_time: bool = True

    @classmethod
    def of(cls, examples: object, split: Split) -> Windows:
        """From the properties of EventExampleGen's artifact and the configuration.

        Args:
          examples: the Examples artifact.
          split: the configuration's section.
        """
        train_end, eval_end, data_end = (
            examples.get_int_custom_property(name) for name in ("train_end", "eval_end", "data_end")
        )
        return cls.between(train_end, eval_end, data_end, split)

    @classmethod
    def between(cls, train_end: int, eval_end: int, data_end: int, split: Split) -> Windows:
        """From the limits that EventExampleGen writes.

        Args:
          train_end, eval_end, data_end: unix seconds, as its artifact's properties of these names.
          split: the configuration's section.
        """
        by_time = split.strategy == "time"
        if split.evaluate_on == "test":
            return cls(("train", "eval"), "test", eval_end, data_end + 1, by_time)
        return cls(("train",), "eval", train_end, eval_end, by_time)

    @property
    def splits(self) -> tuple[str, ...]:
        """Past and future: the folders of a log for :meth:`divide`, in this order."""
        return (*self.past, self.future)

    def divide(self, log: EventLog) -> tuple[EventLog, EventLog]:
        """(past, future) of a log read from the folders of `splits`."""
        if self.by_time:
            return log.before(self.cutoff), log.between(self.cutoff, self.end)
        is_past = log.part < len(self.past)
        return log.where(is_past), log.where(~is_past)

    def moments(self, future: EventLog) -> np.ndarray:
        """When each user asks: the cutoff or, with leave-one-out, when their session begins.

        Args:
          future: the purchases of what :meth:`divide` gave.

        Returns:
          int64 [users of the log], unix seconds.
        """
        out = np.full(len(future.users), self.cutoff, np.int64)
        if not self.by_time:
            np.minimum.at(out, future.user, future.timestamp)
        return out

    def label_end(self, ranking: LabelWindows) -> int:
        """Unix seconds: what happens before it are the labels of those who ask at the cutoff.

        `window_days` after it, as in the ranker's label windows: a longer evaluation window would observe
        another quantity than the heads predict. The second at the very end counts, in which the last
        event of the data is. With leave-one-out the labels are one session of each user, whenever it is.

        Args:
          ranking: how long a label window is.
        """
        if not self.by_time:
            return self.end
        return min(self.end, self.cutoff + int(ranking.window_days * F.SECONDS_PER_DAY) + 1)

    def label_starts(self, ranking: LabelWindows) -> list[int]:
        """Starts of the ranker's label windows, oldest first, in unix seconds.

        Window i spans `window_days` and the last one ends at the cutoff.

        Args:
          ranking: how many there are and how long each is.
        """
        return list(self.tasks_by_start(ranking))

    def tasks_by_start(self, ranking: LabelWindows) -> dict[int, tuple[str, ...]]:
        """Start of every label window, oldest first -> the tasks whose lists it gives."""
        length = int(ranking.window_days * F.SECONDS_PER_DAY)
        counts = ranking.windows_of_tasks
        return {
            self.cutoff - length * back: tuple(task for task, count in counts.items() if back <= count)
            for back in range(max(counts.values()), 0, -1)
        }


def session_limits(
    train_end: int, eval_end: int, data_end: int, split: Split, ranking: LabelWindows
) -> list[int]:
    """The moments at which a session is cut, ascending, in unix seconds.

    A session's events all count as of its start. One that went on over the start of a label window would
    give what happens in the window to what was known before, and one that went on over its end would give
    labels of later. So it ends at each moment up to which anything is known or labelled, whichever
    window (`split.evaluate_on`) is scored.

    Args:
      train_end, eval_end, data_end, split: as of :meth:`Windows.between`.
      ranking: the label windows.
    """
    limits = {train_end, eval_end}
    for scored in ("eval", "test"):
        chosen = split.model_copy(update={"evaluate_on": scored})
        windows = Windows.between(train_end, eval_end, data_end, chosen)
        limits |= {windows.label_end(ranking), *windows.label_starts(ranking)}
    return sorted(limits)
