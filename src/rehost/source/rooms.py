"""Machine types, memory limits and regions of other platforms, and what comes nearest. Only suggestions.

Google's regions and their cities are those of its page "Regions and zones"; that each zone has E2 machines is not
looked up here: `rehost check` asks Google.
"""

from __future__ import annotations

import re

from rehost.source.render import Room

# By the memory that the app has today, in MB: the smallest that is not less, the free tier's machine first.
_ROOMS = (
    (512, Room("e2-micro", "400MB")),
    (1024, Room("e2-small", "1GB")),
    (2048, Room("e2-medium", "2GB")),
    (3072, Room("e2-medium", "3GB")),
    (4096, Room("e2-standard-2", "4GB")),
    (8192, Room("e2-standard-4", "8GB")),
    (16384, Room("e2-standard-8", "16GB")),
    (32768, Room("e2-standard-16", "32GB")),
)
# Heroku's dyno types, in MB (Dev Center, "Dyno Types", June 2024; free and hobby stand in its versions before 2022).
# The larger ones have more than any machine that is suggested here.
DYNOS = {
    "free": 512,
    "hobby": 512,
    "eco": 512,
    "basic": 512,
    "standard-1x": 512,
    "standard-2x": 1024,
    "performance-m": 2560,
    "performance-l": 14336,
    "performance-l-ram": 30720,
    "private-s": 1024,
    "private-m": 2560,
    "private-l": 14336,
    "private-l-ram": 30720,
    "shield-s": 1024,
    "shield-m": 2560,
    "shield-l": 14336,
    "shield-l-ram": 30720,
}
# Fly's sizes have so much where nothing else is said: 256 MB for each shared and 2 GB for each other CPU; the smallest
# is the default (Fly's documentation, "Machine Sizing" and "Scale Machine CPU and RAM").
FLY_SIZES = {
    "shared-cpu-1x": 256,
    "shared-cpu-2x": 512,
    "shared-cpu-4x": 1024,
    "shared-cpu-8x": 2048,
    "performance-1x": 2048,
    "performance-2x": 4096,
    "performance-4x": 8192,
    "performance-8x": 16384,
    "performance-16x": 32768,
}
# Fly's regions, by the city that they are in (`fly platform regions`, 2023 to 2025: many of these are closed today, and
# stand in files all the same). Bogotá, Guadalajara and Querétaro are nearer to what lies north of them on the network.
FLY_ZONES = {
    "ams": "europe-west4-a",
    "arn": "europe-north1-a",
    "atl": "us-east1-b",
    "bog": "us-east1-b",
    "bom": "asia-south1-a",
    "bos": "us-east4-a",
    "cdg": "europe-west9-a",
    "den": "us-west3-a",
    "dfw": "us-south1-a",
    "ewr": "us-east4-a",
    "eze": "southamerica-west1-a",
    "fra": "europe-west3-a",
    "gdl": "us-south1-a",
    "gig": "southamerica-east1-a",
    "gru": "southamerica-east1-a",
    "hkg": "asia-east2-a",
    "iad": "us-east4-a",
    "jnb": "africa-south1-a",
    "lax": "us-west2-a",
    "lhr": "europe-west2-a",
    "mad": "europe-southwest1-a",
    "mia": "us-east1-b",
    "nrt": "asia-northeast1-a",
    "ord": "us-central1-a",
    "otp": "europe-central2-a",
    "phx": "us-west4-a",
    "qro": "us-south1-a",
    "scl": "southamerica-west1-a",
    "sea": "us-west1-a",
    "sin": "asia-southeast1-a",
    "sjc": "us-west2-a",
    "syd": "australia-southeast1-a",
    "waw": "europe-central2-a",
    "yul": "northamerica-northeast1-a",
    "yyz": "northamerica-northeast2-a",
}


def room(megabytes: int) -> Room | None:
    """None where no machine that rehost suggests has so much."""
    return next((room for most, room in _ROOMS if megabytes <= most), None)


def megabytes(written: str) -> int | None:
    """ "512", "512mb", "1gb", "0.5G", "256MiB" as MB (powers of two); None for what is no size."""
    found = re.fullmatch(r"(\d{1,6}(?:\.\d{1,3})?)\s*([kmg]?)i?b?", written.strip().lower())
    if found is None:
        return None
    unit = {"": 1.0, "k": 1 / 1024, "m": 1.0, "g": 1024.0}[found[2]]
    return round(float(found[1]) * unit) or None


def seconds(written: str) -> int | None:
    """ "30", "30s", "1m30s", "500ms" as whole seconds, at least one; None for what is no duration."""
    if written.strip().isdecimal():
        return int(written)
    parts = re.findall(r"(\d{1,6})(ms|s|m|h)", written.strip())
    if not parts or "".join(number + unit for number, unit in parts) != written.strip():
        return None
    units = {"ms": 0.001, "s": 1, "m": 60, "h": 3600}
    return max(1, round(sum(int(number) * units[unit] for number, unit in parts)))
