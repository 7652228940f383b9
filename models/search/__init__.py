"""Search: words to items, in stock TensorFlow ops.

* `catalogue`, `index`: what the search is built from (columns), and the tables that are built and saved.
* `text`: normalisation, words and terms, the same for catalogue and query. `hashing`: strings as keys.
* `lexical`: BM25F over sparse postings. `spelling`, `synonyms`, `intent`: how a query is understood.
* `matching`: which items have which words, relaxation, sort orders. `facets`: counts of the matching items.
* `searcher`: sources, fusion and features. `ranker`: the order. `suggester`: completions.

Imports `models.retrieval`, `models.data` and `schema`; imported by `models.funnel`, components and
benchmarks.
"""
