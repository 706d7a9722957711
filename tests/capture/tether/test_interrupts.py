from __future__ import annotations

import signal
import threading

import pytest

from capture.tether.interrupts import defer_interrupt


def test_ctrl_c_waits_until_the_frame_is_finished() -> None:
    done = []
    with pytest.raises(KeyboardInterrupt), defer_interrupt():
        signal.raise_signal(signal.SIGINT)
        done.append("frame")
    assert done == ["frame"]


def test_a_second_ctrl_c_stops_at_once() -> None:
    done = []
    with pytest.raises(KeyboardInterrupt), defer_interrupt():
        signal.raise_signal(signal.SIGINT)
        signal.raise_signal(signal.SIGINT)
        done.append("frame")
    assert done == []


def test_ctrl_c_before_a_failure_counts_more_than_the_failure() -> None:
    with pytest.raises(KeyboardInterrupt), defer_interrupt():
        signal.raise_signal(signal.SIGINT)
        raise ValueError


def test_the_handler_before_is_back_afterwards() -> None:
    before = signal.getsignal(signal.SIGINT)
    with defer_interrupt():
        assert signal.getsignal(signal.SIGINT) is not before
    assert signal.getsignal(signal.SIGINT) is before


def test_a_thread_that_may_not_catch_signals_works_all_the_same() -> None:
    done: list[str] = []

    def work() -> None:
        with defer_interrupt():
            done.append("frame")

    thread = threading.Thread(target=work)
    thread.start()
    thread.join()
    assert done == ["frame"]
