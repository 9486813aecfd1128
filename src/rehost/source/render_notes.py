"""What a person should know, or do, about a service that stands at Render."""

from __future__ import annotations

from pathlib import Path

from rehost.project import git
from rehost.source.render_export import Item, Live


def about(live: Live, directory: Path) -> list[str]:
    """Sentences; each names something left to do or to think of."""
    notes = []
    if live.service.get("suspended") == "suspended":
        notes.append(f"{live.name} is suspended at Render: nothing serves there to compare the move with.")
    if live.unsure:
        notes.append(
            f"{', '.join(live.unsure)}: two environment groups have different values. The value of the newer group was "
            "taken, but Render counts when a group was linked, which its API does not tell: look in the dashboard."
        )
    if live.stores:
        named = ", ".join(f"{store.kind} {store.name}" for store in live.stores)
        notes.append(
            f"the app uses {named}, which stays at Render: let the machine's address into its access list. Or move it: "
            "give the app a service that takes it over, and name both under [moves] (docs/moving-data.md)."
        )
    deployed = _deployed(live.deploy, directory)
    return [*notes, deployed] if deployed else notes


def _deployed(deploy: Item | None, directory: Path) -> str:
    """Whether what Render serves is what this directory holds; "" when there is nothing to say."""
    if deploy is None:
        return "no deploy of it is live at Render: the last one failed, or it is suspended."
    commit = deploy.get("commit")
    serving = str(commit.get("id") or "") if isinstance(commit, dict) else ""
    if not serving:
        image = deploy.get("image")
        name = image.get("ref") if isinstance(image, dict) else None
        if not name:
            return ""
        digest = image.get("sha") if isinstance(image, dict) else None
        exact = f", with the digest {digest}" if digest else ""
        return f"Render serves the image {name}{exact}: if build.image has a tag, see that it still means the same."
    here, _ = git.head(directory)
    if here in ("", serving):
        return ""
    return f"Render serves commit {serving[:12]}, and this directory is at {here[:12]}: release the one that you mean."
