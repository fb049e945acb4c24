"""Pictures as PNG, drawn here: smooth lines, dots and a typeface of strokes; zlib does the rest."""

import struct
import zlib
from functools import lru_cache
from typing import Any

import numpy as np
from numpy.typing import NDArray

from charlstm.show.glyphs import UNKNOWN, strokes
from charlstm.show.picture import ADVANCE, Dot, Label, Path, Picture, Rectangle

SCALE = 2
"""Pixels for each unit of a picture."""
GRID = 8.3
"""Steps of the glyphs' grid in the size of the type."""
Pixels = NDArray[Any]


def to_png(picture: Picture) -> bytes:
    """The picture as a PNG file, 8 bits for each of red, green and blue."""
    pixels = draw(picture)
    height, width, _ = pixels.shape
    rows = np.zeros((height, 1 + 3 * width), np.uint8)  # each begins with its filter: none
    rows[:, 1:] = pixels.reshape(height, -1)
    header = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    parts = ((b"IHDR", header), (b"IDAT", zlib.compress(rows.tobytes(), 6)), (b"IEND", b""))
    return b"\x89PNG\r\n\x1a\n" + b"".join(_part(kind, data) for kind, data in parts)


def lacking(picture: Picture) -> str:
    """The characters of the picture that are drawn as empty boxes, each once."""
    words = "".join(one.text for one in picture.shapes if isinstance(one, Label))
    return "".join(c for c in dict.fromkeys(words) if strokes(c) is UNKNOWN)


def _part(kind: bytes, data: bytes) -> bytes:
    return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))


def draw(picture: Picture) -> NDArray[np.uint8]:
    """(height, width, 3) pixels."""
    shape = (round(SCALE * picture.height), round(SCALE * picture.width), 3)
    pixels = np.full(shape, 255, np.float32)
    for one in picture.shapes:
        color = np.array(one.color, np.float32)
        if isinstance(one, Rectangle):
            box = np.array([one.y, one.y + one.height, one.x, one.x + one.width]) * SCALE
            top, bottom, left, right = np.maximum(0, box.round().astype(int))
            pixels[top:bottom, left:right] = color
        elif isinstance(one, Dot):
            x, y, radius = SCALE * one.x, SCALE * one.y, SCALE * one.radius
            _stroke(pixels, (x, y), (x, y), radius, color, one.opacity)
        elif isinstance(one, Path):
            for start, end in zip(one.points[:-1], one.points[1:], strict=True):
                a, b = ((SCALE * x, SCALE * y) for x, y in (start, end))
                _stroke(pixels, a, b, SCALE * one.width / 2, color, 1.0)
        else:
            _label(pixels, one, color)
    return pixels.round().astype(np.uint8)


def _cover(
    shape: tuple[int, int], start: tuple[float, float], end: tuple[float, float], radius: float
) -> Pixels:
    """How much of each pixel lies within ``radius`` of the line from ``start`` to ``end``."""
    y, x = np.indices(shape, dtype=np.float32) + 0.5
    (x1, y1), (x2, y2) = start, end
    dx, dy = x2 - x1, y2 - y1
    square = dx * dx + dy * dy
    along = np.clip(((x - x1) * dx + (y - y1) * dy) / square, 0, 1) if square else 0.0
    distance = np.hypot(x - x1 - along * dx, y - y1 - along * dy)
    cover: Pixels = np.clip(radius + 0.5 - distance, 0, 1)
    return cover


def _stroke(
    pixels: Pixels,
    start: tuple[float, float],
    end: tuple[float, float],
    radius: float,
    color: Pixels,
    opacity: float,
) -> None:
    left = max(0, int(min(start[0], end[0]) - radius) - 1)
    top = max(0, int(min(start[1], end[1]) - radius) - 1)
    right = int(max(start[0], end[0]) + radius) + 2
    bottom = int(max(start[1], end[1]) + radius) + 2
    part = pixels[top:bottom, left:right]
    moved = ((start[0] - left, start[1] - top), (end[0] - left, end[1] - top))
    cover = opacity * _cover(part.shape[:2], *moved, radius)
    part += cover[..., None] * (color - part)


@lru_cache(maxsize=1024)
def _glyph(character: str, size: float, bold: bool) -> Pixels:
    """The cover of one character; its line is ``size`` below the top."""
    step = SCALE * size / GRID
    shape = (int(SCALE * size * 1.6), int(SCALE * size * ADVANCE) + 2)
    cover = np.zeros(shape, np.float32)
    radius = SCALE * (0.085 if bold else 0.055) * size
    for line in strokes(character):
        points = [(1.0 + 0.84 * x * step, SCALE * size + (y - 6) * step) for x, y in line]
        for a, b in zip(points, points[1:] or points, strict=False):
            cover = np.maximum(cover, _cover(shape, a, b, radius))
    return cover


def _label(pixels: Pixels, label: Label, color: Pixels) -> None:
    width = SCALE * label.size * ADVANCE
    shift = {"start": 0.0, "middle": -0.5, "end": -1.0}[label.anchor] * width * len(label.text)
    for n, character in enumerate(label.text):
        cover = _glyph(character, label.size, label.bold)
        along = SCALE * (label.y if label.upright else label.x)
        if label.upright:
            cover = np.rot90(cover)
            left = round(SCALE * (label.x - label.size))
            top = round(along - shift - n * width - cover.shape[0])
        else:
            left, top = round(along + shift + n * width), round(SCALE * (label.y - label.size))
        if top < 0 or left < 0:
            continue
        part = pixels[top : top + cover.shape[0], left : left + cover.shape[1]]
        part += cover[: part.shape[0], : part.shape[1], None] * (color - part)
