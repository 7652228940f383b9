"""What views are worth, on a log in which they say everything."""

import numpy as np
import pandas as pd
import pytest
import tensorflow as tf

from benchmarks import event_types
from components.common.protocol import Protocol
from components.common.windows import Windows
from schema import names as F
from schema.config import Config
from tests.shops import tiny_shop
from tests.shops.tiny_shop import CONFIG, CUTOFF, DAY, END, START

WINDOWS = Windows(("train", "eval"), "test", CUTOFF, END)


def config(path):
    tree = CONFIG.model_dump()
    tree |= {"data": {"root": str(path)}, "events": tree["events"] | {"context": {}}}
    tree["events"]["path"] = "events.csv"
    tree["candidates"] |= {"min_events": 1}
    return Config.model_validate(tree)


@pytest.fixture
def frame():
    """Everybody views an item some days before the cut-off and buys it after; all buy at random before."""
    rng = np.random.default_rng(5)
    rows = []
    for user in range(40):
        for day in range(0, 160, 8):
            rows.append((f"u{user:02}", f"{100 + rng.integers(30)}", START + day * DAY + user, "purchase"))
        wanted = f"{100 + user % 30}"
        rows.append((f"u{user:02}", wanted, CUTOFF - 2 * DAY, "view"))
        rows.append((f"u{user:02}", wanted, CUTOFF + 5 * DAY, "purchase"))
    rows.append(("u00", "100", END - 1, "view"))
    return pd.DataFrame(rows, columns=["user", "item", "time", "type"])


def test_who_viewed_an_item_is_offered_it(frame, tmp_path):
    frame.to_csv(tmp_path / "events.csv", index=False)
    shop = config(tmp_path)
    log, windows = event_types.read(shop)
    assert (windows.cutoff, windows.end) == (CUTOFF - 1, END)  # counted back from the last event
    assert len(log) == len(frame)
    assert log.bought.sum() == (frame["type"] == "purchase").sum()
    found = event_types.compare(log, windows, shop)
    for systems in found.values():
        bought, viewed = systems[event_types.BOUGHT], systems[event_types.VIEWED]
        assert viewed["ndcg@10"] > 0.99
        assert bought["ndcg@10"] < 0.6
        difference = viewed["ndcg@10"] - bought["ndcg@10"]
        assert viewed["difference_ndcg@10"] == pytest.approx(difference)
        assert 0 < viewed["difference_ndcg@10_se"] < 0.1
    assert found["all"][event_types.BOUGHT]["users"] == 40


def test_a_shop_of_purchases_has_nothing_to_compare(frame, tmp_path, capsys):
    frame.assign(type="purchase").to_csv(tmp_path / "events.csv", index=False)
    shop = config(tmp_path)
    events = shop.events.model_copy(update={"event_weights": {"purchase": 1.0}})
    with pytest.raises(event_types.UserError, match="every event of this shop is a purchase"):
        event_types.read(shop.model_copy(update={"events": events}))


def test_what_is_open_was_viewed_and_not_bought_since():
    log = tiny_shop.log()
    protocol = event_types.Protocol.of(log.purchases, WINDOWS, 1)
    past = log.before(CUTOFF)
    got = event_types.Asked(protocol, past, CONFIG).open_events()
    frame = tiny_shop.events()
    frame = frame[frame["timestamp"] < CUTOFF]
    bought = frame[frame["event_type"] == "purchase"].groupby(["user_id", "item_id"])["timestamp"].max()
    expected = np.zeros_like(got)
    names = protocol.log.items[protocol.catalogue].tolist()
    users = log.users.tolist()
    for row in frame[frame["event_type"] == "view"].itertuples():
        if row.item_id in names and row.timestamp > bought.get((row.user_id, row.item_id), -1):
            place = users.index(row.user_id), names.index(row.item_id)
            expected[place] += 0.25 * 0.5 ** ((CUTOFF - row.timestamp) / DAY / 14)
    assert (expected > 0).sum() > 30
    np.testing.assert_allclose(got, expected, rtol=1e-5)


class Echo:
    """Answers with what it is told of the past, the newest first."""

    def __init__(self):
        self.signatures = {F.RECOMMEND: self.recommend}

    def recommend(self, **request):
        told = [
            list(dict.fromkeys(filter(None, row[::-1])))
            for row in request[F.HISTORY_ITEM_ID].numpy().tolist()
        ]
        return {F.ITEM_ID: tf.constant([row + [b""] * (100 - len(row)) for row in told])}


def test_a_servable_of_purchases_is_told_no_views(frame, tmp_path):
    frame.to_csv(tmp_path / "events.csv", index=False)
    log, windows = event_types.read(config(tmp_path))
    protocol = Protocol.of(log, windows, 1)
    found = event_types.compare_servables(protocol, Echo(), Echo(), 40)
    for task, learned in found.items():
        assert learned[event_types.BOUGHT]["users"] == len(protocol.users(task))
        # the last event of everybody is the view of what is bought next
        assert learned[event_types.ALL]["ndcg@10"] == 1
    past = frame[(frame["type"] == "purchase") & (frame["time"] <= windows.cutoff)]
    gains = []
    for user, items in past.sort_values("time").groupby("user")["item"]:
        latest = list(dict.fromkeys(items.tolist()[::-1]))
        wanted = f"{100 + int(user[1:]) % 30}"
        gains.append(1 / np.log2(2 + latest.index(wanted)) if wanted in latest[:10] else 0)
    assert found["all"][event_types.BOUGHT]["ndcg@10"] == pytest.approx(np.mean(gains))


def test_a_folder_without_a_run_is_told(frame, tmp_path, capsys):
    frame.to_csv(tmp_path / "events.csv", index=False)
    (tmp_path / "shop.yaml").write_text(config(tmp_path).model_dump_json(exclude_none=True))
    given = ["--config", str(tmp_path / "shop.yaml"), "--runs", str(tmp_path), str(tmp_path)]
    assert event_types.main(given) == 1
    assert "holds no metadata.sqlite" in capsys.readouterr().err
