"""What images take, from what Docker and its store tell."""

from __future__ import annotations

from machine_state import image, releases, serving
from rehost.release import images
from rehost.release.images import Store, Taken

# Recorded from Docker 20.10 with overlay2; names shortened.
ANSWER = """sha256:1 ["sha256:base","sha256:app1"]
sha256:2 ["sha256:base","sha256:pip","sha256:app2"]
sha256:other ["sha256:base","sha256:theirs"]
sha256:scratch null
@@layers
./aaa/diff:sha256:base
./bbb/diff:sha256:app1
./ccc/diff:sha256:pip
./ddd/diff:sha256:app2
./eee/diff:sha256:theirs
./aaa/size:1000
./bbb/size:10
./ccc/size:300
./ddd/size:0
./eee/size:5
./torn/diff:sha256:torn
"""


def store() -> Store:
    return images.parse(ANSWER)


def test_the_answer_is_read() -> None:
    found = store()
    assert found.images["sha256:2"] == ["sha256:base", "sha256:pip", "sha256:app2"]
    assert found.sizes == {
        "sha256:base": 1000, "sha256:app1": 10, "sha256:pip": 300, "sha256:app2": 0, "sha256:theirs": 5,
    }  # fmt: skip
    assert images.parse("@@layers\n") == Store({}, {})


def test_what_each_release_takes_and_added() -> None:
    state = serving(releases=releases(["replaced", "live"]), images=(image("sha256:1"), image("sha256:2")))
    assert images.taken(state, store()) == [
        Taken(1, "sha256:1", 1010, 2, 2, 1010, 10),
        # The base is another app's too; what it added are the layers that release 1 does not have.
        Taken(2, "sha256:2", 1300, 3, 2, 300, 300),
    ]


def test_releases_of_one_image_free_nothing_alone() -> None:
    state = serving(releases=releases(["replaced", "live"]), images=(image("sha256:1"),))
    same = tuple(r._replace(record={**r.record, "image": "sha256:1"}) for r in state.releases)
    first, second = images.taken(state._replace(releases=same), store())
    assert (first.freed, second.freed, second.added_layers, second.added) == (0, 0, 0, 0)


def test_an_image_that_is_gone() -> None:
    state = serving(releases=releases(["replaced", "failed", "failed", "live"]), images=())
    assert images.taken(state, store())[2] == Taken(3, "sha256:3", None, 0, 0, None, None)


def test_a_docker_without_such_a_store_still_tells_the_images_size() -> None:
    whole = store()
    state = serving(releases=releases(["live"]), images=(image("sha256:1"),))
    (one,) = images.taken(state, whole._replace(sizes={}))
    assert (one.size, one.layers, one.added, one.freed) == (245_000_000, 2, None, None)


def test_what_pruning_frees() -> None:
    tagged = image("sha256:2")._replace(tags=("rehost/content-api:abc",))
    state = serving(images=(image("sha256:1"), tagged))
    assert images.prunable(["rehost/content-api:abc"], state, store()) == 300
    assert images.prunable(["sha256:1", "rehost/content-api:abc"], state, store()) == 310
    assert images.prunable([], state, store()) == 0
