"""What `docker save` writes is read in all its forms, and layers go on their way the same each time."""

from __future__ import annotations

import gzip
import io
import json
import random
import tarfile

import pytest
from hypothesis import given
from hypothesis import strategies as st

from rehost.release import saved
from rehost.run.errors import RehostError
from saved_image import Form, archive, config, digest, image, written

LAYERS = [b"base" * 1000, b"code" * 10, b"base" * 1000]
FORMS: tuple[Form, ...] = ("old", "oci", "packed")


@pytest.mark.parametrize("form", FORMS)
def test_each_form_has_the_same_layers(form: Form) -> None:
    found = image(LAYERS, form)
    assert found.image == f"sha256:{digest(config(LAYERS))}"
    assert found.platform == "linux/amd64"
    assert [layer.name for layer in found.layers] == [digest(layer) for layer in LAYERS]
    assert [gzip.decompress(b"".join(saved.packed(found, layer))) for layer in found.layers] == LAYERS


def test_a_layer_that_is_packed_travels_as_it_is() -> None:
    found = image(LAYERS, "packed")
    assert b"".join(saved.packed(found, found.layers[0])) == gzip.compress(LAYERS[0], mtime=0)


def test_large_layers_come_in_blocks_that_are_the_same_each_time() -> None:
    large = random.Random(5).randbytes(3 << 19) + bytes(1 << 20)  # noqa: S311
    found = image([large])
    blocks = list(saved.packed(found, found.layers[0]))
    assert len(blocks) > 1
    assert max(map(len, blocks)) < 2 << 20
    assert list(saved.packed(found, found.layers[0])) == blocks
    assert gzip.decompress(b"".join(blocks)) == large


@pytest.mark.parametrize(
    "content", [b"", b"not a tar archive", archive({"other": b""}), written(LAYERS)[:4096]]
)
def test_what_is_no_image_is_told(content: bytes) -> None:
    with pytest.raises(RehostError) as fault:
        saved.read(io.BytesIO(content))
    assert "cannot be read" in fault.value.what


def test_the_head_names_every_layer_and_holds_none() -> None:
    found = image(LAYERS)
    with tarfile.open(fileobj=io.BytesIO(saved.head(found, "rehost/shop:1")), mode="r:gz") as tar:
        content = {member.name: tar.extractfile(member).read() for member in tar}  # type: ignore[union-attr]
    (manifest,) = json.loads(content.pop("manifest.json"))
    assert manifest["Layers"] == [digest(layer) for layer in LAYERS]
    assert manifest["RepoTags"] == ["rehost/shop:1"]
    assert content == {manifest["Config"]: config(LAYERS)}
    assert manifest["Config"] == f"{digest(config(LAYERS))}.json"


CHAIN = st.lists(st.sampled_from("abc"), max_size=5)


@given(CHAIN, st.lists(CHAIN, max_size=4))
def test_a_layer_is_there_when_all_below_it_are(ours: list[str], chains: list[list[str]]) -> None:
    count = saved.present(ours, chains)
    assert count == 0 or any(chain[:count] == ours[:count] for chain in chains)
    assert not any(chain[: count + 1] == ours[: count + 1] for chain in chains if len(ours) > count)
