"""Exports of shop systems: Shopify, WooCommerce and Magento."""

from __future__ import annotations

from collections.abc import Mapping

import pyarrow as pa
import pyarrow.compute as pc

from pipeline.onboarding.flatten import explode, forward, joined, rows, within
from pipeline.onboarding.formats.base import Format

_NO_TEXT = pa.scalar(None, pa.string())


def _shopify_orders(table: pa.Table, _: Mapping[str, pa.Table]) -> pa.Table:
    """Rows of lines; what is said of an order in its first row alone is said in all of them."""
    source = rows(table)
    order = forward(source.text("Name"))
    said = ("Email", "Created at", "Financial Status", "Cancelled at", "Currency")
    filled = within(order, [source.text(name) for name in said])
    name = source.text("Lineitem name")
    cancelled = pc.if_else(pc.is_valid(filled[3]), "cancelled", filled[2])
    return pa.table(
        {
            "Name": order,
            "Email": filled[0],
            "Created at": filled[1],
            "Financial Status": cancelled,
            "Currency": filled[4],
            "Lineitem sku": pc.coalesce(source.text("Lineitem sku"), name),
            "Lineitem name": name,
            "Lineitem quantity": source.text("Lineitem quantity"),
            "Lineitem price": source.text("Lineitem price"),
            "Vendor": source.text("Vendor"),
        }
    )


def _shopify_products(table: pa.Table, _: Mapping[str, pa.Table]) -> pa.Table:
    """One row a variant; texts of the product, which its first row holds, in all of them."""
    source = rows(table)
    handle = forward(source.text("Handle", "URL handle"))
    title, text, vendor, kind, tags, status = within(
        handle,
        [
            source.text("Title"),
            source.text("Body (HTML)", "Description"),
            source.text("Vendor"),
            source.text("Product Category", "Standard Product Type", "Type"),
            source.text("Tags"),
            source.text("Status"),
        ],
    )
    sku, price = source.text("Variant SKU", "SKU"), source.text("Variant Price", "Price")
    option = source.text("Option1 Value")
    option = pc.if_else(pc.equal(option, "Default Title"), _NO_TEXT, option)
    found = pa.table(
        {
            "SKU": pc.coalesce(sku, handle),
            "Title": joined(" - ", title, option),
            "Body (HTML)": text,
            "Vendor": vendor,
            "Product Category": kind,
            "Tags": tags,
            "Price": price,
        }
    )
    # a row with neither is one more image of the product above
    sold = pc.or_(pc.is_valid(sku), pc.is_valid(price))
    return found.filter(pc.and_(sold, pc.fill_null(pc.not_equal(status, "archived"), True)))


def _woo_products(table: pa.Table, _: Mapping[str, pa.Table]) -> pa.Table:
    """One row a product; a variation takes what it lacks from its parent."""
    source = rows(table)
    number, sku = source.text("ID"), source.text("SKU")
    parent = pc.replace_substring_regex(source.text("Parent"), r"^id:", "")
    kind = source.text("Type")
    names = ("Description", "Short description", "Categories", "Brands", "Tags")
    columns = [source.text(name) for name in names]
    for key in (number, sku):
        place = pc.index_in(parent, key)
        columns = [pc.coalesce(column, column.take(place)) for column in columns]
    found = pa.table(
        {
            "SKU": pc.coalesce(sku, number),
            "Name": source.text("Name"),
            **dict(zip(names, columns, strict=True)),
            # of several paths the first; a comma inside a name is written \,
            "Categories": _first_path(columns[2]),
            "Price": source.text("Sale price", "Regular price"),
        }
    )
    published = pc.fill_null(pc.not_equal(source.text("Published"), "-1"), True)
    sold = pc.invert(pc.fill_null(pc.is_in(kind, pa.array(["variable", "grouped"])), False))
    return found.filter(pc.and_(sold, published))


def _first_path(paths: pa.Array) -> pa.Array:
    paths = pc.replace_substring_regex(paths, r"\\,", "\x1f")
    return pc.replace_substring(pc.replace_substring_regex(paths, r"(?s),.*$", ""), "\x1f", ",")


def _woo_orders(table: pa.Table, _: Mapping[str, pa.Table]) -> pa.Table:
    """Orders of the REST interface: one row a line."""
    source = rows(table)
    parents, line = explode(source.get("line_items"))
    taken = pa.array(parents)
    variation = line.text("variation_id")
    variation = pc.if_else(pc.equal(variation, "0"), _NO_TEXT, variation)
    return pa.table(
        {
            "id": source.text("id", "number").take(taken),
            "customer_id": source.text("customer_id").take(taken),
            "status": source.text("status").take(taken),
            "date_created_gmt": source.text("date_created_gmt").take(taken),
            "currency": source.text("currency").take(taken),
            "sku": pc.coalesce(line.text("sku"), variation, line.text("product_id")),
            "name": line.text("name"),
            "quantity": line.text("quantity"),
            "total": line.text("total"),
        }
    )


def _magento_products(table: pa.Table, _: Mapping[str, pa.Table]) -> pa.Table:
    """One row a sku, that of the default store view; brand from the additional attributes."""
    source = rows(table)
    names = ("sku", "name", "description", "short_description", "categories", "price", "created_at")
    columns = {name: _kept(source.text(name)) for name in names}
    more = source.text("additional_attributes")
    brand = pc.struct_field(pc.extract_regex(more, r"(?:^|,)(?:brand|manufacturer)=(?P<brand>[^,]+)"), [0])
    columns |= {"brand": brand, "categories": pc.replace_substring_regex(columns["categories"], ",.*$", "")}
    enabled = pc.fill_null(pc.not_equal(source.text("product_online"), "2"), True)
    return pa.table(columns).filter(pc.and_(pc.is_null(source.text("store_view_code")), enabled))


def _kept(text: pa.Array) -> pa.Array:
    return pc.if_else(pc.equal(text, "__EMPTY__VALUE__"), _NO_TEXT, text)


_PRODUCT_TEXT = {"description": ("Description", "Body (HTML)"), "brand": ("Brands", "Vendor", "brand")}

FORMATS = (
    Format(
        "Shopify orders",
        "events",
        ("Lineitem name", "Lineitem quantity"),
        {
            "user_id": "Email",
            "item_id": "Lineitem sku",
            "timestamp": "Created at",
            "session_id": "Name",
            "quantity": "Lineitem quantity",
            "price": "Lineitem price",
            "currency": "Currency",
            "status": "Financial Status",
            "title": "Lineitem name",
            "brand": "Vendor",
        },
        shape=_shopify_orders,
        whole=True,
        note="users are pseudonyms of e-mail addresses; a line without an SKU is named by its product",
    ),
    Format(
        "Shopify products",
        "items",
        ("Option1 Name",),
        {
            "item_id": "SKU",
            "title": "Title",
            "category": "Product Category",
            "price": "Price",
            "tags": "Tags",
            **_PRODUCT_TEXT,
        },
        any_of=("Handle", "URL handle"),
        shape=_shopify_products,
        whole=True,
        note="one item a variant, named by its SKU, else by the handle; archived ones are left out",
    ),
    Format(
        "WooCommerce orders (REST)",
        "events",
        ("line_items", "customer_id"),
        {
            "user_id": "customer_id",
            "item_id": "sku",
            "timestamp": "date_created_gmt",
            "session_id": "id",
            "quantity": "quantity",
            "value": "total",
            "currency": "currency",
            "status": "status",
            "title": "name",
        },
        shape=_woo_orders,
        zone="UTC",
        no_user=("0",),
    ),
    Format(
        "WooCommerce products",
        "items",
        ("ID", "Type", "SKU", "Name"),
        {
            "item_id": "SKU",
            "title": "Name",
            "category": "Categories",
            "price": "Price",
            "tags": "Tags",
            **_PRODUCT_TEXT,
        },
        any_of=("Visibility in catalog", "Is featured?", "Regular price"),
        shape=_woo_products,
        whole=True,
        note="variations are items, their parents are not; drafts are left out",
    ),
    Format(
        "Magento 2 products",
        "items",
        ("sku", "attribute_set_code", "product_type"),
        {
            "item_id": "sku",
            "title": "name",
            "category": "categories",
            "price": "price",
            "added": "created_at",
            **_PRODUCT_TEXT,
        },
        shape=_magento_products,
        whole=True,
        separator="/",
        root="Default Category",
        note="rows of other store views than the default one, and disabled products, are left out",
    ),
    Format(
        "Magento 2 order lines (sales_order_item)",
        "events",
        ("order_id", "sku", "qty_ordered", "created_at"),
        {
            "user_id": ("customer_id", "customer_email"),
            "item_id": "sku",
            "timestamp": "created_at",
            "session_id": "order_id",
            "quantity": "qty_ordered",
            "price": "price",
            "title": "name",
        },
        any_of=("customer_id", "customer_email"),
        zone="UTC",
    ),
)
