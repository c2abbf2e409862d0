"""The labelling of a graph that costs least: true or false for every node, exactly, by minimum cuts.

Minimises the sum of `unary_true` over the true nodes, of `unary_false` over the false ones, and of `weight` over the
links whose ends disagree. Source: 001, Eq. 2.1 and its reduction to two labels; the cut by maximum flow is its [76].
Ties: of all labellings that cost least it returns the one with most true nodes. There is exactly one such: if two sets
of true nodes cost least, their union does too.
Differs from the paper: not one maximum flow over everything. Cheap rules, exact and true to the ties, come first:

* a node whose two costs differ by at least the sum of its open links is decided (towards false: by more than that);
  its links then become costs of their other ends;
* a node with one open link hands its best answer to either label of its neighbour over to that neighbour;
* a component whose nodes all lean to one side is decided.

What is left goes to SciPy's maximum flow, many components at a time, those of like size together.

Costs are made integers first, so that no tie is lost to rounding: they must be decimal numbers with so few digits that
their common multiple stays below 2^30; others are refused. (A common factor on all costs changes nothing: for 1/3 and 1
pass 1 and 3.)
Fails when: one component is huge and dense (hundreds of thousands of nodes): SciPy's maximum flow may take minutes.

Worked by hand: a chain of three nodes that lean to true by 1, to false by 3 and to true by 1, links of 2. All true
costs 3; the middle alone false 4, all false 2.

>>> links = np.array([[0, 1], [1, 2]])
>>> minimum_cut(np.array([0.0, 3, 0]), np.array([1.0, 0, 1]), links, 2.0).tolist()
[False, False, False]
>>> minimum_cut(np.array([0.0, 2, 0]), np.array([1.0, 0, 1]), links, 2.0).tolist()  # a tie
[True, True, True]
"""

from __future__ import annotations

import numpy as np
from jaxtyping import Bool, Float, Int64
from scipy.sparse import coo_array
from scipy.sparse.csgraph import breadth_first_order, connected_components, maximum_flow

from labelwise.types import LabelwiseError

LARGEST = 1 << 30
"""Integer costs stay below: SciPy's flows are int32, and a residual capacity may reach twice a capacity."""

DIGITS = 9
"""Most digits after the point of a cost."""

BATCH = 1 << 15
"""Nodes per maximum flow, unless one component has more."""

Nodes = np.ndarray


def minimum_cut(
    unary_true: Float[np.ndarray, " N"],
    unary_false: Float[np.ndarray, " N"],
    links: Int64[np.ndarray, "m 2"],
    weight: float | Float[np.ndarray, " m"],
) -> Bool[np.ndarray, " N"]:
    """Which nodes are true.

    Args:
        unary_true: what each node costs if it is true.
        unary_false: what it costs if it is false.
        links: pairs of nodes; a pair given twice counts twice.
        weight: what a link costs whose ends disagree, for all or for each; not negative.

    Raises:
        LabelwiseError: a cost that is not finite (row named) or has too many digits; a negative weight; no such node.
    """
    lean, weights = _integers(unary_true, unary_false, links, weight)
    true, open_nodes, lean, one, other, weights, handed = _decide(lean, links[:, 0], links[:, 1], weights)
    place = np.full(len(lean), -1)
    place[open_nodes] = np.arange(len(open_nodes))
    true[open_nodes] = _components_of(lean[open_nodes], place[one], place[other], weights)
    for leaf, neighbour, pull in reversed(handed):
        true[leaf] = lean[leaf] <= np.where(true[neighbour], pull, -pull)
    return true


Decided = tuple[Nodes, Nodes, Nodes, Nodes, Nodes, Nodes, list[tuple[Nodes, Nodes, Nodes]]]


def _decide(lean: Nodes, one: Nodes, other: Nodes, weight: Nodes) -> Decided:
    """What the rules for single nodes settle.

    `lean` is what true costs more than false. Returns the labels so far, the nodes still open, their new `lean`, the
    open links and weights, and the leaves handed over: node, neighbour and weight, in the order to take back.
    """
    n, lean = len(lean), lean.copy()
    true, open_ = np.zeros(n, np.bool_), np.ones(n, np.bool_)
    handed: list[tuple[Nodes, Nodes, Nodes]] = []
    live = (one != other) & (weight > 0)
    while True:
        one, other, weight = one[live], other[live], weight[live]
        total = _sums(one, weight, n) + _sums(other, weight, n)
        to_true, to_false = open_ & (lean <= -total), open_ & (lean > total)
        true |= to_true
        decided = to_true | to_false
        pull = np.where(true, -1, 1)
        lean += _sums(one, weight * (pull[other] * decided[other]), n)
        lean += _sums(other, weight * (pull[one] * decided[one]), n)
        live = ~(decided[one] | decided[other])
        one, other, weight = one[live], other[live], weight[live]
        degree = np.bincount(one, minlength=n) + np.bincount(other, minlength=n)
        leaf, live = degree[one] == 1, (degree[one] > 1) & (degree[other] > 1)
        ends = np.where(leaf, one, other)[~live], np.where(leaf, other, one)[~live], weight[~live]
        handed.append(ends)
        lean += _sums(ends[1], np.clip(lean[ends[0]], -ends[2], ends[2]), n)
        before = np.count_nonzero(open_)
        open_ &= ~decided
        open_[ends[0]] = False
        if before - np.count_nonzero(open_) <= before // 100:  # a long tail of small steps is dearer than the flow
            return true, np.flatnonzero(open_), lean, one[live], other[live], weight[live], handed


def _components_of(lean: Nodes, one: Nodes, other: Nodes, weight: Nodes) -> Bool[np.ndarray, " N"]:
    """The labels of a graph, by one maximum flow for many components."""
    n = len(lean)
    count, component = connected_components(coo_array((np.ones(len(one), np.int8), (one, other)), shape=(n, n)), False)
    size, against = np.bincount(component, minlength=count), np.bincount(component[lean > 0], minlength=count)
    mixed = (against > 0) & (against < size)
    true: np.ndarray = (against == 0)[component]
    order = np.lexsort((size, ~mixed))  # the mixed ones first, by size
    rank, place = np.empty(count, np.int64), np.empty(n, np.int64)
    rank[order] = np.arange(count)
    nodes = np.argsort(rank[component], kind="stable")  # those of a component, and of a batch, stand together
    place[nodes] = np.arange(n)
    by_place = np.argsort(place[one], kind="stable")
    one, other, weight = place[one[by_place]], place[other[by_place]], weight[by_place]
    stops, low = np.cumsum(size[order][: np.count_nonzero(mixed)]), 0
    while len(stops) and low < stops[-1]:
        last = max(np.searchsorted(stops, low, "right"), np.searchsorted(stops, low + BATCH, "right") - 1)
        high = int(stops[last])
        part = slice(*np.searchsorted(one, [low, high]))
        true[nodes[low:high]] = _flow(lean[nodes[low:high]], one[part] - low, other[part] - low, weight[part])
        low = high
    return true


def _flow(lean: Nodes, one: Nodes, other: Nodes, weight: Nodes) -> Bool[np.ndarray, " N"]:
    """The largest set of true nodes: all that cannot reach the sink (false) when the flow is at its maximum."""
    n = len(lean)
    source, sink = n, n + 1
    to_true, to_false = np.flatnonzero(lean < 0), np.flatnonzero(lean > 0)
    tail = np.concatenate([one, other, np.full(len(to_true), source), to_false])
    head = np.concatenate([other, one, to_true, np.full(len(to_false), sink)])
    capacity = np.concatenate([weight, weight, -lean[to_true], lean[to_false]]).astype(np.int32)
    graph = coo_array((capacity, (tail, head)), shape=(n + 2, n + 2)).tocsr()
    residual = (graph - maximum_flow(graph, source, sink).flow).tocsr()
    residual.eliminate_zeros()
    true = np.ones(n + 2, np.bool_)
    true[breadth_first_order(residual.T.tocsr(), sink, directed=True, return_predecessors=False)] = False
    return true[:n]


def _sums(node: Nodes, amount: Nodes, n: int) -> Int64[np.ndarray, " N"]:
    return np.bincount(node, amount, n).astype(np.int64)  # exact: all sums are far below 2^53


def _integers(unary_true: Nodes, unary_false: Nodes, links: Nodes, weight: float | Nodes) -> tuple[Nodes, Nodes]:
    """The costs as integers without a common factor: true less false per node, and per link."""
    n, m = len(unary_true), len(links)
    per_link = np.asarray(weight, np.float64)
    columns = {"unary_true": unary_true, "unary_false": unary_false, "weight": per_link}
    for name, values in columns.items():
        bad = np.flatnonzero(~np.isfinite(values))
        if len(bad):
            raise LabelwiseError(f"{name}: row {bad[0]} is {values.flat[bad[0]]}; expected a finite cost")
    if unary_false.shape != (n,) or links.shape != (m, 2) or per_link.shape not in ((), (m,)):
        raise LabelwiseError(
            f"expected costs [N], links [m, 2] and one weight or m of them; got {unary_true.shape}, "
            f"{unary_false.shape}, {links.shape} and {per_link.shape}"
        )
    if (per_link < 0).any():
        raise LabelwiseError(f"weight: row {(per_link < 0).argmax()} is negative; the minimum is then no cut")
    wrong = np.flatnonzero(((links < 0) | (links >= n)).any(axis=1))
    if len(wrong):
        raise LabelwiseError(f"links: row {wrong[0]} is {links[wrong[0]].tolist()}; expected nodes from 0 to {n - 1}")
    for digits in range(DIGITS + 1):
        scaled = [np.rint(values * 10.0**digits) for values in columns.values()]
        if all((whole / 10.0**digits == v).all() for whole, v in zip(scaled, columns.values(), strict=True)):
            break
    else:
        raise LabelwiseError(f"a cost has more than {DIGITS} digits after the point; round them all, or multiply all")
    if max(float(np.abs(whole).max(initial=0)) for whole in scaled) >= 2**53:
        raise LabelwiseError(_too_large(digits))
    lean = scaled[0].astype(np.int64) - scaled[1].astype(np.int64)
    weights = np.broadcast_to(scaled[2].astype(np.int64), m)
    factor = max(int(np.gcd.reduce(lean, initial=0)), 1)
    factor = max(int(np.gcd(factor, np.gcd.reduce(weights, initial=0))), 1)
    lean, weights = lean // factor, weights // factor
    reach = np.abs(lean) + np.bincount(links[:, 0], weights, n) + np.bincount(links[:, 1], weights, n)
    if reach.max(initial=0) >= LARGEST:
        raise LabelwiseError(f"node {reach.argmax()}: {_too_large(digits)}")
    return lean, weights


def _too_large(digits: int) -> str:
    return f"the costs, as integers (times 10^{digits}), reach 2^30; give them fewer digits, so that a cut stays exact"
