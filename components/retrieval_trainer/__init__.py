"""RetrievalTrainer: the two towers."""
