"""Settings of the tests that draw their inputs with hypothesis: the same ones in every run, and few."""

from collections.abc import Callable
from typing import Any

from hypothesis import HealthCheck, Phase, settings


def drawn(examples: int) -> settings:
    """The decorator of a test with that many inputs. No clock decides: the machine may be busy.

    A failing input is shown as it was drawn: they are small, and to shrink one takes hundreds of runs.
    """
    return settings(
        max_examples=examples,
        derandomize=True,
        deadline=None,
        phases=(Phase.explicit, Phase.generate),
        report_multiple_bugs=False,
        suppress_health_check=[
            HealthCheck.too_slow,
            HealthCheck.function_scoped_fixture,
            HealthCheck.data_too_large,
            HealthCheck.filter_too_much,
        ],
    )


def outcome(
    call: Callable[[], Any], errors: type[Exception] | tuple[type[Exception], ...]
) -> tuple[Any, Any]:
    """(what `call` gives, None), or (None, the error) if it is of the type(s) `errors`; others are raised."""
    try:
        return call(), None
    except errors as error:
        return None, error
