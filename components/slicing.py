"""Groups of users by which models are judged."""

from __future__ import annotations

import numpy as np
import pandas as pd

from components import shop
from models import example_io
from models import features as F
from models.event_log import EventLog
from pipeline.config import Users

ACTIVITY = "activity"
# Upper limits, in past events, of the activity groups (the last one is open).
_ACTIVITY = ((10, "cold (<10)"), (300, "regular (10-299)"), (np.inf, "heavy (>=300)"))
_UNKNOWN = "unknown"


def user_slices(past: EventLog, users: Users | None, users_uri: str | None) -> dict[str, np.ndarray]:
    """The group of every user of a log, by slice.

    Args:
      past: the events that count for `activity`.
      users: the configuration's section.
      users_uri: the raw users artifact, None without a users table.

    Returns:
      slice -> object (str) [users of the log]: `activity`, and each attribute of the users
      table, sensitive ones included ("unknown" for users that the table lacks).
    """
    events = np.bincount(past.user, minlength=len(past.users))
    limits = [limit for limit, _ in _ACTIVITY]
    names = np.asarray([name for _, name in _ACTIVITY], object)
    slices = {ACTIVITY: names[np.searchsorted(limits, events, side="right")]}
    if users is not None and users_uri is not None:
        table = example_io.read_table(example_io.split_folder(users_uri, shop.USERS_SPLIT))
        row = pd.Index(example_io.first(table, F.USER_ID, "")).get_indexer(past.users)
        for name in users.categorical:
            values = np.append(example_io.first(table, name, _UNKNOWN), _UNKNOWN)
            slices[name] = values[row]  # -1, a user that the table lacks, is the appended one
    return slices
