"""The pipeline's stages: data, models, release."""
