"""What several components share; it imports models, schema and, in specs, TFX, never a component."""
