"""ServableBuilder: the whole funnel as one SavedModel."""
