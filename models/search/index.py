"""The tables of a search: built once from a catalogue, saved, loaded, read by the graph."""

from __future__ import annotations

import dataclasses

from models.search.catalogue import QueryLog, SearchCatalogue, SynonymTable
from schema.config import Search


@dataclasses.dataclass(frozen=True)
class SearchIndex:
    """All tables that `Searcher` and `Suggester` read, as numpy arrays (no vectors, no weights of models).

    `count` is C, `field_names` the text fields, `title` the field that names an item.
    """

    @classmethod
    def build(
        cls,
        catalogue: SearchCatalogue,
        settings: Search,
        synonyms: SynonymTable | None = None,
        log: QueryLog | None = None,
    ) -> SearchIndex:
        """Builds the tables.

        Args:
          catalogue: the shop's items.
          settings: fields and their weights, synonyms, spelling, suggestions.
          synonyms: words that stand for others by behaviour, besides `settings.synonyms`.
          log: what people chose who searched.

        Raises:
          ConfigError: `settings` names a field that the catalogue lacks.
        """
        raise NotImplementedError

    def save(self, folder: str) -> None:
        """Writes the tables as .npz files."""
        raise NotImplementedError

    @classmethod
    def load(cls, folder: str) -> SearchIndex:
        """Reads what :meth:`save` wrote."""
        raise NotImplementedError
