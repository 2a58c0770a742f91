"""Renders free, photograph-like landscapes: for the example picture and for calibration without photographs."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

FloatArray = npt.NDArray[np.float64]


def render(height: int, width: int, generator: np.random.Generator) -> npt.NDArray[np.uint8]:
    """Render a lake in the mountains.

    Args:
        height: in pixels.
        width: in pixels.
        generator: chooses mountains, clouds, trees, light and grain.

    Returns:
        uint8 [height, width, 3].
    """
    rows, columns = np.mgrid[0:height, 0:width] / height
    horizon = generator.uniform(0.58, 0.66)
    sun = np.array([generator.uniform(0.15, 0.85) * width / height, generator.uniform(0.1, 0.3)])
    scene = _sky(rows, columns, horizon, sun, generator)
    for depth in range(4):
        scene = _ridge(scene, rows, horizon, depth / 3, generator)
    scene = _shore_trees(scene, rows, horizon, generator)
    scene = _lake(scene, rows, horizon, generator)
    grain = generator.normal(0, 0.008, scene.shape[:2])[..., None]
    return np.rint(255 * np.clip(scene + grain, 0, 1)).astype(np.uint8)


def fractal(shape: tuple[int, int], roughness: float, generator: np.random.Generator) -> FloatArray:
    """Return noise with a power-law spectrum, zero mean, unit deviation: float64 of `shape`."""
    frequency = np.hypot(np.fft.fftfreq(shape[0])[:, None], np.fft.rfftfreq(shape[1])[None])
    frequency[0, 0] = np.inf
    phase = generator.normal(size=(*frequency.shape, 2)) @ np.array([1, 1j])
    noise = np.fft.irfft2(phase * frequency**-roughness, s=shape)
    return np.asarray((noise - noise.mean()) / noise.std())


def _mix(a: FloatArray, b: FloatArray, weight: FloatArray) -> FloatArray:
    return a + (b - a) * np.clip(weight, 0, 1)[..., None]


def _sky(
    rows: FloatArray, columns: FloatArray, horizon: float, sun: FloatArray, generator: np.random.Generator
) -> FloatArray:
    warmth = generator.uniform(0.0, 1.0)
    zenith, haze = np.array([0.22, 0.42, 0.75]), np.array([0.85, 0.86 - 0.12 * warmth, 0.9 - 0.3 * warmth])
    sky = _mix(np.broadcast_to(zenith, (*rows.shape, 3)), haze, rows / horizon)
    distance = np.hypot(rows - sun[1], columns - sun[0])
    sky = _mix(sky, np.array([1.0, 0.97, 0.88]), np.exp(-((distance / 0.18) ** 2)) * 0.7)
    stretched = fractal((rows.shape[0], rows.shape[1]), 1.7, generator)
    clouds = 1 / (1 + np.exp(-4 * (stretched - 0.5)))
    lit = 0.97 - 0.18 * np.clip(np.roll(stretched, -rows.shape[0] // 64, axis=0) - stretched, 0, 1)
    return _mix(sky, lit[..., None] * np.array([1.0, 0.99, 0.97]), clouds * 0.85)


def _ridge(
    scene: FloatArray, rows: FloatArray, horizon: float, nearness: float, generator: np.random.Generator
) -> FloatArray:
    """Draw one mountain ridge; nearer ones are lower, rougher and darker."""
    height, width = rows.shape
    profile = fractal((4, width), 1.6 - 0.2 * nearness, generator)[0]
    profile += np.interp(np.linspace(0, 3, width), np.arange(4), generator.normal(0, 1.2, 4))
    crest = horizon - (0.26 - 0.2 * nearness) - (0.05 - 0.025 * nearness) * profile
    below = rows - crest[None]
    relief = fractal((height, width), 1.35, generator)
    slope = np.gradient(relief, axis=1) * height / 40 + np.gradient(crest)[None] * height * 0.6
    light = 0.62 + 0.22 * np.tanh(-slope)
    rock, forest = np.array([0.5, 0.48, 0.5]), np.array([0.16, 0.25, 0.13])
    ground = _mix(np.broadcast_to(rock, scene.shape), forest, below * 5 + 0.3 * relief + nearness - 0.35)
    snow = (crest[None] + 0.06 - rows) * 14 + 0.7 * relief - 4 * nearness
    ground = _mix(ground, np.array([0.94, 0.95, 0.98]), snow) * light[..., None]
    if nearness > 0.5:
        ground = ground * (1 + 0.18 * fractal((height, width), 0.5, generator))[..., None]
    ground = _mix(ground, np.array([0.66, 0.74, 0.84]), np.full(rows.shape, 0.6 * (1 - nearness)))
    return _mix(scene, ground, below * height / 1.5 + 0.5)


def _shore_trees(scene: FloatArray, rows: FloatArray, horizon: float, generator: np.random.Generator) -> FloatArray:
    """Draw a row of conifers along the far shore."""
    height, width = rows.shape
    top = np.full(width, horizon)
    places = np.arange(width)
    for _ in range(width // 7):
        centre, tall = generator.uniform(0, width), generator.uniform(0.015, 0.075)
        reach = tall * height * 0.28
        spire = tall * (1 - np.abs(places - centre) / reach) + generator.normal(0, 0.0015, width)
        top = np.where(np.abs(places - centre) < reach, np.minimum(top, horizon - spire), top)
    needles = 0.75 + 0.3 * fractal((height, width), 0.4, generator)
    colour = needles[..., None] * np.array([0.09, 0.15, 0.09])
    return _mix(scene, np.clip(colour, 0, 1), (rows - top[None]) * height + 0.5)


def _lake(scene: FloatArray, rows: FloatArray, horizon: float, generator: np.random.Generator) -> FloatArray:
    """Mirror what lies above the horizon, with ripples that grow towards the viewer."""
    height, width = rows.shape
    depth = np.clip(rows - horizon, 0, None)
    ripples = fractal((height, width // 8 + 1), 0.9, generator).repeat(8, axis=1)[:, :width]
    row_of = np.clip((2 * horizon - rows + 0.05 * depth * ripples) * height, 0, horizon * height - 1).astype(int)
    shift = np.rint(ripples * depth * height * 0.05).astype(int)
    column_of = np.clip(np.arange(width)[None] + shift, 0, width - 1)
    mirrored = scene[row_of, column_of] * 0.82 + np.array([0.0, 0.015, 0.03])
    glitter = 0.12 * np.clip(ripples - 1.2, 0, 2)[..., None] * np.clip(depth * 4, 0, 1)[..., None]
    return _mix(scene, mirrored + glitter, (rows - horizon) * height + 0.5)
