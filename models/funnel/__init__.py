"""The whole funnel as one servable; the only room that imports all others."""
