"""What templates show of items and lists."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from urllib.parse import quote, urlencode

from serving.gateway.page import security, tiles


@dataclasses.dataclass(frozen=True)
class CardView:
    """An item as a card shows it; texts are ready to be shown, and not yet escaped.

    Attributes:
      item_id: the item.
      title, caption: its name, and its category and brand.
      price: with the currency, "" where nobody knows it.
      reason: why it is here, "" for nothing.
      source: what found it.
      image_url: of a picture, or None: then `tile` is shown.
      tile: what to draw instead.
      rank: place in its list, from 0.
      href: of the item's page; it says which list it came from.
      explain_href: of the explanation, "" where there is none.
    """

    item_id: str
    title: str
    caption: str
    price: str
    reason: str
    source: str
    image_url: str | None
    tile: tiles.Tile
    rank: int
    href: str
    explain_href: str


@dataclasses.dataclass(frozen=True)
class Shelf:
    """One list of the page.

    Attributes:
      key: of the words `shelf.<key>`; also names the element.
      surface: what the store calls the list.
      heading, note: shown above it.
      list_id: of the shown list, "" for none.
      cards: best first.
    """

    key: str
    surface: str
    heading: str
    note: str
    list_id: str
    cards: Sequence[CardView]


def shown_title(title: str) -> str:
    """A title as people write: what is all capitals or all small gets one capital, and no full stop."""
    title = " ".join(title.split()).rstrip(".")
    if title.isupper() or title.islower():
        title = title[:1].upper() + title[1:].lower()
    return title


def card(
    *,
    item_id: str,
    title: str,
    category: str = "",
    brand: str = "",
    price: str = "",
    reason: str = "",
    source: str = "",
    image_url: str | None = None,
    rank: int = 0,
    list_id: str = "",
    explained: bool = True,
) -> CardView:
    """A card's texts and addresses from what is known of an item."""
    origin = {"list": list_id, "at": rank} if list_id else {}
    href = f"/items/{quote(item_id, safe='')}"
    return CardView(
        item_id=item_id,
        title=shown_title(title) or item_id,
        caption=" · ".join(shown_title(text) for text in (category, brand) if text),
        price=price,
        reason=reason,
        source=source,
        image_url=security.image_source(image_url),
        tile=tiles.tile(item_id, title or item_id, category),
        rank=rank,
        href=f"{href}?{urlencode(origin)}" if origin else href,
        explain_href=f"/explain?{urlencode({'item_id': item_id})}" if explained else "",
    )
