"""Search: words to items, in stock TensorFlow ops.

* Built from columns: `catalogue` (what goes in), `index` (all tables, saved and loaded), `tokens` (words of
  texts), `postings` (BM25F), `phrases` (completions), `lookups` (items by exact name and by logged query).
* Understanding a query: `text` (normalisation, words and terms, the same for catalogue and query), `query`
  (all of it), `spelling`, `compounds`, `synonyms`, `intent`. `hashing`: strings as keys of sorted tables.
* Finding: `lexical` (scores by words), `semantic` (text vectors), `matching` (relaxation, sort orders,
  fusion), `facets` (counts, prices).
* `searcher` puts these together; `features` says what is known of each pair, `ranker` orders by it.
* `suggester` completes what a shopper types.

Imports `models.retrieval`, `models.data` and `schema`; imported by `models.funnel`, components and
benchmarks.
"""
