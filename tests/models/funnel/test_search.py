"""`search` and `suggest` with the whole funnel behind them, on the tiny shop."""

import functools

import numpy as np
import pytest
import tensorflow as tf

from components.common import artifacts, servables
from models.funnel.search import ProductSearch, plain, shortened
from models.funnel.servable import Funnel
from models.funnel.signatures import concrete, signature_specs
from schema import names as F
from schema.errors import ConfigError
from tests.shops import tiny_search, tiny_shop
from tests.shops.tiny_shop import CONFIG, CUTOFF, ITEMS, KINDS, text

EVERYTHING = len(ITEMS)
BREAD, MILK = KINDS[0], KINDS[1]
BUYER = [("101", 40.0), ("107", 9.0), ("107", 2.0), ("130", 1.0)]  # milk, milk again, bread


@functools.cache
def funnel(**serving):
    """The tiny shop's funnel with a search; it is one for all tests: they must not change it."""
    built = tiny_shop.built()
    section = type(CONFIG.serving).model_validate(CONFIG.serving.model_dump() | serving)
    config = CONFIG.model_copy(update={"serving": section, "search": tiny_search.SEARCH})
    retriever = built.factory.at(CUTOFF)
    ranker = tiny_shop.load(artifacts.model_folder(built.ranking))
    parts = tiny_search.personal_parts(retriever, ranker)
    return Funnel(retriever, ranker, None, None, tiny_shop.items(), config, parts)


@functools.cache
def signature(name, **serving):
    functions = funnel(**serving).search.functions()
    return concrete(functions[name], signature_specs(("store_id",))[name], name)


def inputs(queries, histories=None, k=EVERYTHING, **more):
    """The inputs of `search` for queries, nobody's by default; other inputs are one value for all rows."""
    size = len(queries)
    users = tiny_shop.request([f"user {row}" for row in range(size)], histories or [[]] * size)
    asked = tiny_shop.recommend_inputs(users, k) | {
        F.QUERY: tf.constant(list(queries)),
        F.BRAND: tf.fill([size, 1], ""),
        F.MIN_PRICE: tf.fill([size], -1.0),
        F.MAX_PRICE: tf.fill([size], -1.0),
        F.SORT: tf.fill([size], ""),
    }
    for name, value in more.items():
        spread = tf.constant([value] * size)
        asked[name] = tf.cast(spread, asked[name].dtype) if spread.dtype != tf.string else spread
    return asked


def search(queries, histories=None, k=EVERYTHING, serving=None, **more):
    answer = signature(F.SEARCH, **(serving or {}))(**inputs(queries, histories, k, **more))
    return {name: text(value) for name, value in answer.items()}


def listed(answer, row=0):
    return [item for item in answer[F.ITEM_ID][row] if item]


@functools.cache
def facts():
    """item -> (kind, department, brand, price, position)."""
    items, catalogue = tiny_shop.items(), tiny_search.catalogue()
    return {
        item: (
            items.text[row + 1].split(".")[0],
            catalogue.category[row],
            catalogue.brand[row],
            float(catalogue.price[row]),
            row,
        )
        for row, item in enumerate(catalogue.item_id)
    }


def kind_of(item):
    return facts()[item][0]


def of_kind(kind):
    return {item for item in facts() if kind_of(item) == kind}


# --- what is found ------------------------------------------------------------------------


def test_outputs_have_the_types_and_shapes_of_the_contract():
    answer = signature(F.SEARCH)(**inputs(["milk", "bread"], k=3))
    facets = 3 * tiny_search.SEARCH.facets
    intents = tiny_search.SEARCH.intents
    expected = {
        **dict.fromkeys((F.ITEM_ID, F.ITEM_TEXT, F.SOURCE, F.REASON), (tf.string, (2, 3))),
        **dict.fromkeys((F.SCORE, F.PRICE), (tf.float32, (2, 3))),
        F.TOTAL: (tf.int32, (2,)),
        F.RELAXED: (tf.bool, (2,)),
        **dict.fromkeys((F.RELAXED_QUERY, F.CORRECTED_QUERY, F.NOTICE), (tf.string, (2,))),
        F.PRICE_RANGE: (tf.float32, (2, 2)),
        **dict.fromkeys((F.FACET_NAME, F.FACET_VALUE), (tf.string, (2, facets))),
        F.FACET_COUNT: (tf.int32, (2, facets)),
        **dict.fromkeys((F.INTENT_CATEGORY, F.INTENT_BRAND), (tf.string, (2, intents))),
        **dict.fromkeys((F.INTENT_SCORE, F.INTENT_BRAND_SCORE), (tf.float32, (2, intents))),
    }
    assert {name: (value.dtype, tuple(value.shape)) for name, value in answer.items()} == expected


def test_a_word_finds_all_items_that_have_it_first():
    answer = search([MILK])
    milks = of_kind(MILK)
    assert set(listed(answer)[: len(milks)]) == milks
    assert answer[F.TOTAL].tolist() == [len(milks)]
    assert (answer[F.RELAXED][0], answer[F.NOTICE][0]) == (False, "")
    for item, shown, price in zip(listed(answer), answer[F.ITEM_TEXT][0], answer[F.PRICE][0], strict=False):
        kind, _, _, known, _ = facts()[item]
        assert shown.startswith(kind)
        assert price == (-1 if np.isnan(known) else pytest.approx(known))


def test_an_item_without_events_is_found_by_its_name():
    """`recommend` can only list candidates; who searches for a new item by name must find it."""
    candidates = tiny_shop.built().factory.at(CUTOFF).sources.candidate_row.numpy()[:-1]
    assert tiny_shop.NEVER not in tiny_shop.items().item_id[candidates]
    assert tiny_shop.NEVER in listed(search([tiny_shop.NEVER], k=1))
    assert tiny_shop.NEVER in listed(search([kind_of(tiny_shop.NEVER)]))


def test_k_and_batches_change_nothing():
    """A request answers the same alone, in a batch, and with a smaller k.

    But for rounding: the encoder pads a batch's queries, and two texts that are as near may swap ranks.
    """
    queries = [MILK, "", "no such thing", "bred", f"{BREAD} acme", "chees. NO 3"]
    histories = [BUYER, [], BUYER, [], [("104", 3.0)], []]
    together = search(queries, histories)
    for row, (query, history) in enumerate(zip(queries, histories, strict=True)):
        alone = search([query], [history])
        for name, values in together.items():
            if values.ndim == 1:
                assert values[row] == alone[name][0], (query, name)
        said = [
            {
                item: (words, reason, pytest.approx(price), pytest.approx(score, abs=0.01))
                for item, words, reason, price, score in zip(
                    *(answer[name][at] for name in (F.ITEM_ID, F.ITEM_TEXT, F.REASON, F.PRICE, F.SCORE)),
                    strict=True,
                )
            }
            for answer, at in ((together, row), (alone, 0))
        ]
        assert said[0] == said[1], query
    few = search(queries, histories, k=[1, 2, 3, 0, 5, 2])
    for row, size in enumerate((1, 2, 3, CONFIG.serving.default_k, 5, 2)):
        assert listed(few, row) == listed(together, row)[:size]
        assert not few[F.PRICE][row, size:].any()


# --- who asks -----------------------------------------------------------------------------


def test_the_same_words_give_two_users_different_first_results():
    milk, apple = sorted(of_kind(MILK))[4], sorted(of_kind(MILK))[5]
    histories = [[(milk, age) for age in (9.0, 5.0, 1.0)], [(apple, age) for age in (9.0, 5.0, 1.0)]]
    answer = search([MILK] * 2, histories)
    assert [listed(answer, row)[0] for row in range(2)] == [milk, apple]
    assert set(listed(answer, 0)) == set(listed(answer, 1))


@pytest.mark.parametrize("diversity", [0.0, 0.9])
def test_an_exact_name_is_first_whoever_asks(diversity):
    """Also with boosts for others, and with a diverse list."""
    wanted = [item for item in ITEMS if facts()[item][2] != "best"][:9]
    histories = [[(other, 1.0)] * 5 for other in reversed(wanted)]
    names = {item: tiny_shop.items().text[facts()[item][4] + 1] for item in ITEMS}
    for query in (lambda item: item, lambda item: names[item], lambda item: f"  {names[item].upper()} "):
        answer = search([query(item) for item in wanted], histories, diversity=diversity)
        # two items may bear one name
        assert [names[listed(answer, row)[0]] for row in range(9)] == [names[item] for item in wanted]
        assert (answer[F.SCORE][:, 0] > 1).all()
    model = boosted({"attribute": "brand", "values": ["best"], "log_odds": 40.0, "factor": 9.0})
    assert text(model(**inputs(wanted, histories))[F.ITEM_ID])[:, 0].tolist() == wanted


def boosted(boost):
    """The signature `search` of a shop with one boost."""
    section = type(CONFIG.serving).model_validate(CONFIG.serving.model_dump() | {"boosts": [boost]})
    config = CONFIG.model_copy(update={"serving": section, "search": tiny_search.SEARCH})
    items, before = tiny_shop.items(), funnel()
    pairs, parts = before.search.pairs, tiny_search.personal_parts(before.retriever, before._ranker)
    model = ProductSearch(pairs, parts, items, before.retriever.parser, before.lists, config)
    return concrete(model.search, signature_specs(("store_id",))[F.SEARCH], F.SEARCH)


def test_boosts_lift_items_above_others_with_the_same_words():
    before = [item for item in listed(search([MILK])) if item in of_kind(MILK)]
    brand = facts()[before[-1]][2]
    model = boosted({"attribute": "brand", "values": [brand], "log_odds": 40.0})
    after = [item for item in text(model(**inputs([MILK]))[F.ITEM_ID])[0] if item in of_kind(MILK)]
    lifted = [item for item in before if facts()[item][2] == brand]
    assert before[: len(lifted)] != lifted
    assert after[: len(lifted)] == lifted


def test_a_ranker_of_other_features_is_refused():
    built = tiny_shop.built()
    retriever = built.factory.at(CUTOFF)
    ranker = tiny_shop.load(artifacts.model_folder(built.ranking))
    impersonal = tiny_search.parts(None)
    with pytest.raises(ConfigError, match=r"trained with other features \(is_candidate, logit, own_decayed"):
        Funnel(retriever, ranker, None, None, tiny_shop.items(), CONFIG, impersonal)


# --- filters and sort orders --------------------------------------------------------------


def test_filters_narrow_the_list_the_total_and_the_facets():
    milks = of_kind(MILK)
    some = sorted(milks)[0]
    kinds = {
        "category": (lambda item: facts()[item][1] == facts()[some][1], {F.CATEGORY: [facts()[some][1], ""]}),
        "brand": (lambda item: facts()[item][2] in ("acme", "daily"), {F.BRAND: ["acme", "DAILY"]}),
        "price": (lambda item: 3 <= facts()[item][3] <= 9, {F.MIN_PRICE: 3.0, F.MAX_PRICE: 9.0}),
        "exclude": (lambda item: item != some, {F.EXCLUDE_ITEM_ID: [some, "no such item"]}),
    }
    for name, (holds, given) in kinds.items():
        wanted = {item for item in milks if holds(item)}
        assert 0 < len(wanted) < len(milks), name
        answer = search([MILK], **given)
        assert all(holds(item) for item in listed(answer)), name
        assert set(listed(answer)) >= wanted, name
        assert answer[F.TOTAL].tolist() == [len(wanted)], name
        counts = answer[F.FACET_COUNT][0][answer[F.FACET_NAME][0] == "category"]
        assert counts.sum() == sum(facts()[item][1] != "" for item in wanted), name
    nothing = search([MILK], **{F.MIN_PRICE: 1e6})
    assert listed(nothing) == []
    assert nothing[F.NOTICE].tolist() == [CONFIG.serving.notices.nothing]


def test_what_was_bought_lately_can_be_left_out():
    kept = search([MILK], [BUYER], **{F.DROP_BOUGHT_DAYS: 10.0})
    assert "107" not in listed(kept)
    assert "101" in listed(kept)


@pytest.mark.parametrize(
    ("sort", "key"),
    [
        ("price", lambda item: facts()[item][3]),
        ("price_desc", lambda item: -facts()[item][3]),
        ("newest", lambda item: -facts()[item][4]),
        ("popularity", lambda item: -tiny_search.catalogue().popularity[facts()[item][4]]),
    ],
)
def test_sort_orders(sort, key):
    """Of the items that have the words, whoever asks and however diverse; what has no price comes last."""
    answer = search([MILK], [BUYER], **{F.SORT: sort, F.DIVERSITY: 1.0})
    items = [item for item in listed(answer) if item in of_kind(MILK)]
    assert set(items) == of_kind(MILK)
    values = [key(item) for item in items]
    priced = [value for value in values if not np.isnan(value)]
    assert values[: len(priced)] == priced == sorted(priced)


def test_sorted_lists_hold_nothing_but_matching_items():
    """Similar items have no place in a list by price: the cheapest of them would come first."""
    answer = search([MILK], **{F.SORT: "price"})
    assert set(listed(answer)) == of_kind(MILK)


def test_relevance_is_the_default_and_what_unknown_orders_mean():
    lists = [search([MILK], [BUYER], **{F.SORT: sort}) for sort in ("", "relevance", "by the moon")]
    assert listed(lists[0]) == listed(lists[1]) == listed(lists[2])
    assert np.all(np.diff(lists[0][F.SCORE][0][: len(listed(lists[0]))]) <= 1e-6)


def test_diversity_keeps_the_first_result_and_changes_others():
    before, after = (listed(search([""], **{F.DIVERSITY: d}), 0) for d in (0.0, 1.0))
    assert before[0] == after[0]
    assert before != after
    assert set(before) == set(after)
    default = search([""], serving={"search_diversity": 1.0}, **{F.DIVERSITY: -1.0})
    assert listed(default) == after


# --- what is said -------------------------------------------------------------------------


def test_reasons_say_which_words_match_and_what_the_user_did():
    answer = search([MILK], [BUYER])
    reasons = dict(zip(answer[F.ITEM_ID][0], answer[F.REASON][0], strict=True))
    words = CONFIG.serving.reasons
    for item in listed(answer):
        matches = item in of_kind(MILK)
        if item == "107":  # CUTOFF is a Friday
            assert reasons[item] == "Matches 'milk'; you bought it twice, last on Wednesday"
        elif item == "101":
            assert reasons[item] == "Matches 'milk'; you bought it 40 days ago"
        elif item == "130":
            assert reasons[item].endswith("; you bought it yesterday")
        else:
            assert ";" not in reasons[item]
            assert (reasons[item] == words.search_match.format(words="milk")) == matches
    looked = tiny_shop.request(["user 0"], [[("101", 3.0)]], event_type="view")
    answer = signature(F.SEARCH)(**inputs([MILK], [[("101", 3.0)]]) | looked)
    reasons = dict(zip(text(answer[F.ITEM_ID])[0], text(answer[F.REASON])[0], strict=True))
    assert reasons["101"] == "Matches 'milk'; you looked at it on Tuesday"


def test_misspelt_and_missing_words_are_told():
    answer = search(["mlik", f"{MILK} xylophone", "chese"])
    assert answer[F.CORRECTED_QUERY].tolist()[0] == MILK
    assert answer[F.NOTICE][0] == "Showing results for 'milk'"
    assert "Matches 'milk'" in answer[F.REASON][0]
    assert answer[F.RELAXED].tolist() == [False, True, False]
    assert answer[F.RELAXED_QUERY][1] == MILK
    assert answer[F.NOTICE][1] == "Nothing has all of 'milk xylophone': these have 'milk'"
    assert {kind_of(item) for item in listed(answer, 2)[:5]} == {"cheese"}


def test_others_choices_and_meanings_are_told():
    query, chosen = tiny_search.LOGGED
    answer = search([query])
    sources = dict(zip(answer[F.ITEM_ID][0], answer[F.SOURCE][0], strict=True))
    reasons = dict(zip(answer[F.ITEM_ID][0], answer[F.REASON][0], strict=True))
    for item in chosen:
        assert sources[item] == F.BEHAVIOUR
        assert reasons[item] == f"Others who searched for '{query}' chose it"
    assert F.SEMANTIC in sources.values()
    assert all(
        reasons[item] == f"Close to '{query}' in meaning" for item in sources if sources[item] == F.SEMANTIC
    )
    assert answer[F.NOTICE][0] == f"Nothing has the words of '{query}': these are close to it"


def test_without_words_the_shop_is_shown_by_popularity():
    answer = search(["", "!?", " \u3000 "])
    for row in range(3):
        assert tiny_search.SEARCH.lexical <= len(listed(answer, row)) <= tiny_search.SEARCH.candidates
        assert set(answer[F.REASON][row][answer[F.ITEM_ID][row] != ""]) == {"From our shop"}
        assert answer[F.NOTICE][row] == ""
        assert answer[F.TOTAL][row] == len(ITEMS)


def test_intent_names_the_category_of_the_words():
    kind, department = BREAD, {facts()[item][1] for item in of_kind(BREAD)} - {""}
    answer = search([kind])
    assert answer[F.INTENT_CATEGORY][0][0] in department
    assert 0 < answer[F.INTENT_SCORE][0].sum() <= 1 + 1e-5


def test_facets_count_the_matching_items():
    answer = search([MILK])
    for name, at in (("category", 1), ("brand", 2)):
        mine = answer[F.FACET_NAME][0] == name
        told = dict(zip(answer[F.FACET_VALUE][0][mine], answer[F.FACET_COUNT][0][mine], strict=True))
        counted = {}
        for item in of_kind(MILK):
            value = facts()[item][at]
            if value:
                counted[value] = counted.get(value, 0) + 1
        assert told == counted
        assert list(told.values()) == sorted(told.values(), reverse=True)


def test_price_words_bound_the_price():
    answer = search([f"{MILK} under 6", f"{MILK} 4 to 8"])
    np.testing.assert_allclose(answer[F.PRICE_RANGE], [[-1, 6], [4, 8]])
    for row, (low, high) in enumerate(((0, 6), (4, 8))):
        prices = [facts()[item][3] for item in listed(answer, row)]
        assert prices
        assert all(low <= price <= high for price in prices)
        assert answer[F.REASON][row][0] == "Matches 'milk'"


def test_queries_are_shortened_and_repeated_safely():
    cut = shortened(tf.constant(["é" * 500, b"\xffab\xe7\x89", "milk", ""]), 200)
    assert [value.decode() for value in cut.numpy()] == ["é" * 200, "ab", "milk", ""]
    said = plain(tf.constant(["a\r\nb\0\x1b[1m \u202ec\u2066", "\u3000x\u00a0"]))
    assert [value.decode() for value in said.numpy()] == ["a b [1m c", "x"]
    answer = search(["\x1b[31mxylophone\r\n\u202e kayak"])
    assert answer[F.NOTICE][0] == "Nothing has the words of '[31mxylophone kayak': these are close to it"


# --- suggest ------------------------------------------------------------------------------


def suggest(prefixes, histories=None, k=8):
    size = len(prefixes)
    asked = tiny_shop.request(["u"] * size, histories or [[]] * size)
    asked |= {F.PREFIX: tf.constant(list(prefixes)), F.K: tf.fill([size], k)}
    answer = signature(F.SUGGEST)(**asked)
    assert set(answer) == {F.COMPLETION, F.SCORE}
    return text(answer[F.COMPLETION]), answer[F.SCORE].numpy()


def test_completions_begin_with_what_was_typed_and_find_something():
    completion, score = suggest(["che", "brea", "mlk"])
    for row, kind in enumerate(("cheese", "bread", "milk")):
        words = [words for words in completion[row] if words]
        assert words[0].startswith(kind)
        assert all(np.diff(score[row][: len(words)]) <= 1e-6)
        assert search(words[:1])[F.TOTAL][0] > 0


def test_completions_follow_the_user_and_k():
    departments = sorted({facts()[item][1] for item in ITEMS} - {""})
    bought = [[(item, 1.0) for item in ITEMS if facts()[item][1] == name][:9] for name in departments]
    completion, _ = suggest([""] * 3, bought, k=3)
    assert completion.shape == (3, 3)
    prefixes = ["b", "c", "m"]
    for prefix in prefixes:
        orders = {tuple(suggest([prefix], [history])[0][0]) for history in bought}
        assert all(len(order) <= 8 for order in orders)
    assert any(len({tuple(suggest([p], [h])[0][0]) for h in bought}) > 1 for p in prefixes)


# --- the rest of the servable -------------------------------------------------------------


def test_recommend_does_the_same_work_with_and_without_a_search():
    """Its graph has the same ops: search costs whoever does not search nothing."""
    built = tiny_shop.built()
    ranker = tiny_shop.load(artifacts.model_folder(built.ranking))
    alone = Funnel(built.factory.at(CUTOFF), ranker, None, None, tiny_shop.items(), CONFIG)
    spec = signature_specs(("store_id",))[F.RECOMMEND]
    ops = [
        sorted(op.type for op in concrete(model.recommend, spec, F.RECOMMEND).graph.get_operations())
        for model in (alone, funnel())
    ]
    assert ops[0] == ops[1]


def test_too_many_rows_are_refused():
    for name in (F.SEARCH, F.SUGGEST):
        call = signature(name, max_rows=32)
        asked = inputs([MILK] * 33, k=1) | {F.PREFIX: tf.constant(["mi"] * 33)}
        with pytest.raises(tf.errors.InvalidArgumentError, match="at most 32 rows in a request"):
            call(**{each: asked[each] for each in call.structured_input_signature[1]})


def test_neutral_inputs_are_a_request_of_nobody():
    values = servables.neutral_inputs(tiny_shop.items(), np.arange(1, 9)) | servables.nobody()
    values[F.context("store_id")] = np.asarray([""], object)
    for name in (F.SEARCH, F.SUGGEST):
        [request] = servables.predict_requests({name: signature(name)}, values)
        given = {key: tf.constant(tf.make_ndarray(value)) for key, value in request.inputs.items()}
        answer = signature(name)(**given)
        assert all(tf.size(value) > 0 for value in answer.values())
