"""Names of features, inputs, outputs and signatures: the only place where such a name is a string.

Imported as ``from schema import names as F``. A name is part of what is stored (examples, vocabularies,
models) and of what clients send: renaming one breaks both.
"""

import re

SECONDS_PER_DAY = 86_400

# ---- tables: items, users, sessions -----------------------------------------------------------

ITEM_ID = "item_id"
TEXT = "text"
TEXT_PREFIX = "text_"  # text_<source column> in the raw items table
# Numbers of an item, each where the shop has a column for it: float, unix seconds, float.
ITEM_PRICE = "item_price"
ITEM_ADDED = "item_added"
ITEM_POPULARITY = "item_popularity"
ITEM_NUMBERS = (ITEM_PRICE, ITEM_ADDED, ITEM_POPULARITY)
EXPOSURE_WEEK = "exposure_week"
EXPOSURE_PREFIX = "exposure_"  # exposure_<channel>

USER_ID = "user_id"

GAIN = "gain"  # how right an item is for a query (`query`, below): lists of one length with item_id

SESSION_ID = "session_id"
TIMESTAMP = "timestamp"  # unix seconds of the session's first event
# What happened in the session: lists of one length.
TARGET_ITEM_ID = "target_item_id"
TARGET_EVENT_TYPE = "target_event_type"
TARGET_WEIGHT = "target_weight"
TARGET_QUANTITY = "target_quantity"
TARGET_VALUE = "target_value"
TARGET_QUERY = "target_query"
# What the user had done before it, also an input of the signatures: lists of one length, oldest first.
HISTORY_ITEM_ID = "history_item_id"
HISTORY_AGE_DAYS = "history_age_days"
HISTORY_EVENT_TYPE = "history_event_type"
HISTORY = (HISTORY_ITEM_ID, HISTORY_AGE_DAYS, HISTORY_EVENT_TYPE)  # parallel lists, oldest event first
CONTEXT_PREFIX = "context_"  # context_<name>
CONTEXT_TIMESTAMP = "context_timestamp"  # unix seconds at which the user asks; 0 is "not given"

# Vocabularies that the event Transform writes.
ITEM_VOCABULARY = "item_id"
USER_VOCABULARY = "user_id"
EVENT_TYPE_VOCABULARY = "event_type"

# ---- lists of candidates ----------------------------------------------------------------------

CANDIDATE_ITEM_ID = "candidate_item_id"
CANDIDATE_WEIGHT = "candidate_weight"
# What happened after the request, within the label window (see CandidateSampler).
LABEL = "label"  # bought
LABEL_SOON = "label_soon"  # bought within `ranking.soon_days`
LABEL_NEXT_SESSION = "label_next_session"  # bought in the next session
LABEL_REPEAT = "label_repeat"  # bought in two or more sessions
LABEL_QUANTITY = "label_quantity"
LABEL_VALUE = "label_value"
LABELS = (LABEL, LABEL_SOON, LABEL_NEXT_SESSION, LABEL_REPEAT, LABEL_QUANTITY, LABEL_VALUE)
SLICE_PREFIX = "slice_"  # slice_<attribute>: by what the evaluation is sliced

# ---- signatures of the servable ---------------------------------------------------------------

RECOMMEND = "recommend"
SIMILAR = "similar"  # and the source of its results
RANK = "rank"
EXPLAIN = "explain"
EMBED_TEXT = "embed_text"
EMBED_USER = "embed_user"
EMBED_ITEM = "embed_item"
SEARCH = "search"
SUGGEST = "suggest"

# Inputs, besides the user's (user id, history, context).
EXCLUDE_ITEM_ID = "exclude_item_id"
CATEGORY = "category"
K = "k"
DIVERSITY = "diversity"
DROP_BOUGHT_DAYS = "drop_bought_days"
QUERY = "query"
PREFIX = "prefix"
BRAND = "brand"
MIN_PRICE = "min_price"
MAX_PRICE = "max_price"
SORT = "sort"

# Outputs.
SCORE = "score"
SOURCE = "source"
REASON = "reason"
ITEM_TEXT = "item_text"
EMBEDDING = "embedding"
P_PURCHASE = "p_purchase"
P_REPEAT = "p_repeat"
EXPECTED_VALUE = "expected_value"
LOG_ODDS = "log_odds"
BASELINE = "baseline"
ATTRIBUTION = "attribution"
GROUP = "group"
FEATURE = "feature"
FEATURE_NAME = "feature_name"
PRICE = "price"
TOTAL = "total"
RELAXED = "relaxed"
RELAXED_QUERY = "relaxed_query"
CORRECTED_QUERY = "corrected_query"
NOTICE = "notice"
PRICE_RANGE = "price_range"
FACET_NAME = "facet_name"
FACET_VALUE = "facet_value"
FACET_COUNT = "facet_count"
INTENT_CATEGORY = "intent_category"
INTENT_SCORE = "intent_score"
INTENT_BRAND = "intent_brand"
INTENT_BRAND_SCORE = "intent_brand_score"
COMPLETION = "completion"

# How a search is sorted; relevance is also what "" means.
RELEVANCE = "relevance"
PRICE_ASCENDING = "price"
PRICE_DESCENDING = "price_desc"
NEWEST = "newest"
POPULARITY = "popularity"
SORTS = (RELEVANCE, PRICE_ASCENDING, PRICE_DESCENDING, NEWEST, POPULARITY)

# ---- candidate sources ------------------------------------------------------------------------

# Settings in `candidates`, and what an answer says of an item. Their order stands in
# models/retrieval/sources.
BUY_AGAIN = "buy_again"
CO_PURCHASED = "co_purchased"
TWO_TOWER = "two_tower"
TRENDING = "trending"
NEW_ITEMS = "new_items"
PLANNED = "planned"
VIEWED = "viewed"
EXPLORATION = "exploration"
# What a reason may need: that the shop knows its promotions ahead.
ON_OFFER = "on_offer"

# How a search found an item, and what an answer of `search` says of it.
LEXICAL = "lexical"
SEMANTIC = "semantic"
BEHAVIOUR = "behaviour"
OWN = "own"

# ---- cards ------------------------------------------------------------------------------------

# What a page shows of an item: columns of the file that lies with a pushed version.
CARDS_FILE = "assets.extra/catalogue.parquet"
CARD_TITLE = "title"
CARD_IMAGE_URL = "image_url"
CARD_POPULARITY = "popularity"
CARDS = (ITEM_ID, CARD_TITLE, CATEGORY, BRAND, PRICE, CARD_IMAGE_URL, CARD_POPULARITY)


def text_column(source: str) -> str:
    """Feature name of a text column of the items table.

    Characters that TensorFlow refuses in names ("title:token_seq") become underscores.
    """
    return TEXT_PREFIX + re.sub(r"\W", "_", source, flags=re.ASCII)


def exposure(channel: str) -> str:
    """Feature name of the exposure counts of a channel."""
    return EXPOSURE_PREFIX + channel


def context(name: str) -> str:
    """Feature name of a context column."""
    return CONTEXT_PREFIX + name


def user_attribute(name: str) -> str:
    """Name of a user attribute among the query tower's inputs."""
    return "user_" + name
