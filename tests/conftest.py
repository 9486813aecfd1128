"""How many examples each property is tried with: few by default, more by REHOST_EXAMPLES."""

import os

from hypothesis import settings

settings.register_profile(
    "rehost",
    max_examples=int(os.environ.get("REHOST_EXAMPLES", "20")),
    derandomize="CI" in os.environ,
    deadline=None,
    print_blob=True,
)
settings.load_profile("rehost")
