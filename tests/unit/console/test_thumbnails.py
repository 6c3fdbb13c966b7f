"""Small copies of pictures: bounded, upright, without what the camera noted."""

import io
import struct
import zlib

import pytest
from PIL import Image

from services.console.adapters.thumbnails import HEIGHT, MAX_PIXELS, WIDTH, Thumbnails
from services.console.errors import PictureNotFound
from tests.unit.console.world import a_photo, a_png


async def test_a_photo_becomes_small_and_keeps_its_shape() -> None:
    small = Image.open(io.BytesIO(await Thumbnails().of(a_photo(1_600, 1_200))))
    assert small.size == (WIDTH, WIDTH * 3 // 4)


async def test_a_photo_taken_sideways_stands_upright_and_says_nothing_of_the_camera() -> None:
    small = Image.open(io.BytesIO(await Thumbnails().of(a_photo(800, 400, orientation=6))))
    assert small.height == HEIGHT > small.width
    assert dict(small.getexif()) == {}


async def test_what_is_seen_through_becomes_white() -> None:
    out = io.BytesIO()
    Image.new("RGBA", (900, 900), (0, 0, 0, 0)).save(out, "PNG")
    small = Image.open(io.BytesIO(await Thumbnails().of(out.getvalue())))
    assert small.getpixel((10, 10)) == (255, 255, 255)


def a_bomb() -> bytes:
    """A few bytes that claim to be a picture of a billion pixels."""
    header = struct.pack(">IIBBBBB", 40_000, 40_000, 8, 2, 0, 0, 0)
    chunk = struct.pack(">I", len(header)) + b"IHDR" + header + struct.pack(">I", zlib.crc32(b"IHDR" + header))
    assert MAX_PIXELS["PNG"] < 40_000 * 40_000
    return b"\x89PNG\r\n\x1a\n" + chunk


@pytest.mark.parametrize("content", [b"", b"<svg onload=alert(1)>", a_png()[:200], a_bomb()], ids=len)
async def test_what_cannot_be_decoded_is_not_shown(content: bytes) -> None:
    with pytest.raises(PictureNotFound):
        await Thumbnails().of(content)
