"""Images that are pulled, not built: how the files of platforms name them, and what rehost.toml makes of it."""

from __future__ import annotations

from rehost.project.values import image_name


def name_of(written: object) -> str | None:
    """The name of an image as build.image takes it; None for what is none."""
    try:
        return image_name(written)
    except ValueError:
        return None


def carried(image: str) -> str:
    """What became of it, and how a private one is reached."""
    pulled = f'build.image = "{image}": the machine pulls it, and a tag that moves is a change of the plan'
    return f"{pulled}; {login(image)}"


def login(image: str) -> str:
    """What to do for an image that not everybody may pull."""
    typed = f"docker login {registry(image)}"
    return f"for a private one type `{typed}` here: rehost hands that login on, and keeps it nowhere"


def registry(image: str) -> str:
    """The registry's host, "docker.io" where the name has none (Docker's distribution/reference)."""
    first, slash, _ = image.partition("/")
    return first if slash and ({*first} & {".", ":"} or first == "localhost") else "docker.io"
