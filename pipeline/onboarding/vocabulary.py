"""Words by which columns, and what users do, are known. Names are compared by `flatten.fold`."""

from __future__ import annotations

import dataclasses


def _words(text: str) -> tuple[str, ...]:
    return tuple(text.split())


#: What users do -> names for it.
TYPES: dict[str, tuple[str, ...]] = {
    "view": _words(
        "view viewitem detailpageview detail pv click clicks productviewed productview pageview "
        "productclicked selectitem viewproduct"
    ),
    "cart": _words("addtocart cart carts productadded add basket addcart addtobasket"),
    "remove": _words("removefromcart productremoved remove removecart"),
    "purchase": _words(
        "purchase transaction orders order purchasecomplete ordercompleted buy bought sale sold "
        "checkoutcomplete purchased completedpurchase"
    ),
    "favourite": _words("fav favorite favourite like wishlist addtowishlist"),
    "search": _words("search viewsearchresults productssearched query"),
    "refund": _words("refund return returned cancel cancelled void"),
    "other": _words(
        "viewitemlist homepageview categorypageview shoppingcartpageview viewcart viewhomepage begincheckout "
        "sessionstart pageviewed scroll userengagement firstvisit addpaymentinfo addshippinginfo "
        "viewpromotion selectpromotion productlistviewed impression impressions"
    ),
}
#: What an event of a type weighs next to a purchase; other types are left out.
WEIGHTS = {"purchase": 1.0, "cart": 0.3, "favourite": 0.3, "view": 0.1}


@dataclasses.dataclass(frozen=True)
class Names:
    """How columns of a role are called.

    Attributes:
      whole: names that are the role, the likeliest first.
      parts: words that a name of the role may hold.
      ends: what such a name ends with; anything if empty.
    """

    whole: tuple[str, ...]
    parts: tuple[str, ...] = ()
    ends: tuple[str, ...] = ("",)


_ID = _words("id no number code key nr num hash nummer")

NAMES: dict[str, Names] = {
    "user_id": Names(
        _words(
            "userid customerid visitorid clientid memberid householdid shopperid "
            "buyerid user customer client "
            "visitor member shopper buyer household kunde uid"
        ),
        _words(
            "customer user visitor client member shopper buyer household reviewer anonymous kunde cliente"
        ),
        _ID,
    ),
    "item_id": Names(
        _words(
            "itemid productid sku stockcode articleid asin productsku movieid lineitemsku reference "
            "referenceproduit refproduit"
        ),
        _words("product item article sku stock artikel produit producto movie book track"),
        (*_ID, "sku"),
    ),
    "timestamp": Names(
        _words("timestamp eventtime invoicedate orderdate purchasedate createdat datetime date time"),
        _words("date time created purchased datum fecha"),
    ),
    "session_id": Names(
        _words(
            "orderid invoiceno invoice basketid transactionid sessionid receiptid "
            "ordernumber order basket session bon"
        ),
        _words("order invoice basket transaction session receipt ticket bill cart rechnung commande pedido"),
        (*_ID, "commande", "pedido"),
    ),
    "event_type": Names(
        _words(
            "eventtype event action behavior behaviour behaviortype behaviourtype actiontype eventname type"
        )
    ),
    "quantity": Names(
        _words("quantity qty units qtyordered menge cantidad quantite count"), _words("qty quantity")
    ),
    "price": Names(
        _words("price unitprice itemprice priceperunit preis precio prix regularprice einzelpreis"),
        _words("price preis prix precio"),
    ),
    "value": Names(
        _words("salesvalue linetotal total amount revenue sales value totalprice netsales"),
        _words("total amount revenue spend umsatz rating"),
    ),
    "title": Names(
        _words(
            "title name productname itemname productdisplayname description bezeichnung designation "
            "displayname"
        ),
        _words("title product item article artikel produkt movie book film track"),
        _words("title name description desc bezeichnung"),
    ),
    "description": Names(
        _words("description longdescription bodyhtml details text bulletpoints shortdescription"),
        _words("description detail"),
    ),
    "category": Names(
        _words("category categories categorypath department genres genre producttype kategorie"),
        _words("category department genre producttype class group categoria kategorie section"),
    ),
    "subcategory": Names(_words("subcategory"), _words("subcategory")),
    "brand": Names(_words("brand manufacturer vendor brandname marke maker"), _words("brand manufacturer")),
    "query": Names(_words("query searchquery searchterm keyword search"), _words("searchterm searchquery")),
    "currency": Names(_words("currency currencycode")),
    "status": Names(_words("status orderstatus financialstatus"), ("status",), ("status",)),
    "added": Names(_words("added createdat launchdate releasedate introduced publishtime")),
    "popularity": Names(_words("popularity ratingcount reviewcount numreviews reviews")),
    "store": Names(_words("store storeid shop shopid branch filiale"), _words("store branch"), _ID),
    "time": Names(_words("week weekno day date startdate start time timestamp"), _words("date week")),
}
#: Of the names of types of events those that are nothing else, whatever their values.
SURE_TYPES = _words("eventtype behavior behaviour behaviortype behaviourtype actiontype eventname action")
#: Times of other things than the event.
OTHER_TIMES = _words("updated ship deliver estimated approved birth modified paid fulfil cancel expire")
#: Names of columns with people's data: never written. A key may be one of them; it becomes a pseudonym.
PERSONAL = _words(
    "email mail phone mobile telefon firstname lastname fullname surname nachname vorname customername "
    "username billingname shippingname address street strasse zip postcode postalcode plz birth ipaddress "
    "reviewername membername clientname buyername authorname iban "
    "creditcard passport ssn latitude longitude company notes"
)
#: Names of attributes of users that slice the evaluation, and are never a feature.
SENSITIVE = _words(
    "age gender sex income marital religion ethnic race nationality health disab kids children politic"
)
#: Order states under which nothing was sold in the end.
CANCELLED = _words("cancelled canceled voided refunded failed trash void storno returned")
#: Item ids of lines that are no goods, as alternatives of a pattern: carriage, fees, vouchers, tests.
SERVICE_WORDS = (
    r"postage|dotcom postage|shipping|delivery|freight|carriage|manual|discount|samples?|bank charges|"
    r"amazonfee|adjust\d*|voucher|gift_\d\w*|gift[ _-]?card.*|test\d*|test[ _-].*|dummy|donation|surcharge"
)
#: The same as short codes, which may be items of a shop whose ids are words.
SERVICE_CODES = r"post|dot|m|d|s|b|c2|pads|cruk|fees?|tip"
