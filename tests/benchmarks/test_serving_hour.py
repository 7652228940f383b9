"""How the benchmark's hour judges answers and memory."""

import os
import random

import pytest

from benchmarks import serving_hour
from benchmarks.serving_hostile import TIMEOUT, Hostile


class Answers:
    """In the place of a server: what it gives to each kind of request."""

    def __init__(self, good="OK", version=5, malformed="INTERNAL", hostile="400"):
        self.contents = [b"1", b"2"]
        self.good, self.version, self.malformed, self.hostile = good, version, malformed, hostile

    def ask(self, number):
        return self.good, self.version

    def ask_malformed(self, random_):
        return self.malformed, "INVALID_ARGUMENT or INTERNAL"

    def status(self, hostile):
        return self.hostile


def traffic(requests=3000, **answers):
    one = Answers(**answers)
    made = serving_hour.Traffic(one, one, [Hostile("bomb", b"")])
    made.serving = 5
    random_ = random.Random(1)
    for _ in range(requests):
        made.one(random_)
    return made


def test_a_twentieth_is_malformed_and_a_fiftieth_hostile():
    made = traffic()
    assert made.bad() == {}
    assert made.count("malformed") == pytest.approx(150, abs=40)
    assert made.count("hostile") == pytest.approx(60, abs=25)
    assert made.count() == 3000
    assert len(made.times) == made.count("well-formed")
    assert made.versions == {5}


@pytest.mark.parametrize(
    ("answers", "bad"),
    [
        ({"good": "WRONG"}, "well-formed: WRONG"),
        ({"good": "UNAVAILABLE"}, "well-formed: UNAVAILABLE"),
        ({"version": 4}, "well-formed: version 4 answered when 5 served"),
        ({"malformed": "OK"}, "malformed: OK instead of INVALID_ARGUMENT or INTERNAL"),
        ({"hostile": "500"}, "hostile: 500: bomb"),
        ({"hostile": "ConnectionResetError"}, "hostile: ConnectionResetError: bomb"),
    ],
)
def test_what_nobody_deserves_is_bad(answers, bad):
    made = traffic(**answers)
    kind = bad.partition(":")[0]
    assert made.bad() == {bad: made.count(kind)}
    assert made.count(kind) > 0


def test_a_late_answer_is_not_a_wrong_one():
    made = traffic(good="DEADLINE_EXCEEDED", malformed="DEADLINE_EXCEEDED", hostile=TIMEOUT)
    assert made.bad() == {}
    assert made.count(outcome="late") == 3000
    assert made.times == []


def memory(megabytes, every=10.0, period=60.0):
    made = serving_hour.Memory(os.getpid(), period)
    made._samples = [(place * every, float(value)) for place, value in enumerate(megabytes)]
    return made


def test_growth_is_that_of_what_is_left_between_swaps():
    def course(second):
        start = 1000 - second if second < 300 else 700  # it settles
        return start + 30 * second / 3600 + (900 if second % 60 < 30 else 0)  # each swap takes 900 MB

    made = memory([course(10 * place) for place in range(361)])
    hours, least = made.floors()
    assert len(hours) == 60
    assert least[-1] == pytest.approx(730, abs=1)
    assert made.growth() == pytest.approx(30, abs=0.5)
    assert made.course().startswith("950 MB at 0 min, ")
    assert made.course().endswith("MB at 60 min")


@pytest.mark.parametrize("samples", [0, 1, 7, 13])
def test_a_short_time_has_no_growth(samples):
    made = memory([500.0] * samples)
    assert str(made.growth()) == "nan"
    assert isinstance(made.course(), str)
