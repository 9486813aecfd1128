"""Render's plans and regions, and what comes nearest to them on Compute Engine.

Only suggestions: `init` writes them into rehost.toml with a comment, and the user decides.
"""

from __future__ import annotations

from dataclasses import dataclass

FREE_REGIONS = ("us-west1", "us-central1", "us-east1")
# Render's regions (its page "Regions"), by the city that they are in.
ZONES = {
    "oregon": "us-west1-a",
    "ohio": "us-east5-a",
    "virginia": "us-east4-a",
    "frankfurt": "europe-west3-a",
    "singapore": "asia-southeast1-a",
}
# Render's default (Blueprint reference, "region").
DEFAULT_REGION = "oregon"


@dataclass(frozen=True, slots=True)
class Room:
    """A machine type and the memory limit of the one container on it, both as rehost.toml writes them."""

    machine: str
    memory: str


# By Render's memory of the plan: 512 MB for free and starter, 2 GB for standard, 4, 8, 16 and 32 GB for the others (its
# page "Limits and Pricing for Render Workflows" has the same names). What starter plus and standard plus, no longer
# sold, had is not documented any more: 1 and 3 GB are unverified. The container gets no less than that where the
# machine can spare it; the small plans take the machine of the free tier.
PLANS = {
    "free": Room("e2-micro", "400MB"),
    "starter": Room("e2-micro", "400MB"),
    "starter plus": Room("e2-small", "1GB"),
    "standard": Room("e2-medium", "2GB"),
    "standard plus": Room("e2-medium", "3GB"),
    "pro": Room("e2-standard-2", "4GB"),
    "pro plus": Room("e2-standard-4", "8GB"),
    "pro max": Room("e2-standard-8", "16GB"),
    "pro ultra": Room("e2-standard-16", "32GB"),
}
DEFAULT_ROOM = PLANS["starter"]


def is_free(zone: str) -> bool:
    """Whether Google's free tier covers an e2-micro in this zone."""
    return zone.rpartition("-")[0] in FREE_REGIONS
