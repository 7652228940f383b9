"""Logs of public research data, and Amazon Personalize."""

from __future__ import annotations

import datetime as dt
from collections.abc import Mapping

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from pipeline.onboarding.flatten import joined, rows
from pipeline.onboarding.formats.base import Format
from schema.errors import DataError

_DAY = 86_400
_LAST = int(dt.datetime(2017, 1, 1, tzinfo=dt.UTC).timestamp())


def _rees46(table: pa.Table, _: Mapping[str, pa.Table]) -> pa.Table:
    """A category's names are divided by points, as others are by ">"; a price of 0 or less is none."""
    source = rows(table)
    columns = {name: source.text(name) for name in ("event_time", "product_id", "brand", "price", "user_id")}
    price = pc.match_substring_regex(columns["price"], r"^(-|0*\.?0*$)")
    code = source.text("category_code")
    return pa.table(
        {
            **columns,
            "event_type": pc.fill_null(source.text("event_type"), "purchase"),
            "user_session": source.text("user_session", "order_id"),
            "price": pc.if_else(pc.fill_null(price, False), pa.scalar(None, pa.string()), columns["price"]),
            "category_code": pc.replace_substring(pc.replace_substring(code, ".", " > "), "_", " "),
        }
    )


def _retailrocket_items(table: pa.Table, _: Mapping[str, pa.Table]) -> pa.Table:
    """The latest category of each item; other properties are hashes."""
    source = rows(table)
    found = pa.table(
        {
            "itemid": source.text("itemid"),
            "categoryid": pc.binary_join_element_wise("category", source.text("value"), " "),
            "time": source.text("timestamp").cast(pa.int64()),
        }
    ).filter(pc.equal(source.text("property"), "categoryid"))
    latest = found.sort_by("time").group_by("itemid", use_threads=False).aggregate([("categoryid", "last")])
    return latest.rename_columns({"categoryid_last": "categoryid"})


def _instacart(table: pa.Table, others: Mapping[str, pa.Table]) -> pa.Table:
    """Lines with the order's user and a time; orders have no date, but the days since the one before."""
    if "orders" not in others:
        raise DataError(
            "Instacart: order_products needs orders.csv (order_id, user_id, ...); give both files"
        )
    lines, orders = rows(table), rows(others["orders"])
    numbers = {
        name: pc.fill_null(orders.text(name).cast(pa.float64()), 0).to_numpy()
        for name in ("order_number", "days_since_prior_order", "order_hour_of_day")
    }
    users = orders.text("user_id").dictionary_encode().indices.to_numpy()
    by_user = np.lexsort((numbers["order_number"], users))
    days = np.cumsum(numbers["days_since_prior_order"][by_user])
    last = np.r_[np.flatnonzero(np.diff(users[by_user])), len(users) - 1]
    # counted back, so that the last order of every user is on the same day
    back = np.repeat(days[last], np.diff(np.r_[-1, last])) - days
    seconds = np.empty(len(users), np.int64)
    seconds[by_user] = (_LAST - back * _DAY + numbers["order_hour_of_day"][by_user] * 3600).astype(np.int64)
    place = pc.index_in(lines.text("order_id"), orders.text("order_id"))
    return pa.table(
        {
            "order_id": lines.text("order_id"),
            "product_id": lines.text("product_id"),
            "user_id": orders.text("user_id").take(place),
            "time": pa.array(seconds).take(place),
        }
    ).filter(pc.is_valid(place))


def _instacart_products(table: pa.Table, others: Mapping[str, pa.Table]) -> pa.Table:
    source = rows(table)
    columns = {name: source.text(name) for name in ("product_id", "product_name")}
    for name in ("department", "aisle"):
        key = source.text(f"{name}_id")
        if f"{name}s" in others:
            other = rows(others[f"{name}s"])
            key = other.text(name).take(pc.index_in(key, other.text(f"{name}_id")))
        columns[name] = key
    path = joined(" > ", columns["department"], columns["aisle"])
    return pa.table({**columns, "path": path})


def _articles(table: pa.Table, _: Mapping[str, pa.Table]) -> pa.Table:
    source = rows(table)
    levels = [source.text(name) for name in ("index_group_name", "product_group_name", "product_type_name")]
    words = [source.text(name) for name in ("product_type_name", "colour_group_name", "detail_desc")]
    return pa.table(
        {
            "article_id": source.text("article_id"),
            "prod_name": source.text("prod_name"),
            "detail_desc": joined(" ", *words),
            "path": joined(" > ", *levels),
            "department_name": source.text("department_name"),
        }
    )


FORMATS = (
    Format(
        "RetailRocket events",
        "events",
        ("timestamp", "visitorid", "event", "itemid"),
        {
            "user_id": "visitorid",
            "item_id": "itemid",
            "timestamp": "timestamp",
            "event_type": "event",
            "session_id": "transactionid",
        },
        zone="UTC",
    ),
    Format(
        "RetailRocket item properties",
        "items",
        ("timestamp", "itemid", "property", "value"),
        {"item_id": "itemid", "category": "categoryid"},
        shape=_retailrocket_items,
        whole=True,
        note="only categories can be read; the other properties are hashes",
    ),
    Format(
        "REES46 events",
        "events",
        ("event_time", "product_id", "user_id"),
        {
            "user_id": "user_id",
            "item_id": "product_id",
            "timestamp": "event_time",
            "event_type": "event_type",
            "session_id": "user_session",
            "price": "price",
            "category": "category_code",
            "brand": "brand",
        },
        any_of=("user_session", "category_code"),
        shape=_rees46,
        zone="UTC",
        note="one row a unit; prices of 0 or less are no prices",
    ),
    Format(
        "Amazon Personalize interactions",
        "events",
        ("USER_ID", "ITEM_ID", "TIMESTAMP"),
        {
            "user_id": "USER_ID",
            "item_id": "ITEM_ID",
            "timestamp": "TIMESTAMP",
            "event_type": "EVENT_TYPE",
            "value": "EVENT_VALUE",
        },
        upper=True,
        zone="UTC",
        words={"watch": "purchase", "click": "view"},
    ),
    Format(
        "Amazon Personalize items",
        "items",
        ("ITEM_ID",),
        {
            "item_id": "ITEM_ID",
            "title": ("TITLE", "NAME", "ITEM_NAME", "PRODUCT_NAME"),
            "description": ("PRODUCT_DESCRIPTION", "DESCRIPTION"),
            "category": ("CATEGORY_L1", "GENRES", "CATEGORY"),
            "subcategory": "CATEGORY_L2",
            "brand": "BRAND",
            "price": "PRICE",
            "added": "CREATION_TIMESTAMP",
        },
        lacks=("USER_ID",),
        any_of=("CATEGORY_L1", "GENRES", "CREATION_TIMESTAMP", "PRODUCT_DESCRIPTION"),
        upper=True,
        zone="UTC",
        separator="|",
        attributes=True,
    ),
    Format(
        "Amazon Personalize users",
        "users",
        ("USER_ID",),
        {"user_id": "USER_ID"},
        lacks=("ITEM_ID",),
        upper=True,
        attributes=True,
    ),
    Format(
        "Instacart order lines",
        "events",
        ("order_id", "product_id", "add_to_cart_order"),
        {"user_id": "user_id", "item_id": "product_id", "timestamp": "time", "session_id": "order_id"},
        joined={"orders": ("order_id", "user_id", "order_number", "days_since_prior_order")},
        shape=_instacart,
        zone="UTC",
        ordered_only=True,
        note="orders have no dates: each user's last order is put on the same day, earlier ones before it",
    ),
    Format(
        "Instacart products",
        "items",
        ("product_id", "product_name", "aisle_id", "department_id"),
        {"item_id": "product_id", "title": "product_name", "category": "path", "subcategory": "aisle"},
        joined={"aisles": ("aisle_id", "aisle"), "departments": ("department_id", "department")},
        shape=_instacart_products,
        whole=True,
    ),
    Format(
        "H&M transactions",
        "events",
        ("t_dat", "customer_id", "article_id"),
        {"user_id": "customer_id", "item_id": "article_id", "timestamp": "t_dat", "price": "price"},
        zone="UTC",
        note="prices are scaled by the publisher",
    ),
    Format(
        "H&M articles",
        "items",
        ("article_id", "prod_name", "product_type_name"),
        {
            "item_id": "article_id",
            "title": "prod_name",
            "description": "detail_desc",
            "category": "path",
            "subcategory": "department_name",
        },
        shape=_articles,
        whole=True,
    ),
    Format(
        "H&M customers",
        "users",
        ("customer_id", "club_member_status", "age"),
        {"user_id": "customer_id"},
        attributes=True,
    ),
)
