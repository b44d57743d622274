"""Synthetic images: the same pixels for the same seed, with the cells that they promise."""

from __future__ import annotations

import hashlib

import numpy as np
import pytest

from harness.images import synthetic


def diameters_px(labels: np.ndarray) -> np.ndarray:
    """Diameter of the disc of each cell's area, as cellpose measures it."""
    return np.sqrt(np.bincount(labels.ravel())[1:] * 4 / np.pi)


def assert_consecutive(scene: synthetic.Scene) -> None:
    np.testing.assert_array_equal(np.unique(scene.labels), np.arange(scene.n_cells + 1))


def test_a_seed_always_draws_the_same_pixels() -> None:
    scene = synthetic.sparse(height_px=256, width_px=256, n_cells=5)
    assert scene.image.dtype == np.uint8
    # A series of results is one image: another hash here starts every series on built-in images anew.
    assert hashlib.sha256(scene.image).hexdigest() == "1e4c666fcce6f0398f7eeef2c572756485af8976e1cc816add67496374510449"
    assert not np.array_equal(scene.image, synthetic.sparse(seed=1, height_px=256, width_px=256, n_cells=5).image)


@pytest.mark.slow
def test_sparse_holds_about_160_cells_of_68_px() -> None:
    scene = synthetic.sparse()
    assert scene.image.shape == scene.labels.shape == (2160, 2560)
    assert 150 <= scene.n_cells <= 165
    assert abs(np.median(diameters_px(scene.labels)) - 68) <= 3
    assert_consecutive(scene)


@pytest.mark.slow
def test_dense_holds_thousands_of_cells_of_30_px() -> None:
    scene = synthetic.dense()
    assert scene.image.shape == scene.labels.shape == (2160, 2560)
    assert scene.n_cells >= 2500
    assert abs(np.median(diameters_px(scene.labels)) - 30) <= 3
    assert_consecutive(scene)


@pytest.mark.parametrize("style", synthetic.STYLES)
def test_every_style_can_be_trained_on(style: str) -> None:
    for seed in range(4):
        scene = synthetic.training_scene(np.random.default_rng(seed), 160, 30.0, style)
        assert scene.image.shape == scene.labels.shape == (160, 160)
        assert scene.image.dtype == np.uint8
        assert scene.n_cells >= 1
        assert scene.image.std() > 1
        assert_consecutive(scene)


def test_a_scene_without_cells_is_empty() -> None:
    scene = synthetic.sparse(height_px=64, width_px=64, n_cells=0)
    assert scene.n_cells == 0
    assert scene.image.shape == (64, 64)
