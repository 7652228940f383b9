"""TextEncoderTrainer: the BERT text encoder and the catalogue's text vectors."""
