"""Recognised exports, mapped whole: the rows that a run reads, computed by hand."""

import datetime as dt

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.json
import pyarrow.parquet as pq
import pytest

from pipeline.onboarding.formats import FORMATS, recognise
from tests.pipeline.onboarding import exports as X
from tests.pipeline.onboarding.shops import init


def at(text):
    return dt.datetime.fromisoformat(text).replace(tzinfo=dt.UTC)


def test_retailrocket(tmp_path, capsys):
    shop = init(
        tmp_path,
        capsys,
        events={"events.csv": X.RETAILROCKET},
        items={"item_properties_part1.csv": X.RETAILROCKET_ITEMS},
    )
    bought = [("17", "901", "55"), ("17", "902", "55"), ("18", "901", "56")]
    assert shop.events("user_id", "item_id", "session_id") == bought
    assert shop.events("timestamp")[0] == (at("2015-05-07T12:00:50.456"),)
    assert shop.items("item_id", "category") == [("901", "category 1340"), ("902", "category 7")]
    assert "event type 'view', 1 rows: view, weighs 0.1: history, and learned from" in shop.said
    assert shop.config.events.event_weights == {"purchase": 1.0, "cart": 0.3, "view": 0.1}


def test_rees46_makes_items_of_its_events(tmp_path, capsys):
    shop = init(tmp_path, capsys, events={"2019-Oct.csv": X.REES46})
    tyres = [("78", "5503", 3.1), ("79", "5503", 3.1), ("79", "5503", 3.1)]  # a row a unit
    assert shop.events("user_id", "item_id", "value") == [("77", "5501", 8.5), *tyres]
    assert shop.items("item_id", "category", "subcategory", "category_path", "brand") == [
        ("5501", "home", "coffee mug", "home kitchen coffee mug", "potters"),
        ("5502", None, None, None, None),
        ("5503", "auto", "tyre", "auto tyre", None),
    ]
    assert "1 have no price that can be read" in shop.said


def test_personalize(tmp_path, capsys):
    shop = init(
        tmp_path,
        capsys,
        events={"interactions.csv": X.PERSONALIZE},
        items={"items.csv": X.PERSONALIZE_ITEMS},
        users={"users.csv": X.PERSONALIZE_USERS},
    )
    assert shop.events("user_id", "item_id", "timestamp", "value") == [
        ("u1", "i7", at("2025-03-02T09:08:20"), 17.0),
        ("u2", "i8", at("2025-03-02T09:25:00"), 3.5),
    ]
    assert shop.items("category", "subcategory", "price") == [
        ("Home", "Kitchen", 8.5),
        ("Garden", "Pots", 3.5),
    ]
    assert shop.config.users.categorical == {"age_group": "age_group", "membership": "membership"}
    assert shop.config.users.sensitive == ["age_group"]


def test_instacart_puts_lines_orders_and_shelves_together(tmp_path, capsys):
    shop = init(
        tmp_path,
        capsys,
        events={
            "order_products__prior.csv": X.INSTACART_LINES,
            "orders.csv": X.INSTACART_ORDERS,
            "products.csv": X.INSTACART_PRODUCTS,
            "aisles.csv": "aisle_id,aisle\n84,milk\n112,bread\n",
            "departments.csv": "department_id,department\n16,dairy eggs\n3,bakery\n",
        },
    )
    assert shop.events("user_id", "session_id", "item_id", "timestamp") == [
        ("5", "1", "10", at("2016-12-25T08:00")),
        ("5", "1", "11", at("2016-12-25T08:00")),
        ("5", "2", "10", at("2017-01-01T10:00")),
        ("6", "3", "11", at("2017-01-01T12:00")),
    ]
    assert shop.items("title", "category_path") == [
        ("Whole Milk", "dairy eggs milk"),
        ("Bread, Sliced", "bakery bread"),
    ]
    assert shop.config.split.strategy == "leave_one_out"  # the times are no dates


def test_h_and_m_keeps_leading_zeros(tmp_path, capsys):
    shop = init(
        tmp_path, capsys, events={"transactions_train.csv": X.HM}, items={"articles.csv": X.HM_ARTICLES}
    )
    assert [row[0] for row in shop.events("item_id")] == ["0663713001", "0541518023", "0663713001"]
    assert shop.items("title", "category_path")[1] == (
        "Atlanta Push Body",
        "Ladieswear Underwear Underwear body",
    )


def test_ga4_counts_a_reloaded_purchase_once(tmp_path, capsys):
    shop = init(tmp_path, capsys, events={"events_20250302.jsonl": X.GA4})
    when = at("2025-03-02T09:08:20.000456")
    assert shop.events("user_id", "item_id", "timestamp", "session_id", "quantity", "value", "query") == [
        ("k7", "MUG-1", when, "T9", 2.0, 17.0, "blue mug"),
        ("k7", "LID", when, "T9", 1.0, 2.0, "blue mug"),
    ]
    assert shop.items("item_id", "title", "category", "subcategory") == [
        ("LID", "Lid", "Kitchen", "Lids"),
        ("MUG-1", "Blue mug", "Kitchen", "Kitchen"),
    ]
    assert "1 name no item" in shop.said  # (not set)


def test_ga4_in_parquet_and_flattened_by_the_shop(tmp_path, capsys):
    nested = pyarrow.json.read_json(pa.BufferReader(X.GA4.encode()))
    field = nested.schema.field("items").type.value_field
    large = pa.large_list(
        pa.struct([(f.name, pa.large_string()) for f in field.type if f.type == pa.string()])
    )
    items = nested.column("items").combine_chunks()
    strings = pa.table(
        {f.name: pc.list_flatten(items).field(f.name) for f in field.type if f.type == pa.string()}
    )
    lists = pa.LargeListArray.from_arrays(
        items.offsets.cast(pa.int64()), strings.to_struct_array().combine_chunks().cast(large.value_type)
    )
    place = nested.schema.get_field_index("items")
    sink = pa.BufferOutputStream()
    pq.write_table(nested.set_column(place, "items", lists), sink)
    shop = init(tmp_path, capsys, events={"events.parquet": sink.getvalue().to_pybytes()})
    assert shop.events("user_id", "item_id", "session_id") == [("k7", "MUG-1", "T9"), ("k7", "LID", "T9")]
    text = "event_date,event_timestamp,event_name,user_pseudo_id,transaction_id,item_id,item_name,price,"
    text += "quantity\n"
    text += "20250302,1740906500000456,purchase,11.22,T9,MUG-1,Blue mug,8.5,2\n"
    text += "20250302,1740906500000456,purchase,11.22,T9,LID,Lid,2.0,\n"
    shop = init(tmp_path / "flat", capsys, events={"events.csv": text})
    assert shop.events("user_id", "item_id", "value") == [("11.22", "MUG-1", 17.0), ("11.22", "LID", 2.0)]


def test_google_retail(tmp_path, capsys):
    shop = init(
        tmp_path,
        capsys,
        events={"user_events.json": X.RETAIL_EVENTS},
        items={"products.json": X.RETAIL_PRODUCTS},
    )
    when = at("2025-03-02T08:10:00.5")
    assert shop.events("user_id", "item_id", "timestamp", "session_id", "quantity") == [
        ("anna", "p1", when, "o1", 2.0),
        ("anna", "p2", when, "o1", 1.0),
    ]
    assert shop.items("item_id", "title", "description", "category", "brand", "price") == [
        ("p1", "Blue mug", "Holds 300 ml", "Home", "Potters", 8.5),
        ("p2", "Clay pot", None, "Garden", "Clays", 3.5),
    ]


def test_shopify(tmp_path, capsys):
    shop = init(
        tmp_path,
        capsys,
        events={"orders_export.csv": X.SHOPIFY_ORDERS},
        items={"products_export.csv": X.SHOPIFY_PRODUCTS},
    )
    assert shop.events("item_id", "session_id", "timestamp", "quantity", "value") == [
        ("MUG-S", "#1001", at("2025-03-02T15:10"), 2.0, 17.0),
        ("MUG-L", "#1001", at("2025-03-02T15:10"), 1.0, 9.5),  # its order is told by the row above
        ("Engraving", "#1003", at("2025-03-09T14:10"), 1.0, 5.0),
        ("MUG-S", "#1004", at("2025-03-09T16:00"), 1.0, 8.5),
    ]
    users = [row[0] for row in shop.events("user_id")]
    assert users[0] == users[1] == users[2]  # whatever the case of the address
    assert users[3] is None
    assert shop.items("item_id", "title", "description", "brand", "price") == [
        ("MUG-L", "Blue mug - L", "Holds 300 ml , nice", "Potters", 9.5),
        ("MUG-S", "Blue mug - S", "Holds 300 ml , nice", "Potters", 8.5),
        ("pot", "Pot", "Clay & ash", "Clays", 3.0),
    ]
    assert shop.config.events.guests == "drop"


def test_personal_data_is_in_no_file(tmp_path, capsys):
    shop = init(tmp_path, capsys, events={"orders_export.csv": X.SHOPIFY_ORDERS})
    for path in [tmp_path / "shop.yaml", *(tmp_path / "shop").rglob("*.*")]:
        text = path.read_bytes().lower()
        assert b"example.com" not in text, path
        assert b"anna" not in text, path
    assert "Billing Name       left out: personal data" in shop.said
    key = tmp_path / "shop" / "pseudonym.key"
    assert key.stat().st_mode & 0o077 == 0
    before = shop.events("user_id")
    assert init(tmp_path, capsys, events={"orders_export.csv": X.SHOPIFY_ORDERS}).events("user_id") == before
    key.unlink()
    assert init(tmp_path, capsys, events={"orders_export.csv": X.SHOPIFY_ORDERS}).events("user_id") != before


def test_woocommerce(tmp_path, capsys):
    shop = init(
        tmp_path,
        capsys,
        "guests=own",
        events={"orders.jsonl": X.WOO_ORDERS},
        items={"wc-product-export.csv": X.WOO_PRODUCTS},
    )
    assert shop.events("user_id", "item_id", "timestamp", "session_id", "value") == [
        ("5", "MUG-S", at("2025-03-02T09:00"), "70", 17.0),
        ("5", "20", at("2025-03-02T09:00"), "70", 3.0),
        (None, "20", at("2025-03-05T09:00"), "72", 3.0),
    ]
    assert shop.items("item_id", "title", "category_path", "description", "price") == [
        ("20", "Pot", "Garden Pots", "Clay", 3.0),
        ("MUG-S", "Blue mug - S", "Home Kitchen, fine", "Nice mug", 7.9),
    ]
    assert shop.config.events.guests == "own"


def test_magento(tmp_path, capsys):
    shop = init(
        tmp_path, capsys, "dates=month_first", items={"export_catalog_product.csv": X.MAGENTO_PRODUCTS}
    )
    assert shop.items("item_id", "title", "category_path", "brand", "price", "added") == [
        ("MUG", "Blue mug", "Home Kitchen", "Potters", None, at("2025-03-02T10:10")),
        ("MUG-S", "Blue mug S", "Home Kitchen", "Potters", 8.5, at("2025-03-02T13:10")),
        ("POT", "Pot", "Garden Pots", "Clays", 3.0, at("2025-03-02T13:10")),
    ]
    assert shop.config.events is None


def test_merchant_center(tmp_path, capsys):
    shop = init(tmp_path, capsys, items={"feed.tsv": X.MERCHANT})
    assert shop.items("item_id", "title", "description", "category_path", "brand", "price") == [
        ("MUG-S", "Blue mug S", "Nice & blue", "Home Kitchen", "Potters", 8.5),
        ("POT", "Pot", "Clay", "Garden Pots", "Clays", 1299.0),
    ]


HEADERS = {
    "RetailRocket events": X.RETAILROCKET,
    "RetailRocket item properties": X.RETAILROCKET_ITEMS,
    "REES46 events": X.REES46,
    "Amazon Personalize interactions": X.PERSONALIZE,
    "Amazon Personalize items": X.PERSONALIZE_ITEMS,
    "Amazon Personalize users": X.PERSONALIZE_USERS,
    "Instacart order lines": X.INSTACART_LINES,
    "Instacart products": X.INSTACART_PRODUCTS,
    "H&M transactions": X.HM,
    "H&M articles": X.HM_ARTICLES,
    "H&M customers": "customer_id,FN,Active,club_member_status,fashion_news_frequency,age,postal_code",
    "Shopify orders": X.SHOPIFY_ORDERS,
    "Shopify products": X.SHOPIFY_PRODUCTS,
    "WooCommerce products": X.WOO_PRODUCTS,
    "Magento 2 products": X.MAGENTO_PRODUCTS,
    "Magento 2 order lines (sales_order_item)": "order_id,sku,qty_ordered,price,created_at,customer_id",
    "Google Analytics 4 export": "event_date,event_timestamp,event_name,user_pseudo_id,items",
    "Google Retail API user events": "eventType,visitorId,eventTime,productDetails",
    "Google Retail API products": "id,title,categories,priceInfo",
    "WooCommerce orders (REST)": "id,customer_id,line_items",
}


@pytest.mark.parametrize("name", HEADERS)
@pytest.mark.parametrize("written", [str, lambda header: header.replace("_", " ")])
def test_a_header_is_of_one_format(name, written):
    header = written(HEADERS[name].splitlines()[0])
    form = recognise(tuple(header.split(",")))
    if "Personalize" in name and "_" not in header:
        return  # these are recognised by upper case and underscores
    assert form is not None
    assert form.name == name
    assert sum(one.matches(tuple(header.split(","))) for one in FORMATS if one.table == form.table) == 1


@pytest.mark.parametrize(
    "header", ["InvoiceNo,StockCode,Quantity", "user_id,item_id,timestamp", "id,title,price"]
)
def test_other_headers_are_of_none(header):
    assert recognise(tuple(header.split(","))) is None
