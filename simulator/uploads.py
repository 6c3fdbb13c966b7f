"""Files that pages upload for sending and pictures that people send: kept on disk, served under /media/."""

from __future__ import annotations

import hashlib
import secrets
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Literal

from simulator.errors import ZaloRefusal
from simulator.storage import read_document, write_atomically

UploadKind = Literal["image", "gif", "file"]
MEGABYTE = 1024 * 1024
LIFETIME_MS = 7 * 86_400_000
PHONE_MEDIA_MAX_BYTES = 20 * MEGABYTE

CONTENT_TYPES = {
    "jpg": "image/jpeg",
    "png": "image/png",
    "gif": "image/gif",
    "webp": "image/webp",
    "pdf": "application/pdf",
    "doc": "application/msword",
    "docx": "application/vnd.openxmlformats-officedocument.wordprocessingml.document",
    "csv": "text/csv",
    "mp4": "video/mp4",
    "amr": "audio/amr",
}
_MAX_BYTES: dict[UploadKind, int] = {"image": MEGABYTE, "gif": 5 * MEGABYTE, "file": 5 * MEGABYTE}
_EXTENSIONS: dict[UploadKind, frozenset[str]] = {
    "image": frozenset({"jpg", "png"}),
    "gif": frozenset({"gif"}),
    "file": frozenset({"pdf", "doc", "docx", "csv"}),
}


@dataclass(frozen=True, slots=True)
class Upload:
    """A file a page may attach to messages for seven days."""

    handle: str
    kind: UploadKind
    app_id: str
    name: str
    size: int
    md5: str
    extension: str
    media: str
    created_ms: int

    def expired(self, now_ms: int) -> bool:
        """Whether sending it now answers -100."""
        return now_ms - self.created_ms > LIFETIME_MS


# What a person can send from the phone: extension -> the kind of attachment it becomes.
PHONE_KINDS = {
    **dict.fromkeys(("jpg", "png", "webp"), "image"),
    "gif": "gif",
    "mp4": "video",
    "amr": "audio",
    **dict.fromkeys(("pdf", "doc", "docx", "csv"), "file"),
}


def sniff_extension(content: bytes) -> str:
    """The kind of file by its first bytes, empty when it is none that we know."""
    signatures = {
        b"\xff\xd8\xff": "jpg",
        b"\x89PNG\r\n\x1a\n": "png",
        b"GIF8": "gif",
        b"%PDF-": "pdf",
        b"\xd0\xcf\x11\xe0": "doc",
    }
    for start, extension in signatures.items():
        if content.startswith(start):
            return extension
    if content[:4] == b"RIFF" and content[8:12] == b"WEBP":
        return "webp"
    if content[4:8] == b"ftyp":
        return "mp4"
    if content.startswith(b"#!AMR"):
        return "amr"
    return ""


def phone_file(name: str, content: bytes) -> str:
    """The extension of a file that a person sends, empty when Zalo would not take it.

    Two kinds are told by their name: a docx begins as every zip file does, a csv is any text.
    """
    suffix = name.rpartition(".")[2].lower()
    if suffix == "docx" and content.startswith(b"PK\x03\x04"):
        return "docx"
    if suffix == "csv" and content and b"\0" not in content:
        return "csv"
    return sniff_extension(content)


def check_upload(kind: UploadKind, name: str, content: bytes) -> str:
    """Apply the limits of the upload API and return the file's extension.

    Raises:
        ZaloRefusal: -201 for a wrong type or an empty file, -210 for one that is too large.
    """
    extension = sniff_extension(content)
    if kind == "file":
        suffix = name.rpartition(".")[2].lower()
        extension = suffix if suffix in {"doc", "docx", "csv"} else extension
    if not content or extension not in _EXTENSIONS[kind]:
        raise ZaloRefusal(-201, field="file")
    if len(content) > _MAX_BYTES[kind]:
        raise ZaloRefusal(-210)
    return extension


class MediaStore:
    """Uploads and pictures of one simulator, remembered over restarts."""

    def __init__(self, directory: Path, index: Path) -> None:
        self._directory = directory
        self._index = index
        self.uploads: dict[str, Upload] = {
            handle: Upload(**fields) for handle, fields in read_document(index).get("uploads", {}).items()
        }

    def store_upload(self, kind: UploadKind, app_id: str, name: str, content: bytes, now_ms: int) -> Upload:
        """Keep a page's file.

        Raises:
            ZaloRefusal: the limits of the upload API.
        """
        extension = check_upload(kind, name, content)
        upload = Upload(
            handle=secrets.token_urlsafe(30),
            kind=kind,
            app_id=app_id,
            name=name,
            size=len(content),
            md5=hashlib.md5(content, usedforsecurity=False).hexdigest(),
            extension=extension,
            media=self.store_media(content, extension),
            created_ms=now_ms,
        )
        self.uploads[upload.handle] = upload
        self._save()
        return upload

    def store_media(self, content: bytes, extension: str) -> str:
        """Keep bytes under a fresh unguessable name and return it."""
        self._directory.mkdir(parents=True, exist_ok=True)
        name = f"{secrets.token_hex(12)}.{extension}"
        (self._directory / name).write_bytes(content)
        return name

    def path_of(self, name: str) -> Path | None:
        """Where a stored file lies; None for any name that we did not give."""
        stem, _, extension = name.partition(".")
        if extension not in CONTENT_TYPES or not stem.isascii() or not stem.isalnum():
            return None
        path = self._directory / name
        return path if path.is_file() else None

    def expire_all(self) -> None:
        """Let every upload be older than seven days."""
        self.uploads = {
            handle: Upload(**{**asdict(upload), "created_ms": 0}) for handle, upload in self.uploads.items()
        }
        self._save()

    def forget_all(self) -> None:
        """Drop the uploads; files already shown in conversations stay readable."""
        self.uploads.clear()
        self._save()

    def _save(self) -> None:
        uploads: dict[str, Any] = {handle: asdict(upload) for handle, upload in self.uploads.items()}
        write_atomically(self._index, {"uploads": uploads}, durable=False)
