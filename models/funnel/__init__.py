"""The whole funnel as one servable; the only room that imports all other rooms of `models`.

`servable` puts together `retriever` (parsing, sources and features, shared with training), the ranker,
`filters`, `reranking`, `exploration` and `reasons`; `signatures` holds the inputs of each signature.
Reasons are rules (`reasons`) over facts (`evidence`) in words (`wording`, `calendar`).
"""
