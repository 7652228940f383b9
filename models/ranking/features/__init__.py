"""What the ranker sees of a (request, candidate) pair, one block of features a file.

`block` says what a block is, and the groups that explain. `item`, `own`, `category`, `scores`,
`ranks`, `user` and `promotion` hold the blocks: the names of features, the group each explains and the code
that computes them stand next to each other. `context` keeps what several blocks share.
`pair_features` puts the blocks together. A new feature is a line in one of the blocks.
"""
