"""What doctor says about this machine."""

from __future__ import annotations

from labkit import gateway
from labkit.lab import doctor


def test_envoys_version_is_found_in_a_folder_whose_name_has_a_space(tmp_path, monkeypatch):
    envoy = tmp_path / "with a space" / "envoy"
    envoy.parent.mkdir()
    envoy.write_text('#!/bin/sh\necho "$0  version: abc/1.40.0/Clean/RELEASE/BoringSSL"\n')
    envoy.chmod(0o755)
    monkeypatch.setattr(gateway, "envoy_path", lambda: envoy)
    (check,) = [one for one in doctor.examine() if one.name == "Envoy"]
    assert (check.ok, check.found) == (True, f"Envoy 1.40.0 ({envoy})")
