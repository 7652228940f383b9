"""Candidate sources: what may be worth ranking for a request; one source a file.

* `base`: what a source is (`Source`), what it is asked (`Asked`), what all have found
  (`FoundCandidates`).
* `own_events`: what a request's history says of the candidates in it. `segments`: sums, extremes and
  look-ups within each request.
* `buy_again`, `co_purchased`, `two_tower`, `trending`, `new_items`, `planned`: the sources.
* `candidate_sources`: asks those that are on and puts together what they found.

A new source is one file with a subclass of `Source` and one entry in `candidate_sources.SOURCES`. Its
name is a constant in `schema.names`, its size the setting of that name in `candidates`.
"""
