from pathlib import Path

import pytest

from labkit.agent.envoy_log import EnvoyLog

BEFORE = "2026-01-01T00:00:00.000 warning wasm wasm log: [mock] [nil] [nil] an older complaint\n"
AFTER = (
    "2026-01-01T00:00:01.000 info wasm wasm log: [mock] [nil] [nil] plugin start successfully\n"
    "2026-01-01T00:00:01.000 warning wasm wasm log: [mock] [nil] [nil] parse rule config failed: no match\n"
    "2026-01-01T00:00:01.001 error wasm wasm log mock vm: plugin start failed\n"
    "2026-01-01T00:00:01.002 critical wasm Plugin mock failed to load\n"
)
WORDS = "parse rule config failed: no match; plugin start failed"


@pytest.mark.parametrize(
    ("before", "after", "start", "words"),
    [
        (BEFORE, AFTER, len(BEFORE), WORDS),
        ("", AFTER + AFTER, 0, WORDS),
        ("", AFTER, 10_000, WORDS),
        (BEFORE, "", len(BEFORE), ""),
        ("", "\x00\xff no log at all\n" * 100, 0, ""),
    ],
    ids=["since then", "said twice", "rotated", "nothing said", "not a log"],
)
def test_what_plugins_complained_about_is_found(
    tmp_path: Path, before: str, after: str, start: int, words: str
) -> None:
    path = tmp_path / "gateway.log"
    path.write_text(before + after, encoding="latin-1")
    assert EnvoyLog(path).complaints(start) == words


def test_a_log_that_is_not_there_says_nothing(tmp_path: Path) -> None:
    for log in (EnvoyLog(None), EnvoyLog(tmp_path / "none")):
        assert (log.size(), log.complaints(0)) == (0, "")
