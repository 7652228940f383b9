"""Where each source ranks the candidate."""

from __future__ import annotations

import tensorflow as tf

from models.ranking.features.block import (
    GOES_WITH,
    MATCH,
    OFFER,
    OWN_PURCHASES,
    OWN_VIEWS,
    POPULARITY,
    Column,
    FeatureBlock,
)
from models.retrieval.sources.candidate_sources import CandidateSources
from schema import names as F

# What a rank in a source explains; a source that is not named here is a match of query and item.
_GROUPS = {
    F.BUY_AGAIN: OWN_PURCHASES,
    F.CO_PURCHASED: GOES_WITH,
    F.TRENDING: POPULARITY,
    F.PLANNED: OFFER,
    F.VIEWED: OWN_VIEWS,
}


def source_ranks(sources: CandidateSources) -> FeatureBlock:
    """One feature for each source that is on.

    Args:
      sources: the candidate sources.
    """
    return FeatureBlock(
        [Column(f"{name}_log_rank", _GROUPS.get(name, MATCH)) for name in sources.ranks_of],
        lambda pairs: tf.math.log1p(pairs.found.rank.of(pairs.position)),
    )
