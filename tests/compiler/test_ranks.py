"""Groups merge exactly where no third one stands between them, and what is kept of their order stays an order."""

from __future__ import annotations

from itertools import pairwise

import networkx as nx
from hypothesis import given
from hypothesis import strategies as st

from graphflow.compiler.ranks import may_merge, merge_ranks


class Item:
    """A group as ranks.py sees it."""

    def __init__(self, rank: int) -> None:
        self.rank = rank
        self.needs: dict[Item, None] = {}
        self.users: dict[Item, None] = {}


def connect(before: Item, after: Item) -> None:
    before.users[after] = None
    after.needs[before] = None


def merge(a: Item, b: Item) -> None:
    """What `Groups` does: b's neighbours become a's."""
    merge_ranks(a, b)
    for other in b.needs:
        del other.users[b]
    for other in b.users:
        del other.needs[b]
    for other in b.needs:
        if other is not a:
            connect(other, a)
    for other in b.users:
        if other is not a:
            connect(a, other)


def graph_of(items: list[Item]) -> nx.DiGraph:
    graph = nx.DiGraph([(x, user) for x in items for user in x.users])
    graph.add_nodes_from(items)
    return graph


def is_free(graph: nx.DiGraph, a: Item, b: Item) -> bool:
    """Whether a and b can be one: the only path between them is the step from a to b."""
    without = graph.copy()
    if without.has_edge(a, b):
        without.remove_edge(a, b)
    return not nx.has_path(without, a, b) and not nx.has_path(graph, b, a)


@given(
    st.integers(2, 12),
    st.sets(st.tuples(st.integers(0, 11), st.integers(0, 11)), max_size=30),
    st.lists(st.tuples(st.integers(0, 11), st.integers(0, 11)), max_size=20),
)
def test_merging_is_refused_exactly_where_it_would_close_a_circle(
    many: int, edges: set[tuple[int, int]], tries: list[tuple[int, int]]
) -> None:
    items = [Item(n) for n in range(many)]
    for x, y in edges:
        if x < y < many:
            connect(items[x], items[y])
    for n, m in tries:
        a, b = items[n % len(items)], items[m % len(items)]
        if a is b:
            continue
        free = may_merge(a, b)
        assert free == is_free(graph_of(items), a, b)
        if free:
            merge(a, b)
            items.remove(b)
        assert len({x.rank for x in items}) == len(items)
        assert all(x.rank < user.rank for x in items for user in x.users)


def test_only_what_is_ranked_between_two_groups_is_looked_at() -> None:
    looked = 0

    class Counted(Item):
        @property
        def users(self) -> dict[Item, None]:
            nonlocal looked
            looked += 1
            return self._users

        @users.setter
        def users(self, value: dict[Item, None]) -> None:
            self._users = value

    chain = [Counted(n) for n in range(1000)]
    for x, y in pairwise(chain):
        connect(x, y)
    looked = 0
    assert all(may_merge(x, y) for x, y in pairwise(chain))
    assert looked <= 2 * len(chain)
