"""What a user may choose about clusters and their map. Plain data: importing this loads no numpy."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum

from ..errors import ClusteringError


class Layout(StrEnum):
    """How the map is made."""

    TSNE = "tsne"
    UMAP = "umap"
    """Needs the extra `report`."""


class Method(StrEnum):
    """How clusters are found."""

    KMEANS = "kmeans"
    HDBSCAN = "hdbscan"
    AGGLOMERATIVE = "agglomerative"
    LEIDEN = "leiden"


MAX_RESOLUTION = 1e6
"""Far beyond a cluster for each item; the library behind leiden breaks down at the largest numbers there are."""
_USES = {
    "n": (Method.KMEANS, Method.AGGLOMERATIVE),
    "resolution": (Method.LEIDEN,),
    "min_size": (Method.HDBSCAN,),
}


@dataclass(frozen=True, slots=True, kw_only=True)
class ClusterSettings:
    """Which method, and what it is told. Raises ClusteringError for an option that the method does not use."""

    method: Method = Method.KMEANS
    n: int | None = None
    """Number of clusters (kmeans, agglomerative); None: chosen by silhouette."""
    seed: int = 0
    """Start of everything random; hdbscan and agglomerative use no chance."""
    resolution: float | None = None
    """Higher gives more and smaller clusters (leiden); None: 1.0."""
    min_size: int | None = None
    """Smallest cluster (hdbscan); None: 10."""

    def __post_init__(self) -> None:
        for name, methods in _USES.items():
            if getattr(self, name) is not None and self.method not in methods:
                raise ClusteringError(
                    f"{name} is {getattr(self, name)}, but {self.method} does not use it: leave it out, "
                    f"or choose {' or '.join(methods)}"
                )
        if self.n is not None and self.n < 1:
            raise ClusteringError(f"n is {self.n}: expected at least 1 cluster")
        if not 0 <= self.seed < 2**31:
            raise ClusteringError(f"seed is {self.seed}: expected 0 to {2**31 - 1}")
        if self.resolution is not None and not 0 < self.resolution <= MAX_RESOLUTION:
            raise ClusteringError(
                f"resolution is {self.resolution}: expected a number above 0 and at most {MAX_RESOLUTION:g}, such as "
                "1.0"
            )
        if self.min_size is not None and self.min_size < 2:
            raise ClusteringError(f"min_size is {self.min_size}: expected at least 2 items to a cluster")
