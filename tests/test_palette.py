"""The colours of the figures: contrast on light and dark, and how far apart they are for people who see no green."""

from __future__ import annotations

from itertools import combinations

import numpy as np
import pytest

from harness.charts import agreement_chart, coverage_chart, heatmap, rendering, stage_chart

# Deuteranopia after Machado, Oliveira and Fernandes (2009), severity 1.0, for linear RGB.
DEUTERANOPIA = np.array(
    [[0.367322, 0.860646, -0.227968], [0.280085, 0.672501, 0.047413], [-0.011820, 0.042940, 0.968881]]
)
XYZ = np.array([[0.4124, 0.3576, 0.1805], [0.2126, 0.7152, 0.0722], [0.0193, 0.1192, 0.9505]])
WHITE = XYZ @ np.ones(3)
APART = 20  # least distance in CIELAB; neighbouring colours of one lightness have below 10
MODES = {"light": {}, "dark": rendering.DARK}


def linear(colour: str) -> np.ndarray:
    channels = np.array([int(colour[i : i + 2], 16) for i in (1, 3, 5)]) / 255
    return np.where(channels <= 0.04045, channels / 12.92, ((channels + 0.055) / 1.055) ** 2.4)


def contrast(one: str, other: str) -> float:
    """The contrast ratio of WCAG 2."""
    dark, light = sorted(float(XYZ[1] @ linear(colour)) for colour in (one, other))
    return (light + 0.05) / (dark + 0.05)


def lab(rgb: np.ndarray) -> np.ndarray:
    scaled = XYZ @ rgb / WHITE
    f = np.where(scaled > 216 / 24389, np.cbrt(np.maximum(scaled, 0)), (24389 / 27 * scaled + 16) / 116)
    return np.array([116 * f[1] - 16, 500 * (f[0] - f[1]), 200 * (f[1] - f[2])])


def apart(one: str, other: str, matrix: np.ndarray) -> float:
    first, second = (lab(np.clip(matrix @ linear(colour), 0, 1)) for colour in (one, other))
    return float(np.linalg.norm(first - second))


def test_the_measures_are_those_of_their_definitions() -> None:
    assert contrast("#000000", "#FFFFFF") == pytest.approx(21, abs=0.01)
    assert contrast("#777777", "#FFFFFF") == pytest.approx(4.48, abs=0.01)
    assert apart("#FFFFFF", "#000000", np.eye(3)) == pytest.approx(100, abs=0.1)
    assert apart("#FF0000", "#00AA00", DEUTERANOPIA) < apart("#FF0000", "#00AA00", np.eye(3)) / 2


@pytest.mark.parametrize("mode", MODES)
def test_text_and_marks_have_contrast(mode: str) -> None:
    def shown(colour: str) -> str:
        return MODES[mode].get(colour, colour)

    paper = shown(rendering.PAPER)
    for text in (rendering.INK, rendering.QUIET):
        assert contrast(shown(text), paper) >= 4.5
    for mark in (*rendering.HUES, rendering.GREY):
        assert contrast(shown(mark), paper) >= 3
    inside = [*stage_chart.STYLES.values(), heatmap.OTHER]
    inside += [style[:2] for states in (agreement_chart.STATES, coverage_chart.STATES) for style in states.values()]
    for hue, ink in inside:
        assert contrast(shown(ink), paper if hue == "transparent" else shown(hue)) >= 4.5, (hue, ink)


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("matrix", [np.eye(3), DEUTERANOPIA], ids=["all cones", "deuteranopia"])
def test_hues_can_be_told_apart(mode: str, matrix: np.ndarray) -> None:
    hues = [MODES[mode].get(hue, hue) for hue in (*rendering.HUES, rendering.GREY)]
    assert min(apart(*pair, matrix) for pair in combinations(hues, 2)) >= APART
    # In grey, too, there are dark and light ones among them.
    lightness = [lab(linear(hue))[0] for hue in hues]
    assert max(lightness) - min(lightness) > 25
