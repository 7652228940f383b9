import numpy as np
import pytest
import tensorflow as tf

from models.search import text


def terms(query) -> list[str]:
    return [term.decode() for term in text.terms(tf.constant([query])).to_list()[0]]


@pytest.mark.parametrize(
    ("spellings", "wanted"),
    [
        (["16oz", "16 oz", "16-OZ", "16 ounces", "16 Ounce", "１６ oz."], ["16oz"]),
        (["1.5L", "1.5 liters", "1½ l", "1 1/2 litre", "1.50 l"], ["1.5l"]),
        (["½ gal", "1/2 gallon", ".5 gal", "0.5 gallons"], ["0.5gal"]),
        (["12 fl oz", "12 fl. oz.", "12 fluid ounces"], ["12floz"]),
        (["pack of 12", "12-pack", "12 pk"], ["12pack"]),
        (['32" tv', "32 inch TV", "32-inches tv"], ["32inch", "tv"]),
        (["8 x 10", "8x10", "8 × 10"], ["8x10"]),
        (["2% milk", "2 percent milk"], ["2pct", "milk"]),
        (["1,299.00", "1299"], ["1299"]),
        (["2 in 1", "2in1"], ["2in1"]),
        (["crème BRÛLÉE", "creme brulee"], ["creme", "brulee"]),
        (["men's", "mens", "men’s"], ["men"]),
        (["straße", "STRASSE"], ["strasse"]),
    ],
)
def test_one_spelling(spellings, wanted):
    for spelling in spellings:
        assert terms(spelling) == wanted, spelling


def test_plurals():
    pairs = {
        "batteries": "battery",
        "boxes": "box",
        "brushes": "brush",
        "dresses": "dress",
        "tomatoes": "tomato",
        "shoes": "shoe",
        "houses": "house",
        "cookies": "cookie",
        "pies": "pie",
        "cups": "cup",
    }
    for many, one in pairs.items():
        assert terms(many) == terms(one), many
    for word in ("tennis", "glass", "bus", "gas"):
        assert terms(word) == [word]


def test_runs_without_blanks_are_pairs_of_characters():
    assert terms("苹果手机iphone 15") == ["苹果", "果手", "手机", "iphone", "15"]
    assert terms("米") == ["米"]
    assert terms("ﾐﾙｸ") == ["ミル", "ルク"]  # half width
    found = text.text_words(tf.constant(["手机壳"])).to_list()[0]
    assert {word.decode() for word in found} == {"手", "机", "壳", "手机", "机壳"}


def test_emoji_control_characters_and_broken_text_are_blanks():
    assert terms("mi\u200blk\x00fat 😀🧀") == ["milk", "fat"]
    assert terms(b"milk\xff\xfefat") == ["milk", "fat"]
    assert terms("\u202emilk\u202c") == ["milk"]
    for nothing in ("", "   ", "\x01\x02", "😀", "!!!", b"\xff"):
        assert terms(nothing) == []


def test_amounts_are_bounded():
    found = text.terms(tf.constant(["word " * 5000, "a" * 10_000, "手" * 10_000]))
    assert found.row_lengths().numpy().max() <= text.QUERY_WORDS
    sizes = tf.strings.length(found.flat_values, unit="UTF8_CHAR").numpy()
    assert sizes.max() <= text.WORD_CHARACTERS


@pytest.mark.parametrize(
    ("query", "least", "most", "rest"),
    [
        ("shoes under 20", -1, 20, "shoes"),
        ("shoes below $20.50 for men", -1, 20.5, "shoes for men"),
        ("tv less than 300 dollars", -1, 300, "tv"),
        ("toys 20 to 30", 20, 30, "toys"),
        ("gift between $5 and $10", 5, 10, "gift"),
        ("$20 - $30 lamp", 20, 30, "lamp"),
        ("laptop over $500", 500, -1, "laptop"),
        ("耳机 100元以下", -1, 100, "耳机"),
        ("杯子20到30元", 20, 30, "杯子"),
        ("women over 50 vitamins", -1, -1, "women over 50 vitamins"),
        ("lego ages 3 to 5", -1, -1, "lego ages 3 to 5"),
        ("milk under 20 oz", -1, -1, "milk under 20oz"),
        ("under armour", -1, -1, "under armour"),
        ("cheap milk", -1, -1, "cheap milk"),
        ("30 to 20", 20, 30, ""),
    ],
)
def test_price_words(query, least, most, rest):
    bounds, left = text.prices(text.fold(tf.constant([query])))
    np.testing.assert_allclose(bounds.numpy(), [[least, most]])
    assert text.letters(left).numpy()[0].decode() == rest
