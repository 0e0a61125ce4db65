import json
import threading

import pytest

from labkit.events import STEPS, Journal


@pytest.fixture
def journal(tmp_path):
    return Journal(tmp_path / "deep" / "journal.jsonl")


def test_an_event_is_read_back_as_it_was_written(journal):
    written = journal.record(9, part="agent", plugin="ns/name", generation=3, digest="sha256:00", path="/tmp/ä b")
    assert journal.read() == [written]
    assert written.name == STEPS[9]
    assert written.data == {"path": "/tmp/ä b"}


def test_a_journal_nobody_wrote_is_empty(journal):
    assert journal.read() == []


def test_a_line_still_being_written_is_left_out(journal):
    first = journal.record(1, part="toolchain")
    with journal.path.open("a") as file:
        file.write(json.dumps({"step": 2})[:5])
    assert journal.read() == [first]


def test_writers_at_the_same_time_never_mix_their_lines(journal):
    def write(writer: int) -> None:
        for number in range(200):
            journal.record(10, part="agent", generation=number, filler="x" * 5000, writer=writer)

    threads = [threading.Thread(target=write, args=(writer,)) for writer in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    events = journal.read()
    for writer in range(4):
        assert [event.generation for event in events if event.data["writer"] == writer] == list(range(200))


@pytest.mark.parametrize("number", STEPS)
def test_every_step_has_its_name_of_the_article(journal, number):
    assert journal.record(number, part="x").name == STEPS[number]
