"""CatalogueServableBuilder: the SavedModel of a shop without events."""
