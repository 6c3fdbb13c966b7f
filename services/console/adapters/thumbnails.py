"""Small copies of citizens' pictures: what a conversation shows, so that ten photos are not thirty megabytes."""

import asyncio
import io

from PIL import Image, ImageOps, UnidentifiedImageError

from services.console.errors import PictureNotFound

WIDTH, HEIGHT = 560, 440
"""Twice what the page shows, for screens with fine dots."""

MAX_PIXELS = {"JPEG": 50_000_000, "PNG": 16_000_000, "GIF": 16_000_000, "WEBP": 16_000_000}
"""A file of a few kilobytes can claim to be a picture of gigabytes. A camera's JPEG is decoded at a part of its size at
once; the others need four bytes a pixel, and the console's container has 384 MB.
"""


class Thumbnails:
    """Makes small copies, one at a time: decoding a photo takes a core for tenths of a second, and memory."""

    def __init__(self) -> None:
        self._turn = asyncio.Lock()

    async def of(self, content: bytes) -> bytes:
        """A JPEG copy that fits, turned upright, without the camera's notes (where it was taken, by which device).

        Raises:
            PictureNotFound: the bytes are no picture, or one too large to decode.
        """
        async with self._turn:
            return await asyncio.to_thread(_shrink, content)


def _shrink(content: bytes) -> bytes:
    try:
        with Image.open(io.BytesIO(content), formats=tuple(MAX_PIXELS)) as picture:
            if picture.width * picture.height > MAX_PIXELS[picture.format or "PNG"]:
                raise PictureNotFound("too many pixels")
            picture.draft("RGB", (WIDTH, HEIGHT))
            upright = ImageOps.exif_transpose(picture)
            upright.thumbnail((WIDTH, HEIGHT))
            paper = Image.new("RGB", upright.size, "white")
            rgba = upright.convert("RGBA")
            paper.paste(rgba, mask=rgba)
    except (UnidentifiedImageError, OSError, ValueError, SyntaxError, Image.DecompressionBombError) as error:
        raise PictureNotFound(f"not a picture: {type(error).__name__}") from error
    out = io.BytesIO()
    paper.save(out, "JPEG", quality=80, optimize=True)
    return out.getvalue()
