"""The client's own checks: no server, no TensorFlow."""

from __future__ import annotations

import dataclasses
import math
import subprocess
import sys
from pathlib import Path

import pytest

from schema.events import Event, UserState
from serving.client import Client, Metadata, RequestError, SignatureInfo, TensorInfo
from serving.client.command import main
from serving.client.wire import Connection, Retries, fill

ROOT = Path(__file__).resolve().parents[3]
SHOP = Metadata(
    "shelfwise",
    3,
    {
        "recommend": SignatureInfo(
            {
                "user_id": TensorInfo("DT_STRING", (None,)),
                "history_item_id": TensorInfo("DT_STRING", (None, None)),
                "history_age_days": TensorInfo("DT_FLOAT", (None, None)),
                "context_device": TensorInfo("DT_STRING", (None,)),
                "context_timestamp": TensorInfo("DT_INT64", (None,)),
                "k": TensorInfo("DT_INT32", (None,)),
                "diversity": TensorInfo("DT_FLOAT", (None,)),
            },
            {},
        ),
        "odd": SignatureInfo({"image": TensorInfo("DT_UINT8", (None, None, 3))}, {}),
    },
)


def test_fill_gives_every_input_of_the_signature() -> None:
    given = {
        "user_id": "7",
        "k": 5,
        "history_item_id": ["1", "2"],
        "history_age_days": [3.0, 1.0],
        "category": [],
    }
    assert fill(SHOP, "recommend", given) == {
        "user_id": ("DT_STRING", [1], ["7"]),
        "history_item_id": ("DT_STRING", [1, 2], ["1", "2"]),
        "history_age_days": ("DT_FLOAT", [1, 2], [3.0, 1.0]),
        "context_device": ("DT_STRING", [1], [""]),
        "context_timestamp": ("DT_INT64", [1], [0]),
        "k": ("DT_INT32", [1], [5]),
        "diversity": ("DT_FLOAT", [1], [-1.0]),
    }
    chosen = fill(SHOP, "recommend", {"diversity": 0.0, "drop_bought_days": None})
    assert chosen["diversity"] == ("DT_FLOAT", [1], [0.0])
    nothing = fill(SHOP, "recommend", {"k": 1, "history_item_id": []})
    assert nothing["history_item_id"] == ("DT_STRING", [1, 1], [""])
    assert nothing["history_age_days"] == ("DT_FLOAT", [1, 1], [0.0])


def test_text_from_a_command_line_fits_a_number_input() -> None:
    assert fill(SHOP, "recommend", {"context_timestamp": "1512345600"})["context_timestamp"][2] == [
        1512345600
    ]


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"context_store_id": "4"}, "context 'store_id' is unknown to the model; it knows device, timestamp"),
        ({"drop_bought_days": 3.0}, "drop_bought_days: signature 'recommend' of the model has no such input"),
        ({"category": ["MILK"]}, "category: signature 'recommend' of the model has no such input"),
        ({"context_timestamp": "noon"}, "context_timestamp: 'noon' is not a number"),
        ({"context_timestamp": 1.5}, "context_timestamp: 1.5 is not a whole number of 64 bits"),
        ({"k": 2**31}, "k: 2147483648 is not a whole number of 32 bits"),
        ({"context_device": 1.5}, "context_device: 1.5 is not text"),
        ({"user_id": ["1"]}, "user_id: the model wants a tensor of rank 1"),
        ({"history_item_id": "1"}, "history_item_id: the model wants a tensor of rank 2"),
    ],
)
def test_value_that_does_not_fit_names_the_field(given: dict, message: str) -> None:
    with pytest.raises(RequestError) as raised:
        fill(SHOP, "recommend", given)
    assert str(raised.value).startswith(message)


def test_input_of_a_type_that_the_client_cannot_send() -> None:
    with pytest.raises(RequestError, match="image: the model wants DT_UINT8"):
        fill(SHOP, "odd", {})


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda c: c.recommend("1", k=0), "k: 0 is not a whole number"),
        (lambda c: c.recommend("1", k=True), "k: True is not a whole number"),
        (lambda c: c.recommend("1", diversity=1.5), "diversity: 1.5 is not a number from 0 to 1"),
        (lambda c: c.recommend("1", diversity=True), "diversity: True is not a number"),
        (lambda c: c.recommend("1", drop_bought_days=-1), "drop_bought_days: -1 is not a number"),
        (lambda c: c.recommend("1", drop_bought_days=math.nan), "drop_bought_days: nan is not a number"),
        (lambda c: c.search(7.5), "query: 7.5 is not text"),
        (
            lambda c: c.search("milk", sort="cheapest"),
            "sort: 'cheapest' is none of relevance, price, price_d",
        ),
        (lambda c: c.search("milk", min_price=-1), "min_price: -1 is not a number from 0"),
        (lambda c: c.search("milk", max_price=math.nan), "max_price: nan is not a number"),
        (lambda c: c.search("milk", brand="acme"), "brand: expected a list"),
        (lambda c: c.search("milk", k=0), "k: 0 is not a whole number"),
        (lambda c: c.suggest("mi", k=0), "k: 0 is not a whole number"),
        (lambda c: c.similar("1", k=-3), "k: -3 is not a whole number"),
        (lambda c: c.similar(""), "item_id: is empty"),
        (lambda c: c.embed_text(7.5), "text: 7.5 is not text"),
        (lambda c: c.recommend(1.5), "user_id: 1.5 is not text"),
        (lambda c: c.recommend(UserState("1", ["5"])), "events[0]: '5' is no Event"),
        (lambda c: c.embed_user(UserState("1", [Event("1", float("nan"))])), "days_ago: nan is not a number"),
        (lambda c: c.rank(UserState("1", [Event("1", 1), Event("2", -1)]), ["5"]), "days_ago: -1 is not"),
        (lambda c: c.recommend("1", category="milk"), "category: expected a list"),
        (lambda c: c.recommend("1", exclude_item_id=["4", ""]), "exclude_item_id[1]: is empty"),
        (lambda c: c.rank("1", []), "candidate_item_id: is empty"),
        (
            lambda c: c.explain(UserState(context={"store_id": None}), ["5"]),
            "context 'store_id': None is not one value",
        ),
    ],
)
def test_wrong_argument_names_the_field_before_any_call(call, message: str) -> None:
    with Client("localhost:1") as client, pytest.raises(RequestError) as raised:
        call(client)
    assert str(raised.value).startswith(message)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"address": "localhost"}, "address: 'localhost' is not host:port"),
        ({"timeout": 0}, "timeout: 0 is not a positive"),
        ({"max_attempts": 0}, "max_attempts: 0 is too few"),
        ({"max_attempts": 6}, "max_attempts: 6 is too many, gRPC makes at most 5"),
        ({"initial_backoff": 0}, "initial_backoff: 0 is not a positive number of seconds"),
        ({"max_backoff": 0}, "max_backoff: 0 is not a positive number of seconds"),
        ({"root_certificates": b""}, "root_certificates: given without tls"),
    ],
)
def test_wrong_set_up_names_the_argument(arguments: dict, message: str) -> None:
    with pytest.raises(RequestError) as raised:
        Client(**arguments)
    assert str(raised.value).startswith(message)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["recommend", "--k", "0"], "k: 0 is not a whole number of 1 or more"),
        (["recommend", "--event", "5:soon"], "--event: 'soon' in '5:soon' is not a number of days"),
        (["recommend", "--context", "store"], "--context: 'store' is not name=value"),
        (
            ["recommend", "--user", "1", "--histories", "/nowhere.parquet"],
            "--histories: /nowhere.parquet cannot be read",
        ),
        (["status", "--address", "here"], "address: 'here' is not host:port"),
        (["status", "--ca_cert", "/nowhere.pem"], "--ca_cert: /nowhere.pem cannot be read"),
    ],
)
def test_command_line_error_is_one_line_and_status_1(
    arguments: list[str], message: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(arguments) == 1
    printed = capsys.readouterr()
    assert printed.out == ""
    assert printed.err.startswith(f"serving.client: {message}")
    assert printed.err.count("\n") == 1


def test_unknown_command_is_one_line_and_status_1(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as stopped:
        main(["recomend"])
    assert stopped.value.code == 1
    assert capsys.readouterr().err.count("\n") == 1


def test_help_imports_nothing_heavy() -> None:
    code = (
        "import sys\nimport serving.client\nfrom serving.client.command import main\n"
        "try: main(['recommend', '--help'])\nexcept SystemExit: pass\n"
        "heavy = {'tensorflow', 'tensorflow_serving', 'grpc', 'numpy', 'pyarrow', 'rich'}\n"
        "heavy &= set(sys.modules)\n"
        "sys.exit(f'imported {heavy}' if heavy else 0)"
    )
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert "--user" in done.stdout


def test_imports_nothing_of_ours_but_the_schema() -> None:
    code = (
        "import sys, serving.client.command\n"
        "ours = {'models', 'components', 'pipeline', 'kubeflow', 'benchmarks'} & set(sys.modules)\n"
        "ours |= {name for name in sys.modules if name.startswith('serving.') and "
        "not name.startswith('serving.client')}\n"
        "sys.exit(f'imported {ours}' if ours else 0)"
    )
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr


def test_grpc_is_told_how_to_retry() -> None:
    retries = Retries(3, ("UNAVAILABLE", "ABORTED"), 0.25, 2, wait_for_ready=True)
    assert Connection("dns:///shop:80", retries, None).service_config() == {
        "methodConfig": [
            {
                "name": [{}],
                "waitForReady": True,
                "retryPolicy": {
                    "maxAttempts": 3,
                    "initialBackoff": "0.250000000s",
                    "maxBackoff": "2.000000000s",
                    "backoffMultiplier": 2,
                    "retryableStatusCodes": ["UNAVAILABLE", "ABORTED"],
                },
            }
        ],
        "loadBalancingConfig": [{"round_robin": {}}],
    }
    once = Connection("shop:80", dataclasses.replace(retries, max_attempts=1), None).service_config()
    assert once == {"methodConfig": [{"name": [{}], "waitForReady": True}]}
