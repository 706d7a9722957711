"""The virtual camera: scene, lens, sensor and DNG writer, with the truth beside every pair."""
