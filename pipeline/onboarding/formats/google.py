"""Google's exports: Analytics 4, the Retail API and Merchant Center."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from pipeline.onboarding.flatten import Rows, by_row, explode, joined, rows
from pipeline.onboarding.formats.base import Format

_UNSET = ("(not set)", "(none)", "")


def _analytics(table: pa.Table, _: Mapping[str, pa.Table]) -> pa.Table:
    """One row for each item of each event; events without items say nothing of items and go."""
    source = rows(table)
    items = source.get("items")
    columns = {
        "event_name": source.text("event_name"),
        "event_timestamp": source.text("event_timestamp"),
        "user": source.text("user_id", "user_pseudo_id"),
        "transaction_id": _set(source.text("ecommerce.transaction_id", "transaction_id")),
        "search_term": _set(pc.coalesce(_parameter(source, "search_term"), source.text("search_term"))),
    }
    if items is None or not pa.types.is_list(items.type):  # flattened by the shop: a row an item
        element, parents = source, None
    else:
        parents, element = explode(items)
        columns = {name: column.take(pa.array(parents)) for name, column in columns.items()}
    fields = ("item_id", "item_name", "item_brand", "price", "quantity", "item_revenue")
    columns |= {name: _set(element.text(name)) for name in fields}
    levels = [_set(element.text(f"item_category{n}")) for n in ("", *range(2, 6))]
    columns["item_category"] = _set(joined(" > ", *levels))
    flat = pa.table(columns)
    return _once_an_order(flat)


def _once_an_order(flat: pa.Table) -> pa.Table:
    """Purchases without those that a reloaded page sent again: an order's first row of an item counts."""
    order = flat.column("transaction_id")
    number = pa.array(np.arange(flat.num_rows))
    alone = pc.if_else(pc.is_null(order), number.cast(pa.string()), order)
    keyed = pa.table({"t": flat.column("event_name"), "o": alone, "i": flat.column("item_id"), "n": number})
    first = keyed.group_by(["t", "o", "i"]).aggregate([("n", "min")]).column("n_min")
    return flat.take(pc.take(first, pc.array_sort_indices(first.combine_chunks())))


def _parameter(source: Rows, key: str) -> pa.Array:
    """The value of an event parameter, as text [rows]."""
    lists = source.get("event_params")
    count = source.table.num_rows
    if lists is None or not pa.types.is_list(lists.type):
        return pa.nulls(count, pa.string())
    parents, element = explode(lists)
    value = element.text("value.string_value", "value.int_value", "value.double_value")
    wanted = pc.equal(element.text("key"), key)
    return by_row(parents, pc.if_else(wanted, value, pa.scalar(None, pa.string())), count)


def _set(text: pa.Array) -> pa.Array:
    return pc.if_else(pc.is_in(text, pa.array(_UNSET)), pa.scalar(None, pa.string()), text)


def _retail_events(table: pa.Table, _: Mapping[str, pa.Table]) -> pa.Table:
    source = rows(table)
    columns = {
        "eventType": source.text("eventType"),
        "eventTime": source.text("eventTime"),
        "user": source.text("userInfo.userId", "visitorId"),
        "order": source.text("purchaseTransaction.id"),
        "searchQuery": source.text("searchQuery"),
    }
    details = source.get("productDetails")
    if details is None or not pa.types.is_list(details.type):
        empty = pa.nulls(0, pa.string())
        return pa.table({**dict.fromkeys(columns, empty), "product": empty, "quantity": empty})
    parents, element = explode(details)
    columns = {name: column.take(pa.array(parents)) for name, column in columns.items()}
    columns |= {"product": element.text("product.id"), "quantity": element.text("quantity")}
    return pa.table(columns)


def _retail_products(table: pa.Table, _: Mapping[str, pa.Table]) -> pa.Table:
    source = rows(table)
    resource = pc.replace_substring_regex(source.text("name"), r"^.*/products/", "")
    found = pa.table(
        {
            "id": pc.coalesce(source.text("id"), resource),
            "title": source.text("title"),
            "description": source.text("description"),
            "categories": source.text("categories"),
            "brands": source.text("brands"),
            "price": source.text("priceInfo.price"),
            "currencyCode": source.text("priceInfo.currencyCode"),
            "publishTime": source.text("publishTime"),
        }
    )
    collections = pc.fill_null(pc.equal(source.text("type"), "COLLECTION"), False)
    return found.filter(pc.invert(collections))


FORMATS = (
    Format(
        "Google Analytics 4 export",
        "events",
        ("event_name", "event_timestamp", "user_pseudo_id"),
        {
            "user_id": "user",
            "item_id": "item_id",
            "timestamp": "event_timestamp",
            "event_type": "event_name",
            "session_id": "transaction_id",
            "quantity": "quantity",
            "price": "price",
            "query": "search_term",
            "title": "item_name",
            "brand": "item_brand",
            "category": "item_category",
        },
        shape=_analytics,
        whole=True,
        zone="UTC",
        note="purchases that a reloaded page sent again count once",
    ),
    Format(
        "Google Retail API user events",
        "events",
        ("eventType", "visitorId"),
        {
            "user_id": "user",
            "item_id": "product",
            "timestamp": "eventTime",
            "event_type": "eventType",
            "session_id": "order",
            "quantity": "quantity",
            "query": "searchQuery",
        },
        shape=_retail_events,
        zone="UTC",
    ),
    Format(
        "Google Retail API products",
        "items",
        ("title",),
        {
            "item_id": "id",
            "title": "title",
            "description": "description",
            "category": "categories",
            "brand": "brands",
            "price": "price",
            "currency": "currencyCode",
            "added": "publishTime",
        },
        any_of=("priceInfo", "primaryProductId"),
        shape=_retail_products,
        zone="UTC",
    ),
    Format(
        "Google Merchant Center feed",
        "items",
        ("id", "title", "link", "image_link", "availability"),
        {
            "item_id": "id",
            "title": "title",
            "description": "description",
            "category": ("product_type", "google_product_category"),
            "brand": "brand",
            "price": "price",
        },
    ),
)
