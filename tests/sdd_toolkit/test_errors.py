from __future__ import annotations

import pickle

import pytest

from sdd_toolkit import errors


def test_every_error_has_its_own_documented_exit_code() -> None:
    codes = {
        errors.ConfigError: 2,
        errors.ManifestError: 2,
        errors.RawError: 2,
        errors.IntegrityError: 3,
        errors.CameraError: 4,
        errors.CheckpointError: 5,
        errors.MissingExtraError: 6,
    }
    assert {kind: kind("x", hint="y").exit_code for kind in codes} == codes


@pytest.mark.parametrize("kind", [errors.RawError, errors.IntegrityError])
def test_an_error_crosses_a_process_border_whole(kind: type[errors.SddError]) -> None:
    back = pickle.loads(pickle.dumps(kind("bad file", hint="look at it")))
    assert (type(back), back.what, back.hint) == (kind, "bad file", "look at it")


def test_a_missing_extra_names_the_command_that_installs_it() -> None:
    assert errors.MissingExtraError.of("torch", "train").hint == 'pip install "sdd-toolkit[train]"'
