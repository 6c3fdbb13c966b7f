"""A small district for the console's tests: what the other services write, exactly as they write it."""

import io
import struct
import zlib
from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from typing import Any

from PIL import ExifTags, Image

from shared.ids import citizen_key, deterministic_id
from shared.mongo import Document, Store

OA_ID = "4000000000000000008"
PAGE = "tan-chanh-hiep"
OTHER_UNIT = "thoi-an"


def minutes_ago(minutes: float) -> datetime:
    """A moment that long ago."""
    return datetime.now(UTC) - timedelta(minutes=minutes)


def a_code(number: int) -> str:
    """A case code of a fixed day."""
    return f"Q12-261124-{number:04d}"


def a_case(number: int, **values: Any) -> Document:
    """A case as the router writes it."""
    category = values.get("category", "security_tip")
    urgency = values.get("urgency", {"emergency": "emergency", "crime_report": "high"}.get(category, "normal"))
    opened_at = values.pop("opened_at", minutes_ago(30))
    user_id = values.get("user_id", f"90000{number:04d}")
    document: Document = {
        "_id": deterministic_id("case", str(number)),
        "code": a_code(number),
        "citizen_key": citizen_key(OA_ID, user_id),
        "page": PAGE,
        "oa_id": OA_ID,
        "user_id": user_id,
        "user_id_by_app": None,
        "channel": "zalo",
        "correlation_id": deterministic_id("correlation", str(number)),
        "confidence": 0.85,
        "conversation_id": None,
        "matter": f"{category}-{number}",
        "open_key": citizen_key(OA_ID, user_id),
        "unit": PAGE,
        "unit_basis": "page",
        "asked": [],
        "category": category,
        "subtopic": None,
        "urgency": urgency,
        "priority": {"emergency": 0, "high": 1, "normal": 2}[urgency],
        "is_open": True,
        "state": "waiting_officer",
        "needs_person": True,
        "opened_at": opened_at,
        "last_message_at": opened_at,
        "due_at": opened_at + timedelta(hours=8),
        "closes_at": None,
        "closed_at": None,
        "first_response_at": None,
        "reasons": [],
        "doubts": [],
        "evidence": [],
        "given": [],
        "citizen_version": 1,
        "officer_event_ids": [],
    }
    return document | values


def a_message(case: Document, text: str, *, at: datetime | None = None, number: int = 0, **values: Any) -> Document:
    """A citizen's message in a case."""
    sent_at = at or case["opened_at"]
    return {
        "_id": deterministic_id("message", case["code"], str(number), text),
        "case_code": case["code"],
        "citizen_key": case["citizen_key"],
        "correlation_id": deterministic_id("correlation", case["code"]),
        "confidence": 0.85,
        "message_id": f"m-{case['code']}-{number}",
        "kind": "text",
        "text": text,
        "location": None,
        "attachments": [],
        "sent_at": sent_at,
        "received_at": sent_at,
    } | values


def a_reply(
    case: Document, text: str, *, at: datetime | None = None, origin: str = "automatic", **values: Any
) -> Document:
    """A reply in the send ledger."""
    return {
        "_id": deterministic_id("reply", case["code"], text),
        "case_code": case["code"],
        "citizen_key": case["citizen_key"],
        "origin": origin,
        "template": "officer" if origin == "officer" else "received",
        "state": "sent",
        "content": {"text": text},
        "requested_at": at or case["opened_at"] + timedelta(seconds=2),
        "message_key": f"{case['oa_id']}:r-{deterministic_id(case['code'], text)[:12]}",
        "message_id": f"r-{deterministic_id(case['code'], text)[:12]}",
    } | values


def an_entry(
    case: Document,
    kind: str,
    *,
    at: datetime | None = None,
    by: str = "router",
    reply_id: str | None = None,
    **values: Any,
) -> Document:
    """A line of a case's history."""
    moment = at or case["opened_at"]
    return {
        "_id": deterministic_id("entry", case["code"], kind, moment.isoformat()),
        "case_id": case["_id"],
        "case_code": case["code"],
        "at": moment,
        "kind": kind,
        "by": by,
        "event_id": deterministic_id("event", case["code"], kind, moment.isoformat()),
        "reasons": [],
        "changes": [],
        "details": {} if reply_id is None else {"reply_id": reply_id, "template": "officer"},
        "text": None,
    } | values


def a_contact(case: Document, last_interaction_at: datetime) -> Document:
    """What the notifier knows of a citizen."""
    return {
        "_id": case["citizen_key"],
        "oa_id": case["oa_id"],
        "user_id": case["user_id"],
        "last_interaction_at": last_interaction_at,
    }


def a_png(width: int = 320, height: int = 200, colour: tuple[int, int, int] = (196, 92, 40)) -> bytes:
    """A real PNG with a gradient, so that a screenshot shows something."""
    rows = b"".join(
        b"\x00" + bytes(min(255, c * (x + y) // (width + height) + 40) for x in range(width) for c in colour)
        for y in range(height)
    )

    def chunk(name: bytes, content: bytes) -> bytes:
        return struct.pack(">I", len(content)) + name + content + struct.pack(">I", zlib.crc32(name + content))

    header = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", zlib.compress(rows)) + chunk(b"IEND", b"")


def a_photo(width: int, height: int, *, orientation: int = 1) -> bytes:
    """What a phone's camera makes: hard to compress, with notes of the camera's."""
    notes = Image.Exif()
    notes[ExifTags.Base.Orientation], notes[ExifTags.Base.Make] = orientation, "a camera"
    out = io.BytesIO()
    Image.effect_noise((width, height), 60).convert("RGB").save(out, "JPEG", exif=notes)
    return out.getvalue()


async def a_picture(
    store: Store, message: Document, *, state: str = "stored", index: int = 0, content: bytes | None = None
) -> str:
    """An attachment of a message, with its bytes where it is stored."""
    attachment_id = deterministic_id("attachment", message["_id"], str(index))
    file_id = f"{attachment_id}-1"
    await store["attachments"].insert_one(
        {
            "_id": attachment_id,
            "message_event_id": message["_id"],
            "citizen_key": message["citizen_key"],
            "index": index,
            "kind": "image",
            "name": None,
            "state": state,
            "file_id": file_id if state == "stored" else None,
            "content_type": "image/png",
            "size_bytes": 1_000,
            "due_at": message["sent_at"],
        }
    )
    if state == "stored":
        await store.files("attachments").upload_from_stream_with_id(file_id, "picture", content or a_png())
    return attachment_id


async def put(store: Store, **documents: Sequence[Document]) -> None:
    """Insert documents by collection name."""
    for collection, rows in documents.items():
        for row in rows:
            await store[collection].insert_one(row)


async def a_busy_night(store: Store) -> dict[str, Document]:
    """A duty officer's queue at 3 a.m.: one emergency, things overdue, things answered, things closed."""
    break_in = a_case(
        42,
        category="emergency",
        opened_at=minutes_ago(3),
        due_at=minutes_ago(2),
        reasons=["rule.emergency.theft_now", "unit.place_in_text"],
        evidence=["bẻ khóa", "còn ở đó", "place:tan-chanh-hiep-21"],
        doubts=["unit.gazetteer_unverified"],
    )
    fire = a_case(41, category="emergency", opened_at=minutes_ago(1), due_at=minutes_ago(-0.5))
    theft = a_case(40, category="crime_report", opened_at=minutes_ago(9), due_at=minutes_ago(-6))
    noise = a_case(39, opened_at=minutes_ago(160), due_at=minutes_ago(130))
    lodgers = a_case(38, opened_at=minutes_ago(300), due_at=minutes_ago(-1_100))
    card = a_case(
        37, category="procedure", subtopic="citizen_id_issue", opened_at=minutes_ago(200), due_at=minutes_ago(-260)
    )
    lamp = a_case(36, category="complaint", opened_at=minutes_ago(900), due_at=minutes_ago(-540))
    empty = a_case(35, category="other", opened_at=minutes_ago(60), due_at=minutes_ago(-420))
    waiting = a_case(34, opened_at=minutes_ago(500), state="answered_by_officer", due_at=None)
    stale = a_case(33, category="procedure", opened_at=minutes_ago(9 * 24 * 60), due_at=minutes_ago(8 * 24 * 60))
    closed = a_case(
        32, is_open=False, state="closed", opened_at=minutes_ago(2_000), closed_at=minutes_ago(1_500), due_at=None
    )
    elsewhere = a_case(31, unit=OTHER_UNIT, page=OTHER_UNIT, opened_at=minutes_ago(20))
    cases = [break_in, fire, theft, noise, lodgers, card, lamp, empty, waiting, stale, closed, elsewhere]
    place = {"latitude": 10.86712, "longitude": 106.62655}
    photo = a_message(
        break_in, "", at=minutes_ago(2), number=3, kind="image", attachments=[{"index": 0, "kind": "image"}]
    )
    messages = [
        a_message(break_in, "hai người đang bẻ khóa xe nhà bên cạnh ở TCH 21, tụi nó còn ở đó", number=1),
        a_message(break_in, "", at=minutes_ago(2.5), number=2, kind="location", location=place),
        photo,
        a_message(fire, "cháy nhà số 12 đường TCH 08, khói nhiều lắm, có người trong nhà"),
        a_message(theft, "sáng dậy mất xe máy Wave 59X2-123.45 trước cửa, camera có quay được 2 thanh niên"),
        a_message(noise, "quán nhậu đầu hẻm hát karaoke loa kẹo kéo tới giờ này chưa nghỉ, cả xóm không ngủ được"),
        a_message(lodgers, "phòng trọ số 7 có mấy người lạ mới dọn vô, không thấy khai tạm trú, đi về ban đêm"),
        a_message(card, "làm căn cước cho con 14 tuổi cần giấy tờ gì vậy ạ, có phải về quê không"),
        a_message(lamp, "đèn đường hẻm 45 hư cả tháng nay tối thui, đề nghị gắn camera"),
        a_message(empty, "", kind="sticker"),
        a_message(waiting, "con chó nhà bên thả rông cắn trẻ em"),
        a_message(stale, "cho hỏi thủ tục tách hộ khẩu"),
        a_message(closed, "có nhóm đua xe trên Tô Ký lúc 11 giờ đêm"),
        a_message(elsewhere, "cướp giật ở Lê Thị Riêng, Thới An"),
    ]
    for message in messages:
        case = next(case for case in cases if case["code"] == message["case_code"])
        case["last_message_at"] = max(case["last_message_at"], message["sent_at"])
    numbers = "Anh/chị GỌI NGAY 113 (công an), 114 (cứu hỏa), 115 (cấp cứu). Công an phường đã được báo."
    replies = [
        a_reply(break_in, numbers, received_at=minutes_ago(2.9), seen_at=minutes_ago(2.8)),
        a_reply(fire, numbers, received_at=minutes_ago(0.9)),
        a_reply(theft, f"Đã tiếp nhận tin của anh/chị, mã {theft['code']}. Cán bộ sẽ liên hệ sớm."),
        a_reply(
            waiting,
            "Anh/chị cho biết số nhà cụ thể ạ?",
            origin="officer",
            at=minutes_ago(480),
            seen_at=minutes_ago(470),
        ),
        a_reply(
            stale,
            "Mời anh/chị đến trụ sở.",
            origin="officer",
            at=minutes_ago(8 * 24 * 60),
            state="failed",
            reason="zalo.user_blocked_or_idle",
        ),
        a_reply(noise, "Đã tiếp nhận tin của anh/chị.", state="uncertain"),
    ]
    entries = [an_entry(case, "opened") for case in cases]
    entries += [an_entry(break_in, "joined", at=minutes_ago(2.5)), an_entry(break_in, "joined", at=minutes_ago(2))]
    entries.append(
        an_entry(waiting, "officer_reply", at=minutes_ago(480), by=PAGE, reply_id=replies[3]["_id"], text="…")
    )
    contacts = [a_contact(case, case["last_message_at"]) for case in cases]
    await put(store, cases=cases, messages=messages, reply_ledger=replies, case_entries=entries, contacts=contacts)
    await a_picture(store, photo)
    return {
        "break_in": break_in, "fire": fire, "theft": theft, "noise": noise, "lodgers": lodgers, "card": card,
        "waiting": waiting, "stale": stale, "closed": closed, "elsewhere": elsewhere, "photo": photo,
    }  # fmt: skip
