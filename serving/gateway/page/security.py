"""What a browser may do with the page, and from where a form may come."""

from __future__ import annotations

from urllib.parse import parse_qsl, urlsplit

from fastapi import Request

from serving.gateway.errors import Refused

#: No inline script or style, nothing of another site but pictures of items, and no frame around the page.
HEADERS = {
    "Content-Security-Policy": "default-src 'none'; script-src 'self'; style-src 'self'; "
    "img-src 'self' https:; connect-src 'self'; form-action 'self'; base-uri 'none'; frame-ancestors 'none'",
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "same-origin",
    "Cross-Origin-Opener-Policy": "same-origin",
}
_FIELDS = 64


async def form_of(request: Request) -> dict[str, str]:
    """The fields of a form that this page sent; of a field that is there twice the last.

    Raises:
      Refused: 403 if another site sent it, 415 if it is no form, 400 if it cannot be read.
    """
    if not same_origin(request):
        raise Refused(403, "the form was sent from another site")
    kind = request.headers.get("content-type", "").split(";")[0].strip().lower()
    if kind != "application/x-www-form-urlencoded":
        raise Refused(415, "send a form as application/x-www-form-urlencoded")
    try:
        body = (await request.body()).decode("utf-8")
        return dict(parse_qsl(body, keep_blank_values=True, max_num_fields=_FIELDS, errors="strict"))
    except ValueError as error:
        raise Refused(400, "the form cannot be read") from error


def same_origin(request: Request) -> bool:
    """Whether a request that changes something comes from a page of this host.

    Every browser of today says where a POST comes from: by `Sec-Fetch-Site`, which no page can set, or by
    `Origin`. A request that says neither is none of a browser's forms.
    """
    site = request.headers.get("sec-fetch-site")
    if site is not None:
        return site == "same-origin"
    origin = request.headers.get("origin", "")
    return bool(origin) and urlsplit(origin).netloc == request.headers.get("host", "")


def local_path(path: str) -> str:
    """`path` if it is one of this host, else "/": nobody is sent to another site."""
    # Browsers drop tabs and line ends, and take a backslash for a slash.
    if not path.startswith("/") or any(sign in "\\\t\r\n" for sign in path) or path.startswith("//"):
        return "/"
    return path[:2000]


def image_source(url: str | None) -> str | None:
    """A picture's address if a page may show it: https, or a path of this host."""
    if url and (url.startswith("https://") or (url.startswith("/") and local_path(url) == url)):
        return url
    return None
