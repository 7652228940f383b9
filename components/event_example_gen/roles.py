"""The columns of the events table, and what each row of it says."""

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from components.common import tables
from components.common.columns import as_strings, to_micros
from components.common.tables import Chunk, Role
from schema.config import EventKinds, Events

#: What the id of a guest's session begins with as the id of a user.
GUEST = "guest-"


def roles(events: Events) -> list[Role]:
    """The columns of the events table by role."""
    columns = events.columns
    found = [
        Role(
            *("user_id", columns.user_id, "events.columns.user_id", "id"),
            required=events.guests == "refuse",
            advice="they may be guests: set events.guests to drop (leave them out) or own (each of their "
            "sessions is a user), or fill these rows",
        ),
        Role("item_id", columns.item_id, "events.columns.item_id", "id"),
        Role("timestamp", columns.timestamp, "events.columns.timestamp", "timestamp"),
    ]
    if columns.session_id:
        found.append(Role("session_id", columns.session_id, "events.columns.session_id", "id"))
    if columns.event_type:
        found.append(Role("event_type", columns.event_type, "events.columns.event_type", "category"))
    if columns.quantity:
        # Where a column says what the user did, only purchases need one: see `check_quantities`.
        required = not columns.event_type
        found.append(Role("quantity", columns.quantity, "events.columns.quantity", "number", required))
    if columns.value:
        # A missing value stays NaN: the schema check reports it with the other anomalies.
        found.append(Role("value", columns.value, "events.columns.value", "number", required=False))
    if columns.query:
        found.append(Role("query", columns.query, "events.columns.query", "category", required=False))
    for name, column in events.context.items():
        found.append(Role(f"context_{name}", column, f"events.context.{name}", "category", required=False))
    return found


def event_times(chunk: Chunk, events: Events) -> np.ndarray:
    """int64 [rows]: microseconds of each event."""
    return to_micros(chunk, next(role for role in roles(events) if role.name == "timestamp"))


def purchases(chunk: Chunk, events: Events, kinds: EventKinds) -> pa.Array:
    """bool [rows]: which rows are purchases, null where the type is missing."""
    if not events.columns.event_type:
        return pa.array(np.full(chunk.batch.num_rows, events.default_event_type in kinds.purchases))
    types = chunk.batch.column("event_type").dictionary_encode()
    known = pa.array(kinds.purchases, pa.string())
    return pc.is_in(as_strings(types.dictionary), known).take(types.indices)


def check_quantities(chunk: Chunk, events: Events, kinds: EventKinds) -> None:
    """Checks that each purchase has a quantity, where views and carts need none.

    Raises:
      DataError: a purchase without one.
    """
    if events.columns.quantity and events.columns.event_type:
        role = next(role for role in roles(events) if role.name == "quantity")
        tables.check_present(chunk, role, purchases(chunk, events, kinds))


def users(chunk: Chunk, events: Events) -> pa.Array:
    """User ids [rows]; with `events.guests: drop` null for guests, with `own` named by their session."""
    ids = chunk.batch.column("user_id")
    if events.guests == "refuse":
        return ids
    ids = as_strings(ids)
    ids = pc.if_else(tables.is_empty(ids), pa.scalar(None, pa.string()), ids)
    if events.guests == "own":
        sessions = as_strings(chunk.batch.column("session_id"))
        ids = pc.coalesce(ids, pc.binary_join_element_wise(GUEST, sessions, ""))
    return ids


def guests(chunk: Chunk, events: Events) -> np.ndarray:
    """bool [rows]: no user id."""
    ids = chunk.batch.column("user_id")
    if events.guests == "refuse":
        return np.zeros(len(ids), bool)
    missing = pc.or_(pc.is_null(ids), pc.fill_null(tables.is_empty(as_strings(ids)), False))
    return missing.to_numpy(zero_copy_only=False)


def counted(chunk: Chunk, events: Events, kinds: EventKinds) -> np.ndarray:
    """bool [rows]: the quantity is above the minimum, or there is none, or it is no purchase; and the row is
    of no guest to drop.
    """
    keep = np.ones(chunk.batch.num_rows, bool)
    if events.columns.quantity:
        quantity = chunk.batch.column("quantity").cast(pa.float64())
        keep = ~(quantity.to_numpy(zero_copy_only=False) <= events.min_quantity)
        if kinds.others:
            bought = pc.fill_null(purchases(chunk, events, kinds), False)
            keep |= ~bought.to_numpy(zero_copy_only=False)
    return keep & ~guests(chunk, events) if events.guests == "drop" else keep
