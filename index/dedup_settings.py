"""What a user may choose about duplicates. Plain data: importing this loads no numpy."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum


class Level(StrEnum):
    """What is compared or clustered."""

    CHUNK = "chunk"
    DOCUMENT = "document"


class Tier(StrEnum):
    """How two items were found to say the same; an earlier one is the better evidence."""

    EXACT = "exact"
    """Equal but for case, width of characters and white space."""
    NEAR = "near"
    """Nearly the same words in the same order: Jaccard similarity of their shingles."""
    SEMANTIC = "semantic"
    """Nearly the same meaning: cosine of their vectors."""


class Keep(StrEnum):
    """Which item of a group stays; ties go to the first path."""

    LONGEST = "longest"
    NEWEST = "newest"
    OLDEST = "oldest"
    SHORTEST_PATH = "shortest-path"
    MEDOID = "medoid"


@dataclass(frozen=True, slots=True, kw_only=True)
class Thresholds:
    """From which similarity on two items say the same."""

    near: float
    """Jaccard similarity"""
    semantic: float
    """Cosine"""
