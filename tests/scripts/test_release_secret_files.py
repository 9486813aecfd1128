"""Secret files on the machine: whole, for root alone as far as paths go, and read-only in the container."""

from __future__ import annotations

import base64
import json
from pathlib import Path

from rehost.release import decide
from rehost.run.secret import Secret
from ssh_here import asynced
from test_release_switch import desired, site

CONTENT = bytes(range(256)) * 9
FILES = {"key.pem": Secret(base64.b64encode(CONTENT).decode()), "-odd": Secret("")}


@asynced
async def test_they_come_with_the_release_and_root_alone_gets_there(tmp_path: Path) -> None:
    async with site(tmp_path) as here:
        await here.release(desired(files=FILES))
        folder = here.app / "releases/1"
        assert (folder / "secrets/key.pem").read_bytes() == CONTENT
        assert (folder / "secrets/-odd").read_bytes() == b""
        # Any user of the container may read them; on the machine the way there is closed.
        modes = [(folder / name).stat().st_mode & 0o777 for name in ("secrets/key.pem", "secrets", ".", "..")]
        assert modes == [0o444, 0o755, 0o700, 0o700]
        for slot in "ab":
            body = json.loads((folder / f"container.{slot}.json").read_text())
            assert body["HostConfig"]["Mounts"] == [
                {
                    "Type": "bind",
                    "Source": "/var/lib/rehost/content-api/releases/1/secrets",
                    "Target": "/etc/secrets",
                    "ReadOnly": True,
                }
            ]
        record = (folder / "release.json").read_text()
        assert sorted(json.loads(record)["files"]) == ["-odd", "key.pem"]
        assert FILES["key.pem"].reveal() not in record


@asynced
async def test_a_changed_file_is_a_change_told_by_name(tmp_path: Path) -> None:
    async with site(tmp_path) as here:
        await here.release(desired(files=FILES))
        record = here.state().releases[0].record
        assert decide.release_changes(desired(files=FILES), record) == []
        other = desired(files={"key.pem": Secret("AAAA"), "new": Secret("")})
        assert [(each.field, each.before, each.after) for each in decide.release_changes(other, record)] == [
            ("secret file -odd", "set", None),
            ("secret file key.pem", "set", "changed"),
            ("secret file new", None, "set"),
        ]
        await here.release(desired())
        kept = [each.record for each in here.state().releases]
        assert "files" not in kept[1]
        assert len(decide.between(kept[1], kept[0])) == 2
