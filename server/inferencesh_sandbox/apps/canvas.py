"""A landscape, hashed from words: a sky, stars or a sun with its glow, and mountains one behind the other."""

from __future__ import annotations

import colorsys
import random
from dataclasses import dataclass

from inferencesh_sandbox.apps.png import Raster

Colour = tuple[int, int, int]

_RINGS = 6
_RANGES = 4


@dataclass(frozen=True)
class Disc:
    x: float
    y: float
    radius: float
    colour: Colour
    strength: float
    """How much of what lies behind it covers: 1 covers all."""


@dataclass(frozen=True)
class Peak:
    x: float
    y: float
    slope: float
    colour: Colour


class Landscape:
    """One picture: the same words and seed always give the same one."""

    def __init__(self, prompt: str, seed: int | None, width: int, height: int, palette: str) -> None:
        # Seeded by words on purpose; nothing here has to be unforeseeable.
        chance = random.Random(f"{prompt}\n{seed}\n{palette}")  # noqa: S311
        self.width, self.height = width, height
        hue = {"warm": 0.05, "cool": 0.58}.get(palette, chance.random())
        night = chance.random() < 0.4
        self._top = _colour(hue + 0.55, 0.65, 0.16 if night else 0.62)
        self._bottom = _colour(hue, 0.55, 0.45 if night else 0.98)
        self._discs = [*self._stars(chance, night), *self._sun(chance, hue, night)]
        self._peaks = [peak for depth in range(_RANGES) for peak in self._range(chance, hue, depth, night)]

    def rows(self, first: int, last: int) -> list[bytes]:
        """Paint some rows, from the back to the front."""
        return [self._row(y) for y in range(first, last)]

    def raster(self, rows: list[bytes]) -> Raster:
        return Raster(self.width, self.height, tuple(rows))

    def _row(self, y: int) -> bytes:
        sky = _mixed(self._top, self._bottom, (y / max(1, self.height - 1)) ** 1.4)
        row = bytearray(bytes(sky) * self.width)
        ground = sky
        for disc in self._discs:
            half = disc.radius**2 - (y - disc.y) ** 2
            if half > 0:
                ground = _mixed(ground, disc.colour, disc.strength) if disc.strength < 1 else disc.colour
                self._fill(row, disc.x - half**0.5, disc.x + half**0.5, ground)
        for peak in self._peaks:
            if y >= peak.y:
                reach = (y - peak.y) * peak.slope
                self._fill(row, peak.x - reach, peak.x + reach, peak.colour)
        return bytes(row)

    def _fill(self, row: bytearray, start: float, end: float, colour: Colour) -> None:
        first, last = max(0, round(start)), min(self.width, round(end))
        if last > first:
            row[3 * first : 3 * last] = bytes(colour) * (last - first)

    def _stars(self, chance: random.Random, night: bool) -> list[Disc]:
        return [
            Disc(
                chance.random() * self.width, chance.random() * self.height * 0.6,
                chance.uniform(0.6, 1.4) * self.height / 256, (255, 250, 230), 1,
            )
            for _ in range(60 if night else 0)
        ]  # fmt: skip

    def _sun(self, chance: random.Random, hue: float, night: bool) -> list[Disc]:
        x, y = chance.uniform(0.2, 0.8) * self.width, chance.uniform(0.2, 0.55) * self.height
        radius = chance.uniform(0.07, 0.14) * min(self.width, self.height)
        light = _colour(hue + 0.1, 0.12 if night else 0.25, 1)
        glow = [Disc(x, y, radius * (1 + 0.35 * ring), light, 0.13) for ring in range(_RINGS, 0, -1)]
        return [*glow, Disc(x, y, radius, light, 1)]

    def _range(self, chance: random.Random, hue: float, depth: int, night: bool) -> list[Peak]:
        light = (0.5 - 0.1 * depth) * (0.45 if night else 1)
        colour = _colour(hue + 0.6 - 0.04 * depth, 0.25 + 0.1 * depth, light)
        top = self.height * (0.5 + 0.11 * depth)
        return [
            Peak(
                chance.random() * self.width, top + chance.uniform(-0.08, 0.1) * self.height,
                chance.uniform(0.9, 2.2), colour,
            )
            for _ in range(7)
        ]  # fmt: skip


def _colour(hue: float, saturation: float, value: float) -> Colour:
    red, green, blue = colorsys.hsv_to_rgb(hue % 1, saturation, value)
    return round(red * 255), round(green * 255), round(blue * 255)


def _mixed(base: Colour, other: Colour, share: float) -> Colour:
    red, green, blue = (round(a + (b - a) * share) for a, b in zip(base, other, strict=True))
    return red, green, blue
