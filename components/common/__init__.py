"""What several components share: reading tables, artifact files, the retriever's inputs, slicing."""
