"""Typed configuration of one shop, read from one YAML file.

In the room: one file for each domain of sections (`data`, `text`, `retrieval`, `ranking`, `search`,
`reasons`, `serving`, `gateway`, `quality`, `kubeflow`), all of them together (`shop`), what one component
sees of them (`settings`), what types of event mean (`kinds`) and how a file is read (`loading`). It imports
pydantic, PyYAML and `schema.errors`, never TensorFlow or TFX: reading a configuration takes milliseconds.

Example::

    config = load("pipeline/configs/complete_journey.yaml", {"data.sample_users": 100})
    config.events.columns.user_id  # "household_id"
"""

from schema.config.base import Name, Section
from schema.config.data import Csv, Data, EventColumns, Events, Exposures, Items, Split, Time, Users
from schema.config.gateway import ApiKey, Bots, Gateway, ImpressionDiscount, Limits, Timeouts
from schema.config.kinds import EventKinds
from schema.config.kubeflow import Kubeflow, Secret, Step, Toleration, Volume
from schema.config.loading import explain, load
from schema.config.quality import InfraValidation, Matching, Quality, SearchQuality
from schema.config.ranking import LabelWindows, Lists, Ranking, Span, Tuning
from schema.config.reasons import Notices, Numbered, Phrases, Reasons
from schema.config.retrieval import Candidates, Collaborative, Retrieval
from schema.config.search import Judgements, Search, SearchField, Suggest
from schema.config.search_training import QueryEncoder, SearchTraining
from schema.config.serving import Boost, Purchases, Serving
from schema.config.settings import Settings, narrow
from schema.config.shop import Config
from schema.config.text import TextEncoder

__all__ = [
    "ApiKey",
    "Boost",
    "Bots",
    "Candidates",
    "Collaborative",
    "Config",
    "Csv",
    "Data",
    "EventColumns",
    "EventKinds",
    "Events",
    "Exposures",
    "Gateway",
    "ImpressionDiscount",
    "InfraValidation",
    "Items",
    "Judgements",
    "Kubeflow",
    "LabelWindows",
    "Limits",
    "Lists",
    "Matching",
    "Name",
    "Notices",
    "Numbered",
    "Phrases",
    "Purchases",
    "Quality",
    "QueryEncoder",
    "Ranking",
    "Reasons",
    "Retrieval",
    "Search",
    "SearchField",
    "SearchQuality",
    "SearchTraining",
    "Secret",
    "Section",
    "Serving",
    "Settings",
    "Span",
    "Split",
    "Step",
    "Suggest",
    "TextEncoder",
    "Time",
    "Timeouts",
    "Toleration",
    "Tuning",
    "Users",
    "Volume",
    "explain",
    "load",
    "narrow",
]
