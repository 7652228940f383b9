"""SchemaImporter: a reviewed schema as an artifact."""
