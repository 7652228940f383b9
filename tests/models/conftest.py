"""Fixtures: the tiny shop's folder lives as long as the session."""

from tests.shops.tiny_shop import tiny_shop_folder  # noqa: F401
