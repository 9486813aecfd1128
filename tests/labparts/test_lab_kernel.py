"""Settings of the kernel: raised for labs, and put back by the last."""

from __future__ import annotations

from pathlib import Path

import pytest

from rehost.lab.kernel import Setting, prepare, restore
from rehost.lab.places import Places


@pytest.fixture
def setting(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Setting:
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path / "state"))
    file = tmp_path / "max_things"
    file.write_text("128\n")
    return Setting(file, 4096)


def kept(setting: Setting) -> Path:
    return Places.of("one").state.parent / setting.name


def test_the_last_lab_puts_it_back(setting: Setting) -> None:
    one, two = Places.claim("one"), Places.claim("two")
    prepare(one, (setting,))
    prepare(two, (setting,))
    assert setting.file.read_text() == "4096"
    restore(one, (setting,))
    assert setting.file.read_text() == "4096"
    (one.state / "subnet").unlink()
    restore(two, (setting,))
    assert setting.file.read_text() == "128\n"
    assert not kept(setting).exists()
    restore(two, (setting,))


def test_what_is_high_enough_is_left_alone(setting: Setting) -> None:
    setting.file.write_text("8192\n")
    lab = Places.claim("one")
    prepare(lab, (setting,))
    restore(lab, (setting,))
    assert setting.file.read_text() == "8192\n"


def test_what_somebody_has_changed_since_stays(setting: Setting) -> None:
    lab = Places.claim("one")
    prepare(lab, (setting,))
    setting.file.write_text("9999")
    restore(lab, (setting,))
    assert setting.file.read_text() == "9999"
    assert not kept(setting).exists()
