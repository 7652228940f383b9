"""What finds candidates: towers, collaborative vectors, as-of item tables, indexes and sources.

* `towers`, `two_tower`: the two towers and their loss. `warm_start`: their weights of an earlier run.
* `collaborative`: vectors in closed form from who bought what.
* `snapshot`: item tables as of one moment; `item_statistics`: the item features among them.
* `index/`: how item vectors are searched. `sources/`: what may be worth ranking for a request.

Imports `models.data` and `schema`; imported by `models.ranking`, `models.funnel`, components and
benchmarks.
"""
