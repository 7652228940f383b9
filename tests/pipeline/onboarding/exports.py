"""Small exports of shop systems and public logs: true headers, invented rows."""

# ruff: noqa: E501 - headers are as long as the shop systems write them

import json

RETAILROCKET = """timestamp,visitorid,event,itemid,transactionid
1431000000123,17,view,901,
1431000000123,17,addtocart,901,
1431000050456,17,transaction,901,55
1431000050456,17,transaction,902,55
1433000000000,18,transaction,901,56
"""
RETAILROCKET_ITEMS = """timestamp,itemid,property,value
1431226800000,901,categoryid,1338
1432226800000,901,categoryid,1340
1431226800000,902,790,n552.000
1431226800000,902,categoryid,7
"""
REES46 = """event_time,event_type,product_id,category_id,category_code,brand,price,user_id,user_session
2019-10-01 00:00:05 UTC,view,5501,2053000000000000123,home.kitchen.coffee_mug,potters,8.50,77,0a1b-22
2019-10-01 00:01:05 UTC,purchase,5501,2053000000000000123,home.kitchen.coffee_mug,potters,8.50,77,0a1b-22
2019-10-01 00:02:05 UTC,purchase,5502,2053000000000000124,,,0.00,78,0a1b-23
2019-10-03 10:00:00 UTC,remove_from_cart,5502,2053000000000000124,,,3.10,78,0a1b-23
2019-10-03 10:00:00 UTC,purchase,5503,2053000000000000125,auto.tyre,,3.10,78,0a1b-24
2019-10-04 10:00:00 UTC,purchase,5503,2053000000000000125,auto.tyre,,3.10,79,0a1b-25
2019-10-04 10:00:00 UTC,purchase,5503,2053000000000000125,auto.tyre,,3.10,79,0a1b-25
"""
PERSONALIZE = """USER_ID,ITEM_ID,TIMESTAMP,EVENT_TYPE,EVENT_VALUE
u1,i7,1740906061,View,
u1,i7,1740906500,Purchase,17.0
u2,i8,1740907500,Purchase,3.5
"""
PERSONALIZE_ITEMS = """ITEM_ID,PRICE,CATEGORY_L1,CATEGORY_L2,CREATION_TIMESTAMP,PRODUCT_DESCRIPTION
i7,8.5,Home,Kitchen,1700000000,Blue mug that holds 300 ml
i8,3.5,Garden,Pots,1700000000,Clay pot
"""
PERSONALIZE_USERS = """USER_ID,AGE_GROUP,MEMBERSHIP
u1,young,gold
u2,old,gold
u3,old,silver
u4,young,silver
"""
INSTACART_LINES = """order_id,product_id,add_to_cart_order,reordered
1,10,1,0
1,11,2,0
2,10,1,1
3,11,1,0
"""
INSTACART_ORDERS = """order_id,user_id,eval_set,order_number,order_dow,order_hour_of_day,days_since_prior_order
1,5,prior,1,2,08,
2,5,train,2,3,10,7.0
3,6,prior,1,3,12,
"""
INSTACART_PRODUCTS = """product_id,product_name,aisle_id,department_id
10,Whole Milk,84,16
11,"Bread, Sliced",112,3
"""
HM = """t_dat,customer_id,article_id,price,sales_channel_id
2018-09-20,000058a12d5b43e67d225668fa1f8d618c13dc232df0cad8ffe7ad4a1091e318,0663713001,0.050831,2
2018-09-20,000058a12d5b43e67d225668fa1f8d618c13dc232df0cad8ffe7ad4a1091e318,0541518023,0.030492,2
2018-09-24,00007d2de826758b65a93dd24ce629ed66842531df6699338c5570910a014cc2,0663713001,0.050831,1
"""
HM_ARTICLES = (
    "article_id,product_code,prod_name,product_type_no,product_type_name,product_group_name,"
    "colour_group_name,department_no,department_name,index_group_name,detail_desc\n"
    "0663713001,663713,Atlanta Push Body,283,Underwear body,Underwear,Black,1338,Expressive Lingerie,"
    'Ladieswear,"Lace push-up body with underwired, moulded cups."\n'
    "0541518023,541518,Rae Push,306,Bra,Underwear,Light Pink,1338,Expressive Lingerie,Ladieswear,Lace bra.\n"
)


def lines(*rows):
    """JSON Lines."""
    return "".join(json.dumps(row) + "\n" for row in rows)


def _parameter(key, **value):
    return {"key": key, "value": value}


GA4 = lines(
    {
        "event_date": "20250302",
        "event_timestamp": "1740906061000123",
        "event_name": "view_item",
        "user_pseudo_id": "11.22",
        "event_params": [_parameter("ga_session_id", int_value="1740906000")],
        "items": [{"item_id": "MUG-1", "item_name": "Blue mug", "price": 8.5, "item_category": "Kitchen"}],
    },
    {
        "event_date": "20250302",
        "event_timestamp": "1740906100000123",
        "event_name": "session_start",
        "user_pseudo_id": "11.22",
        "event_params": [],
        "items": [],
    },
    *(
        {
            "event_date": "20250302",
            "event_timestamp": time,
            "event_name": "purchase",
            "user_pseudo_id": "11.22",
            "user_id": "k7",
            "event_params": [_parameter("search_term", string_value="blue mug")],
            "ecommerce": {"transaction_id": "T9"},
            "items": [
                {"item_id": "MUG-1", "item_name": "Blue mug", "quantity": "2", "price": 8.5},
                {"item_id": "(not set)", "item_name": "(not set)", "price": 1.0},
                {
                    "item_id": "LID",
                    "item_name": "Lid",
                    "item_brand": "Potters",
                    "price": 2.0,
                    "item_category": "Kitchen",
                    "item_category2": "Lids",
                },
            ],
        }
        for time in ("1740906500000456", "1740906900000456")  # the page was loaded again
    ),
)
RETAIL_EVENTS = lines(
    {
        "eventType": "detail-page-view",
        "visitorId": "v1",
        "eventTime": "2025-03-02T09:00:00Z",
        "productDetails": [{"product": {"id": "p1"}}],
    },
    {"eventType": "search", "visitorId": "v1", "eventTime": "2025-03-02T09:05:00Z", "searchQuery": "mug"},
    {
        "eventType": "purchase-complete",
        "visitorId": "v1",
        "userInfo": {"userId": "anna"},
        "eventTime": "2025-03-02T09:10:00.5+01:00",
        "productDetails": [
            {"product": {"id": "p1"}, "quantity": 2},
            {"product": {"id": "p2"}, "quantity": 1},
        ],
        "purchaseTransaction": {"id": "o1", "revenue": 17.0, "currencyCode": "USD"},
    },
)
RETAIL_PRODUCTS = lines(
    {
        "id": "p1",
        "type": "PRIMARY",
        "title": "Blue mug",
        "categories": ["Home > Kitchen", "Sale"],
        "brands": ["Potters"],
        "description": "<p>Holds <b>300&nbsp;ml</b></p>",
        "priceInfo": {"price": 8.5, "currencyCode": "USD"},
    },
    {
        "name": "projects/x/locations/global/catalogs/c/branches/0/products/p2",
        "type": "PRIMARY",
        "title": "Clay pot",
        "categories": ["Garden > Pots"],
        "brands": ["Clays"],
        "priceInfo": {"price": 3.5, "currencyCode": "USD"},
    },
    {"id": "c1", "type": "COLLECTION", "title": "All", "categories": ["Home > Kitchen"]},
)
SHOPIFY_ORDERS = (
    "Name,Email,Financial Status,Currency,Total,Created at,Lineitem quantity,Lineitem name,Lineitem price,"
    "Lineitem sku,Billing Name,Cancelled at,Id,Vendor\n"
    "#1001,Anna@example.com,paid,USD,26.50,2025-03-02 10:10:00 -0500,2,Blue mug - S,8.50,MUG-S,Anna A,,550,P\n"
    "#1001,,,,,,1,Blue mug - L,9.50,MUG-L,,,,P\n"
    "#1002,ben@example.com,refunded,USD,8.50,2025-03-03 10:10:00 -0500,1,Blue mug - S,8.50,MUG-S,B,,551,P\n"
    "#1003,anna@example.com,paid,USD,5.00,2025-03-09 10:10:00 -0400,1,Engraving,5.00,,Anna A,,552,P\n"
    "#1004,,paid,USD,8.50,2025-03-09 12:00:00 -0400,1,Blue mug - S,8.50,MUG-S,,,553,P\n"
)
SHOPIFY_PRODUCTS = (
    "Handle,Title,Body (HTML),Vendor,Type,Tags,Published,Option1 Name,Option1 Value,Variant SKU,"
    "Variant Inventory Qty,Variant Price,Image Src,Status\n"
    'blue-mug,Blue mug,"<p>Holds <b>300 ml</b>,\nnice</p>",Potters,Home > Kitchen,"kitchen, gift",TRUE,Size,S,'
    "MUG-S,4,8.50,https://x.example/1.jpg,active\n"
    "blue-mug,,,,,,,,L,MUG-L,0,9.50,https://x.example/2.jpg,\n"
    "blue-mug,,,,,,,,,,,,https://x.example/3.jpg,\n"
    "old-pot,Old pot,<p>Gone</p>,Clays,Garden > Pots,,TRUE,Title,Default Title,POT,0,3.00,,archived\n"
    "pot,Pot,<p>Clay &amp; ash</p>,Clays,Garden > Pots,,TRUE,Title,Default Title,,0,3.00,,active\n"
)
WOO_ORDERS = lines(
    {
        "id": 70,
        "number": "70",
        "status": "completed",
        "currency": "EUR",
        "date_created": "2025-03-02T10:00:00",
        "date_created_gmt": "2025-03-02T09:00:00",
        "customer_id": 5,
        "billing": {"email": "anna@example.com"},
        "line_items": [
            {
                "product_id": 10,
                "variation_id": 11,
                "quantity": 2,
                "total": "17.00",
                "sku": "MUG-S",
                "name": "Mug",
            },
            {"product_id": 20, "variation_id": 0, "quantity": 1, "total": "3.00", "sku": "", "name": "Pot"},
        ],
    },
    {
        "id": 71,
        "number": "71",
        "status": "cancelled",
        "currency": "EUR",
        "date_created": "2025-03-02T10:00:00",
        "date_created_gmt": "2025-03-02T09:00:00",
        "customer_id": 5,
        "billing": {"email": "anna@example.com"},
        "line_items": [
            {"product_id": 20, "variation_id": 0, "quantity": 1, "total": "3.00", "sku": "", "name": "Pot"}
        ],
    },
    {
        "id": 72,
        "number": "72",
        "status": "processing",
        "currency": "EUR",
        "date_created": "2025-03-05T10:00:00",
        "date_created_gmt": "2025-03-05T09:00:00",
        "customer_id": 0,
        "billing": {"email": "guest@example.com"},
        "line_items": [
            {"product_id": 20, "variation_id": 0, "quantity": 1, "total": "3.00", "sku": "", "name": "Pot"}
        ],
    },
)
WOO_PRODUCTS = (
    "ID,Type,SKU,Name,Published,Is featured?,Visibility in catalog,Description,In stock?,Regular price,Sale price,"
    "Categories,Images,Parent,Attribute 1 name,Attribute 1 value(s)\n"
    '10,variable,MUG,Blue mug,1,0,visible,<p>Nice\\nmug</p>,1,,,"Home > Kitchen\\, fine, Sale",x/1.jpg,,Size,"S, L"\n'
    "11,variation,MUG-S,Blue mug - S,1,0,visible,,1,8.5,7.9,,,MUG,Size,S\n"
    "20,simple,,Pot,1,0,visible,Clay,1,3.0,,Garden > Pots,,,,\n"
    "30,simple,NEW,Draft,-1,0,visible,,1,3.0,,Garden > Pots,,,,\n"
)
MAGENTO_PRODUCTS = (
    "sku,store_view_code,attribute_set_code,product_type,categories,name,description,price,product_online,"
    "created_at,additional_attributes,visibility\n"
    'MUG,,Default,configurable,"Default Category/Home/Kitchen,Default Category/Sale",Blue mug,<p>Nice</p>,,1,'
    '"3/2/25, 10:10 AM","brand=Potters","Catalog, Search"\n'
    'MUG,de,Default,configurable,,Blauer Becher,,,1,,,"Catalog, Search"\n'
    'MUG-S,,Default,simple,Default Category/Home/Kitchen,Blue mug S,,8.500000,1,"3/2/25, 1:10 PM",'
    '"size=S,brand=Potters",Not Visible Individually\n'
    'POT,,Default,simple,Default Category/Garden/Pots,Pot,,3.0,1,"3/2/25, 1:10 PM","brand=Clays",Catalog\n'
    'OFF,,Default,simple,Default Category/Home,Off,,3.0,2,"3/2/25, 1:10 PM",,Catalog\n'
)
MERCHANT = (
    "\ufeffid\ttitle\tdescription\tlink\timage link\tprice\tavailability\tbrand\tgtin\tproduct_type\titem_group_id\n"
    "MUG-S\tBlue mug S\tNice &amp; blue\thttps://x.example/m\thttps://x.example/1.jpg\t8.50 USD\tin_stock\tPotters\t"
    "00012345678905\tHome > Kitchen\tMUG\n"
    "POT\tPot\tClay\thttps://x.example/p\thttps://x.example/2.jpg\t1,299.00 USD\tin_stock\tClays\t"
    "00012345678906\tGarden > Pots\tPOT\n"
)
ONLINE_RETAIL = """InvoiceNo,StockCode,Description,Quantity,InvoiceDate,UnitPrice,CustomerID,Country
536365,85123A,WHITE HANGING HEART,6,12/1/2010 8:26,2.55,17850.0,United Kingdom
536365,71053,WHITE METAL LANTERN,6,12/1/2010 8:26,3.39,17850.0,United Kingdom
536366,85123A,WHITE HANGING HEART,2,12/2/2010 9:02,2.55,,United Kingdom
536366,71053,white lantern?,1,12/2/2010 9:02,3.39,,United Kingdom
C536379,85123A,WHITE HANGING HEART,-1,12/13/2010 9:41,2.55,17850.0,United Kingdom
536380,POST,POSTAGE,1,12/14/2010 9:41,18.0,12583.0,France
536380,71053,WHITE METAL LANTERN,12,12/14/2010 9:41,3.39,12583.0,France
536381,gift_0001_20,Gift voucher,1,12/15/2010 9:41,20.0,12583.0,France
"""
GERMAN_ORDERS = (
    "Rechnungsnummer;Kundennummer;E-Mail;Artikelnummer;Bezeichnung;Menge;Einzelpreis;Datum;Kategorie\n"
    "R1;K7;a@example.de;0012;Käsebrett groß;2;1.299,50 €;31.01.2024 10:00;Küche > Bretter\n"
    "R1;K7;a@example.de;0013;Messer;1;12,00 €;31.01.2024 10:00;Küche > Messer\n"
    "R2;K8;b@example.de;0012;Käsebrett groß;1;1.299,50 €;01.02.2024 09:30;Küche > Bretter\n"
)
