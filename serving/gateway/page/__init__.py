"""The storefront and the operations page: HTML from the server, better with a script, whole without one.

In the room: `router` (routes), `visit` (who looks, and the answer), `shelves`, `search`, `engine` and
`operations` (what the templates show), `cards` and `tiles` (an item), `runs` (the pipeline's, as files),
`security`, `viewer` (the cookie), `texts` with `words/` (a JSON file for each language), `render` with
`templates/` and `static/`. It asks the domain services of the gateway in the process: a browser holds no
API key, and a cookie says whose shelves it sees.
"""

from serving.gateway.page.router import install

__all__ = ["install"]
