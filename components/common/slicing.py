"""Groups of users and of items by which models are judged."""

from __future__ import annotations

import numpy as np
import pandas as pd

from components.common import artifacts
from models.data import example_io
from models.data.event_log import EventLog
from models.data.item_table import ItemTable
from schema import names as F
from schema.config import Users

ACTIVITY = "activity"
# Upper limits, in past events, of the activity groups (the last one is open).
_ACTIVITY = ((10, "cold (<10)"), (300, "regular (10-299)"), (np.inf, "heavy (>=300)"))
_UNKNOWN = "unknown"
PRICE_BAND = "price_band"
_BANDS = 4


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
        table = example_io.read_table(example_io.split_folder(users_uri, artifacts.USERS_SPLIT))
        row = pd.Index(example_io.first(table, F.USER_ID, "")).get_indexer(past.users)
        for name in users.categorical:
            values = np.append(example_io.first(table, name, _UNKNOWN), _UNKNOWN)
            slices[name] = values[row]  # -1, a user that the table lacks, is the appended one
    return slices


def item_slices(past: EventLog, items: ItemTable, names: list[str]) -> dict[str, np.ndarray]:
    """The group of every item of a log, by slice.

    Args:
      past: events; the values and quantities of the purchases give the price.
      items: the catalogue.
      names: categorical attributes.

    Returns:
      slice -> object (str) [items of the log]: each attribute, and `price_band`, quarters of the
      items by mean price ("1 (up to 1.49)"); "unknown" where the catalogue or the price lacks.
    """
    row = past.item_rows(items.item_id)
    slices = {}
    for name in names:
        value = np.append(items.vocabularies[name][items.categorical[name]], "")[row]
        slices[name] = np.where(value == "", _UNKNOWN, value)
    bought = past.purchases
    quantity = np.bincount(bought.item, bought.quantity, minlength=len(past.items))
    value = np.bincount(bought.item, bought.value, minlength=len(past.items))
    priced = (quantity > 0) & (value > 0)
    price = np.divide(value, quantity, out=np.zeros(len(value)), where=priced)
    bands = np.full(len(price), _UNKNOWN, object)
    if priced.any():
        limits = np.quantile(price[priced], np.arange(1, _BANDS) / _BANDS)
        labels = [f"{band + 1} (up to {limit:.2f})" for band, limit in enumerate(limits)]
        labels = np.asarray([*labels, f"{_BANDS} (above {limits[-1]:.2f})"], object)
        bands[priced] = labels[np.searchsorted(limits, price[priced])]
    return slices | {PRICE_BAND: bands}
