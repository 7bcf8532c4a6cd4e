"""Places that belong together, directly or in a chain."""

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.sparse import coo_array
from scipy.sparse.csgraph import connected_components


def connect_places(num_places: int, first_P: ArrayLike, second_P: ArrayLike) -> NDArray[np.int64]:
    """(N,) the lowest place that each place is connected with, by P pairs of places."""
    first, second = np.asarray(first_P, dtype=np.int64), np.asarray(second_P, dtype=np.int64)
    graph = coo_array((np.ones(len(first), dtype=np.int8), (first, second)), shape=(num_places, num_places))
    _, group_N = connected_components(graph, directed=False)
    _, lowest = np.unique(group_N, return_index=True)
    result: NDArray[np.int64] = lowest[group_N].astype(np.int64)
    return result
