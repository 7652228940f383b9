"""The command `shelfwise experiments`: report on them, list them, stop one.

shelfwise experiments report canary --config my_shop.yaml   # table, and canary.html
shelfwise experiments stop canary --config my_shop.yaml     # in all gateways, within seconds
"""

from __future__ import annotations

import argparse
import contextlib
import datetime as dt
import sys
import time
from collections.abc import Sequence

from schema import config as config_lib
from schema import names as F
from schema.config.experiments import Experiment
from schema.config.loading import parse_settings
from schema.errors import UserError
from serving.experiments import page
from serving.experiments.assignment import traffic
from serving.experiments.attribution import exposures
from serving.experiments.report import Report, analyse
from serving.store import EventStore


def main(argv: Sequence[str] | None = None, *, prog: str = "python -m serving.experiments.command") -> int:
    """The command, called `prog` in its help; returns the exit status."""
    args = _parser(prog).parse_args(argv)
    try:
        settings = config_lib.load(args.config, parse_settings(args.set)).gateway
        with contextlib.closing(EventStore(settings.store)) as store:
            if args.action == "list":
                print("\n".join(_listed(settings.experiments, store)))
                return 0
            experiment = _named(settings.experiments, args.name, args.config)
            if args.action == "report":
                _report(store, experiment, args)
            elif args.action == "stop":
                new = store.stop(experiment.name)
                print(f"{experiment.name}: {'stopped' if new else 'was stopped before'}")
            else:
                new = store.resume(experiment.name)
                print(f"{experiment.name}: {'goes on' if new else 'was not stopped'}")
    except UserError as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    return 0


def report(store: EventStore, experiment: Experiment, since: float, until: float) -> Report:
    """The report of the lists that were shown in [since, until).

    Args:
      store: has them.
      experiment: its configuration.
      since, until: unix seconds.

    Raises:
      DataError: no lists, or a log that is not of this configuration.
    """
    asked = (experiment.name, since, until)
    found = exposures(
        store.exposures(*asked),
        store.exposed_places(*asked),
        store.outcomes(*asked),
        experiment.attribution_days * F.SECONDS_PER_DAY,
    )
    return analyse(found, experiment)


def _report(store: EventStore, experiment: Experiment, args: argparse.Namespace) -> None:
    now = time.time()
    since = 0.0 if args.since is None else _midnight(args.since)
    until = now if args.until is None else _midnight(args.until) + F.SECONDS_PER_DAY
    if since >= until:
        raise UserError(f"--since {args.since} is after --until {args.until}; give a period")
    found = report(store, experiment, since, until)
    print(page.as_text(found))
    print(f"\n{page.write(found, args.output or f'{experiment.name}.html')}")


def _listed(experiments: Sequence[Experiment], store: EventStore) -> list[str]:
    """A line for each experiment."""
    if not experiments:
        return ["no experiments: gateway.experiments is empty"]
    now, stopped = time.time(), store.stopped()
    lines = []
    for each in experiments:
        state = f"{traffic(each, now):.0%} of users"
        if each.name in stopped:
            at = dt.datetime.fromtimestamp(stopped[each.name], dt.UTC)
            state = f"stopped by hand on {at:%Y-%m-%d %H:%M} UTC"
        elif each.stopped:
            state = "stopped by the configuration"
        arms = " against ".join(arm.name for arm in [*each.arms[1:], each.arms[0]])
        lines.append(f"{each.name}: {arms}; {', '.join(each.surfaces) or 'all lists'}; {state}")
    return lines


def _named(experiments: Sequence[Experiment], name: str, config: str) -> Experiment:
    for each in experiments:
        if each.name == name:
            return each
    known = ", ".join(each.name for each in experiments) or "none"
    raise UserError(f"{config}: there is no experiment '{name}' in gateway.experiments; known are {known}")


def _midnight(day: dt.date) -> float:
    return dt.datetime.combine(day, dt.time(), dt.UTC).timestamp()


def _day(text: str) -> dt.date:
    try:
        return dt.date.fromisoformat(text)
    except ValueError as error:
        raise argparse.ArgumentTypeError(f"'{text}' is no day; write it as 2026-11-28") from error


def _parser(prog: str) -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog=prog, description="Experiments on shoppers.")
    actions = parser.add_subparsers(dest="action", required=True, metavar="ACTION")
    for action, text in (
        ("report", "compare the arms of an experiment"),
        ("list", "list the experiments of the configuration"),
        ("stop", "stop an experiment in all gateways: everybody gets the shop's own lists"),
        ("resume", "let a stopped experiment go on, everybody in their arm"),
    ):
        sub = actions.add_parser(action, help=text, description=f"{text[0].upper()}{text[1:]}.")
        if action != "list":
            sub.add_argument("name", metavar="NAME", help="the experiment's name")
        sub.add_argument("--config", required=True, help="YAML configuration of the shop, with `gateway:`")
        sub.add_argument(
            "--set",
            action="append",
            default=[],
            metavar="KEY=VALUE",
            help="overrides a setting, as for `run`",
        )
        if action == "report":
            sub.add_argument("--since", type=_day, metavar="DAY", help="first day, UTC (default: the first)")
            sub.add_argument("--until", type=_day, metavar="DAY", help="last day, UTC (default: today)")
            sub.add_argument("--output", metavar="FILE", help="where the page goes (default: NAME.html)")
    return parser


if __name__ == "__main__":
    sys.exit(main())
