"""QueryEncoderTrainer: the encoder of queries, for the items' vectors as they are."""
