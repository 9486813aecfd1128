"""httpx without its own command line, which it imports along with rich whenever both are installed.

That costs 60 to 100 ms at each start. httpx treats the part as optional: when the
import fails it goes on without. Import this module before httpx, everywhere.
"""

from __future__ import annotations

import sys
from types import ModuleType
from typing import cast

# None in sys.modules makes an import of that name fail (the import system's documented way to block a module).
sys.modules.setdefault("httpx._main", cast(ModuleType, None))

import httpx  # noqa: E402

__all__ = ["httpx"]
