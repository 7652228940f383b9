import numpy as np
import pytest
import tensorflow as tf

from models.search.index import SearchIndex
from tests.models.search import small_search as small


def first(query: str, **given) -> str:
    return small.ids(small.find(query, **given))[0]


def text_of(values: np.ndarray) -> str:
    return values[0].decode()


def test_words_find_items_that_have_them_all():
    found = small.find("chocolate milk")
    assert small.ids(found)[0] == "a2"
    assert small.matching(found) == {"a2"}
    assert found.total.tolist() == [1]
    assert not found.relaxed[0]
    assert text_of(found.relaxed_query) == "chocolate milk"
    assert text_of(found.corrected_query) == ""


@pytest.mark.parametrize(
    ("query", "wanted", "corrected"),
    [
        ("choclate bar", "a4", "chocolate bar"),
        ("mlik gallon 1", "a1", ""),
        ("toothpast", "c1", "toothpaste"),
        ("runing sheos men", "b1", "running shoes men"),
        ("shampooo", "c3", "shampoo"),
    ],
)
def test_one_typo_a_word_finds_the_same_item(query, wanted, corrected):
    found = small.find(query)
    assert small.ids(found)[0] == wanted
    if corrected:
        assert text_of(found.corrected_query) == corrected
        assert not found.relaxed[0]


def test_known_words_are_not_corrected():
    found = small.find("cat food")
    assert text_of(found.corrected_query) == ""
    assert small.matching(found) == {"d3"}


def test_units_numbers_and_plurals_have_one_spelling():
    for query in ("dog foods 5lbs", "dog food 5 pounds", "DOG FOOD 5-LB"):
        assert small.matching(small.find(query)) == {"d1", "d2"}, query
    assert small.matching(small.find("2in1 shampoo")) == {"c3"}
    assert small.matching(small.find("creme brulee")) == {"g3"}


def test_words_together_and_apart():
    found = small.find("tooth paste")
    assert small.matching(found) == {"c1"}
    found = small.find("dogfood")
    assert small.matching(found) == {"d1", "d2"}
    assert text_of(found.corrected_query) == "dog food"


def test_synonyms_of_settings_and_of_behaviour():
    for query in ("soda", "pop", "soft drink", "soft drinks"):
        assert {"e1", "e2", "e3"} <= small.matching(small.find(query)), query
    assert first("pop") == "e3"  # the word itself counts more
    assert {"b1", "b2", "b3"} <= small.matching(small.find("sneakers"))


def test_ignored_words_are_not_missed():
    found = small.find("shoes for the women")
    assert small.matching(found) == {"b2"}
    assert not found.relaxed[0]
    assert small.matching(small.find("for")) == {"b1", "b2"}  # but found where there is nothing else


def test_relaxes_the_least_informative_word_first():
    found = small.find("leather running boots")
    # no item has all three; "running" is in most items
    assert found.relaxed[0]
    assert text_of(found.relaxed_query) == "leather boots"
    assert small.matching(found) == {"b4"}
    found = small.find("zzyzx milk")
    assert found.relaxed[0]
    assert text_of(found.relaxed_query) == "milk"
    assert small.matching(found) == {"a1", "a2", "a3"}


def test_nothing_known_is_said_to_be_relaxed_and_still_answered():
    found = small.find("qqqqzzzz")
    assert found.relaxed[0]
    assert text_of(found.relaxed_query) == ""
    assert found.valid[0].any()
    assert not found.matching.any()


def test_price_words_bound_and_give_way():
    found = small.find("shoes under 100")
    assert small.matching(found) == {"b1", "b2"}
    assert found.price_range[0].tolist() == [-1, 100]
    assert not found.relaxed[0]
    found = small.find("shoes under 10")
    assert small.matching(found) == {"b1", "b2", "b3", "b4"}
    assert found.relaxed[0]
    assert text_of(found.relaxed_query) == "shoes"
    assert small.matching(small.find("fan under 5")) == {"g1"}  # an unknown price may be right


@pytest.mark.parametrize(("query", "most"), [("shoes under 100", 100), ("qqqqzzzz under 12", 12)])
def test_price_words_bound_what_other_sources_find_too(query, most):
    found = small.find(query)
    price = {row[0]: row[4] for row in small.ITEMS}
    listed = [price[item] for item in small.ids(found)]
    assert any(value <= most for value in listed)
    assert not any(value > most for value in listed)


def test_price_and_brand_filters():
    searcher = small.searcher()
    allowed = searcher.allowed(
        tf.constant([5.0, -1.0, np.nan]),
        tf.constant([10.0, -1.0, -1.0]),
        tf.constant([[""], ["PAWS"], ["none"]]),
    ).numpy()
    price = np.asarray([row[4] for row in small.ITEMS])
    np.testing.assert_array_equal(allowed[0], (price >= 5) & (price <= 10))  # NaN is outside
    assert {small.ITEMS[place][0] for place in np.flatnonzero(allowed[1])} == {"d1", "d2", "d3"}
    assert not allowed[2].any()
    found = small.find("food", allowed=allowed[1:2])
    assert set(small.ids(found)) <= {"d1", "d2", "d3"}
    assert found.total[0] == 3


def test_without_filters_no_item_is_looked_at():
    nothing = tf.constant([-1.0, np.nan])
    allowed = small.searcher().allowed(nothing, nothing, tf.constant([[""], [" "]]))
    np.testing.assert_array_equal(allowed, [[True]])


def test_excluded_items_never_come():
    allowed = np.ones((1, len(small.ITEMS)), bool)
    allowed[0, small.position("a1", "a2")] = False
    found = small.find("Chocolate milk 16 oz", "a1", "", allowed=allowed)
    for row in range(3):
        assert not {"a1", "a2"} & set(small.ids(found, row))


@pytest.mark.parametrize("query", ["trail running shoes", "TRAIL RUNNING SHOE", " b3 ", "B3"])
def test_exact_names_and_ids(query):
    found = small.find(query)
    place = small.ids(found).index("b3")
    assert found.exact[0].tolist() == [slot == place for slot in range(found.exact.shape[1])]
    assert place == 0


def test_behaviour_brings_what_people_chose():
    found = small.find("breakfast")
    listed = small.ids(found)
    assert listed[:2] == ["a2", "a5"]
    name = small.searcher().feature_names.index("log_share")
    np.testing.assert_allclose(found.features[0, :2, name], [4 / 6, 2 / 6], rtol=1e-5)
    assert found.source[0, 0] == b"behaviour"


def test_own_items_are_found_where_they_match():
    own = [small.position("b4", "a3", "a3") + [len(small.ITEMS)]]
    name = small.searcher().feature_names.index("rank_own")
    found = small.find("milk", own=own)
    share = dict(zip(small.ids(found), found.features[0, :, name], strict=False))
    assert share["a3"] == pytest.approx(1.0)
    assert share["a1"] == 0
    assert share.get("b4", 0) == 0


def test_sort_orders_show_matching_items_only():
    milk = {"a1": (3.5, 900, 100), "a2": (2.0, 300, 200), "a3": (4.5, 200, 300)}
    for sort, column, reverse in (
        ("price", 0, False),
        ("price_desc", 0, True),
        ("popularity", 1, True),
        ("newest", 2, True),
    ):
        found = small.find("milk", sort=sort)
        assert small.ids(found) == sorted(milk, key=lambda name: milk[name][column], reverse=reverse), sort
        assert not found.by_relevance[0]
        order = found.order[0][found.valid[0]]
        assert (np.diff(order) < 0).all()
    assert small.ids(small.find("fan", sort="price")) == ["g2", "g1"]  # an unknown price comes last
    assert small.ids(small.find("fan", sort="price_desc")) == ["g2", "g1"]
    assert small.find("milk", sort="relevance").by_relevance[0]
    assert small.find("milk", sort="no such order").by_relevance[0]


def test_facets_count_matching_items():
    found = small.find("running shoes")
    counts = {
        (name.decode(), value.decode()): int(count)
        for name, value, count in zip(
            found.facet_name[0], found.facet_value[0], found.facet_count[0], strict=True
        )
        if count
    }
    assert counts == {
        ("category", "Shoes"): 3,
        ("brand", "Stride"): 2,
        ("brand", "Peak"): 1,
        ("price", "50-"): 3,
    }
    assert found.facet_name.shape == (1, 12)


def test_intent_is_what_the_candidates_are():
    found = small.find("running shoes", "paws food")
    assert found.intent_category[0, 0] == b"Shoes"
    assert found.intent_category_score[0, 0] > 0.5
    assert found.intent_brand[1, 0] == b"Paws"
    name = small.searcher().feature_names.index("brand_named")
    named = dict(zip(small.ids(found, 1), found.features[1, :, name], strict=False))
    assert named["d1"] == 1
    assert named["a1"] == 0 if "a1" in named else True
    assert (np.diff(found.intent_category_score, axis=1) <= 0).all()
    assert (found.intent_category_score.sum(1) <= 1 + 1e-5).all()


def test_chinese_needs_no_blanks():
    assert small.ids(small.find("手机壳"))[0] == "f1"
    assert small.matching(small.find("手机")) == {"f1", "f2"}
    assert small.matching(small.find("米")) == {"f3"}
    found = small.find("红色苹果")  # "色苹" is across two words, and nobody misses it
    assert small.ids(found)[0] == "f1"
    assert not found.relaxed[0]
    found = small.find("手机 30元以下")
    assert small.matching(found) == {"f1"}


def test_no_words_are_answered_with_what_is_popular():
    found = small.find("", "   ", "😀 !!")
    popular = sorted(small.ITEMS, key=lambda row: -row[5])
    for row in range(3):
        assert small.ids(found, row)[:3] == [item[0] for item in popular[:3]]
        assert not found.relaxed[row]
        assert found.total[row] == len(small.ITEMS)
        assert text_of(found.relaxed_query[row : row + 1]) == ""


def test_a_batch_answers_as_each_query_alone():
    queries = ["choclate milk", "", "手机壳", "shoes under 100", "zzyzx", "cat food"]
    together = small.find(*queries)
    for row, query in enumerate(queries):
        alone = small.find(query)
        np.testing.assert_array_equal(together.position[row], alone.position[0])
        np.testing.assert_allclose(together.features[row], alone.features[0], atol=1e-5)
        assert together.relaxed_query[row] == alone.relaxed_query[0]
        assert together.total[row] == alone.total[0]


def test_saved_tables_and_a_saved_model_answer_the_same(tmp_path):
    small.index().save(str(tmp_path / "index"))
    loaded = SearchIndex.load(str(tmp_path / "index"))
    assert loaded.field_names == small.index().field_names
    again = small.make(tables=loaded)
    module = tf.Module()
    module.searcher = again

    def call(query):
        found = again(query, tf.ones([1, 1], tf.bool))
        return dict(vars(found))

    module.search = tf.function(call, input_signature=[tf.TensorSpec([None], tf.string)], autograph=False)
    tf.saved_model.save(module, str(tmp_path / "model"), signatures={"search": module.search})
    served = tf.saved_model.load(str(tmp_path / "model")).signatures["search"]
    queries = ["choclate milk", "soft drink", "手机壳", "dogfood", "breakfast"]
    answer, expected = served(query=tf.constant(queries)), small.find(*queries)
    for name, value in vars(expected).items():
        if value.dtype.kind == "f":
            np.testing.assert_allclose(answer[name].numpy(), value, atol=1e-5, err_msg=name)
        else:
            np.testing.assert_array_equal(answer[name].numpy(), value, err_msg=name)


def test_a_catalogue_without_categories_brands_prices_or_words():
    rows = [("x", "!!!", "", "", np.nan, 0, 0), ("y", "", "", "", np.nan, 0, 0)]
    import dataclasses

    plain = dataclasses.replace(small.catalogue(rows), category=None, brand=None)
    settings = small.SETTINGS.model_copy(update={"fields": {}, "title": "title"})
    found = small.make(settings, SearchIndex.build(plain, settings))(
        tf.constant(["milk", "", "x"]), tf.ones([1, 1], tf.bool)
    )
    assert found.valid.numpy().sum(1).tolist() == [2, 2, 2]
    assert found.intent_category.numpy()[0, 0] == b""
    assert found.position.numpy()[2, 0] == 0  # by its id


def test_hostile_queries_are_answered():
    queries = [
        *("", " ", "\t\n", "😀" * 50, "a" * 10_000, "milk " * 3000, "\x00\x01\x02", "‮milk‬", "مرحبا"),
        *("'; DROP TABLE items; --", "<script>alert(1)</script>", "%s%n{0}${x}", "../../etc/passwd", "-"),
        *(
            b"\xff\xfe\x00",
            b"\xc3",
            b"milk\xf0\x9f",
            "1/0",
            "9" * 400,
            "under",
            "under 99999999999999",
            "½¼¾",
        ),
        *("1.5.2.3", "$", "$ - $", "from to", "\u200b" * 30, "ก" * 500, "手" * 3000, "a " * 5000, "ﷺ" * 100),
        *(
            "\\",
            "[a-z]+(",
            "_",
            "soft_drink",
            "\x02",
            "元以下",
            "0 to 0",
            "20 to",
            "5-5",
            "ß" * 100,
            "İ" * 50,
        ),
    ]
    found = small.find(*queries)
    assert np.isfinite(found.features).all()
    assert found.valid.any(1).all()
    assert (found.position <= len(small.ITEMS)).all()
    for name in ("relaxed_query", "corrected_query"):
        for value in getattr(found, name):
            value.decode("utf-8")
