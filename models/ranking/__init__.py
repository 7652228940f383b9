"""The ranker: features of (request, candidate) pairs, model, losses, calibration and explanations.

`features` is a package of feature blocks; `ranker` is the model, from `layers` and `losses`;
`metrics` judges sampled lists; `calibration` fits probabilities; `explanations` shares a score out
among the blocks' groups. Imports `models.retrieval`, `models.data` and `schema`, never `models.funnel`.
"""
