"""Fixtures and marks of all tests."""

from __future__ import annotations

import gc
import os
from pathlib import Path

import pytest
from hypothesis import settings

from tests.support.paths import SHARED

# A loaded machine is slow at times: a deadline would fail what is right.
settings.register_profile("no-deadline", deadline=None)
settings.load_profile("no-deadline")

# Marks of folders, files and single tests by the beginning of their ids. `make test-fast` leaves all of these out.
MARKS = {
    "fuzz": ("tests/fuzz/",),
    "kill": (
        "tests/faults/",
        "tests/sdd_toolkit/execution/",
        "tests/sdd_toolkit/packing/test_stage.py::test_a_disk_that_fills_up",
        "tests/sdd_toolkit/shards/test_building.py",
    ),
    "slow": (
        "tests/alignment/estimation/test_brightness_field.py::test_a_registration",
        "tests/alignment/fusion/",
        "tests/alignment/registration/test_dense_motion.py",
        "tests/alignment/registration/test_invariances.py",
        "tests/alignment/registration/test_lens_prior.py",
        "tests/alignment/registration/test_photograph_pair.py",
        "tests/alignment/registration/test_register_options.py",
        "tests/alignment/registration/test_stage.py",
        "tests/alignment/registration/test_virtual_pairs.py",
        "tests/alignment/test_commands.py",
        "tests/benchmarks/",
        "tests/capture/tether/test_commands.py",
        "tests/capture/tether/test_gphoto_camera.py",
        "tests/capture/tether/test_shooting.py",
        "tests/capture/virtual/test_render_pair.py",
        "tests/end_to_end/",
        "tests/jdrl/data/test_datasets.py",
        "tests/jdrl/evaluation/test_outputs.py",
        "tests/jdrl/evaluation/test_stage.py",
        "tests/jdrl/inference/test_deblur.py::test_a_raw_file_becomes",
        "tests/jdrl/inference/test_onnx_export.py",
        "tests/jdrl/inference/test_tiles.py::test_the_tile_is_the_largest",
        "tests/jdrl/metrics/test_drift.py::test_a_planted_shift",
        "tests/jdrl/metrics/test_perceptual.py::test_dists",
        "tests/jdrl/networks/test_catalogue.py",
        "tests/jdrl/networks/test_guidance.py",
        "tests/jdrl/networks/test_localised.py",
        "tests/jdrl/networks/test_mprnet.py",
        "tests/jdrl/networks/test_networks.py::test_published_weights",
        "tests/jdrl/networks/test_restormer.py",
        "tests/sdd_toolkit/bench/test_stage.py",
        "tests/sdd_toolkit/calibration/test_breathing_model.py",
        "tests/sdd_toolkit/calibration/test_hot_pixel_map.py",
        "tests/sdd_toolkit/layouts/test_export_stage.py",
        "tests/sdd_toolkit/layouts/test_import_stage.py::test_workers",
        "tests/sdd_toolkit/layouts/test_sidecar.py",
        "tests/sdd_toolkit/layouts/test_webdataset.py",
        "tests/sdd_toolkit/pipeline/test_dataset_folder.py",
        "tests/sdd_toolkit/report/test_stage.py",
        "tests/sdd_toolkit/shards/test_dataframes.py",
        "tests/sdd_toolkit/shards/test_patch_layout.py::test_hugging_face",
        "tests/sdd_toolkit/shards/test_stored_patches.py",
        "tests/test_format.py::test_the_code_of_the_document_reads",
        "tests/test_reading_page.py",
        "tests/test_security.py::test_no_name_in_a_report",
    ),
    "training": (
        "tests/jdrl/inference/test_blur_map.py",
        "tests/jdrl/losses/test_triplet.py::test_an_estimator_trained",
        "tests/jdrl/reblurring/test_network.py::test_every_basis_trains",
        "tests/jdrl/test_commands.py::test_train_evaluate",
        "tests/jdrl/training/",
    ),
}

# Two workers of pytest share two cores: threads of PyTorch or OpenBLAS beside each other spin more than they compute.
for variable in ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS"):
    os.environ.setdefault(variable, "1")


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    for item in items:
        for mark, beginnings in MARKS.items():
            if item.nodeid.startswith(beginnings) or (mark == "kill" and "_killed_" in item.name):
                item.add_marker(mark)


def pytest_collection_finish() -> None:
    # Collections during the tests would otherwise go through all test items and libraries again and again.
    gc.collect()
    gc.freeze()


@pytest.fixture(scope="session")
def real_data() -> Path:
    """The folder of real photographs and RAW files, which are not ours to ship."""
    folder = SHARED / "data"
    if not folder.is_dir():
        pytest.skip("real photographs are not part of the project: no ../shared/data here")
    return folder


@pytest.fixture(scope="session")
def golden() -> Path:
    """The folder with outputs of reference networks."""
    folder = SHARED / "golden"
    if not folder.is_dir():
        pytest.skip("reference network outputs are not part of the project: no ../shared/golden here")
    return folder
