"""What the pages show: order, escaping, pictures, the live stream; asked of the running console."""

import asyncio
import io
import re
from collections.abc import AsyncIterator, Mapping, Sequence
from datetime import timedelta
from typing import Any

import aiohttp
import pytest
from PIL import Image

from services.console.adapters.case_store import CaseRepository
from services.console.domain import Scope
from shared.case_codes import case_code
from shared.mongo import Document
from tests.unit.console.house import LEAD, House, open_house, scratch_name, settings_for, until
from tests.unit.console.visitor import Visitor, a_program, a_visitor
from tests.unit.console.world import (
    OTHER_UNIT,
    PAGE,
    a_busy_night,
    a_case,
    a_code,
    a_contact,
    a_message,
    a_photo,
    a_picture,
    minutes_ago,
    put,
)


@pytest.fixture
async def house(mongo_uri: str) -> AsyncIterator[House]:
    async with open_house(settings_for(mongo_uri, scratch_name())) as house:
        await a_busy_night(house.store)
        yield house


def codes(page: str) -> list[str]:
    return re.findall(r'href="/cases/(Q12-\d+-\d+)" id=', page)


async def test_the_queue_has_emergencies_on_top_then_what_is_due_first(house: House) -> None:
    async with a_visitor(house.url, PAGE) as officer:
        _, page = await officer.get("/queue")
        assert codes(page) == [a_code(number) for number in (42, 41, 33, 39, 40, 37, 35, 36, 38)]
        assert "<title>(2!)" in page
        assert codes((await officer.get("/queue?view=waiting"))[1]) == [a_code(34)]
        assert codes((await officer.get("/queue?view=closed"))[1]) == [a_code(32)]


async def test_an_answered_case_whose_time_is_up_is_shown_as_closed(house: House) -> None:
    await house.store["cases"].update_one({"code": a_code(34)}, [{"$set": {"closes_at": "$opened_at"}}])
    async with a_visitor(house.url, PAGE) as officer:
        assert codes((await officer.get("/queue?view=waiting"))[1]) == []
        assert a_code(34) in codes((await officer.get("/queue?view=closed"))[1])
        assert 'action="/cases/Q12-261124-0034/reopen"' in (await officer.get(f"/cases/{a_code(34)}"))[1]


async def test_many_answered_cases_cannot_push_waiting_ones_out_of_the_queue(house: House) -> None:
    answered = [
        a_case(1_000 + n, state="answered_automatically", due_at=None, priority=0, category="procedure")
        for n in range(210)
    ]
    await put(house.store, cases=answered)
    async with a_visitor(house.url, PAGE) as officer:
        assert len(codes((await officer.get("/queue"))[1])) == 9


async def test_a_whole_code_leads_straight_to_its_case_and_a_part_to_a_list(house: House) -> None:
    async with a_visitor(house.url, PAGE) as officer:
        async with officer.session.get(
            f"{house.url}/queue", params={"q": a_code(40).lower()}, allow_redirects=False
        ) as answer:
            assert answer.headers["location"] == f"/cases/{a_code(40)}"
        assert len(codes((await officer.get("/queue?q=Q12-2611"))[1])) == 11
        numbers = [case_code("Q12", house.deps.today() - timedelta(days=ago), 7) for ago in (0, 1)]
        for code in reversed(numbers):  # yesterday's is meant until there is one of today
            await put(house.store, cases=[a_case(int(code[4:10]), code=code)])
            async with officer.session.get(f"{house.url}/queue", params={"q": "7"}, allow_redirects=False) as answer:
                assert answer.headers["location"] == f"/cases/{code}"
        assert "Không tìm thấy" in (await officer.get("/queue?q=zzzz"))[1]


async def test_the_lead_sees_all_units_and_can_look_at_one(house: House) -> None:
    async with a_visitor(house.url, LEAD) as lead:
        assert a_code(31) in codes((await lead.get("/queue"))[1])
        assert codes((await lead.get(f"/queue?unit={OTHER_UNIT}"))[1]) == [a_code(31)]


async def test_what_a_citizen_writes_is_shown_and_never_run(house: House) -> None:
    hostile = """<script>alert(1)</script>"><img src=x onerror=alert(2)>{{ 7*7 }}'; drop"""
    case = a_case(500)
    await put(house.store, cases=[case], messages=[a_message(case, hostile)])
    async with a_visitor(house.url, PAGE) as officer:
        for path in ("/queue", f"/cases/{case['code']}", f"/cases/{case['code']}/live"):
            _, page = await officer.get(path)
            assert "&lt;script&gt;alert(1)" in page
            assert "<script>alert" not in page
            assert "<img src=x" not in page
            assert "{{ 7*7 }}" in page


async def test_a_picture_is_shown_and_any_other_file_is_only_a_download(house: House) -> None:
    case = a_case(501)
    message = a_message(case, "", kind="file", attachments=[{"index": 0}])
    await put(house.store, cases=[case], messages=[message])
    attachment = await a_picture(house.store, message)
    async with (
        a_visitor(house.url, PAGE) as officer,
        officer.session.get(f"{house.url}/attachments/{attachment}") as answer,
    ):
        assert answer.headers["content-type"] == "image/png"
        assert (await answer.read()).startswith(b"\x89PNG")
    await house.store["attachments"].update_one({"_id": attachment}, {"$set": {"content_type": "text/html"}})
    async with a_visitor(house.url, PAGE) as officer:
        async with officer.session.get(f"{house.url}/attachments/{attachment}") as answer:
            assert answer.headers["content-type"] == "application/octet-stream"
            assert answer.headers["content-disposition"].startswith("attachment")
            assert "sandbox" in answer.headers["content-security-policy"]
        await house.store["attachments"].update_one({"_id": attachment}, {"$set": {"state": "pending"}})
        assert (await officer.get(f"/attachments/{attachment}"))[0] == 404
        assert "Đang tải tệp về" in (await officer.get(f"/cases/{case['code']}"))[1]


async def test_a_conversation_shows_small_copies_and_what_is_no_picture_is_not_decoded(house: House) -> None:
    case = a_case(502)
    message = a_message(case, "", kind="image", attachments=[{"index": 0}])
    await put(house.store, cases=[case], messages=[message])
    attachment = await a_picture(house.store, message, content=a_photo(200, 100, orientation=6))
    async with a_visitor(house.url, PAGE) as officer:
        assert f'src="/attachments/{attachment}/small"' in (await officer.get(f"/cases/{case['code']}"))[1]
        async with officer.session.get(f"{house.url}/attachments/{attachment}/small") as answer:
            assert answer.headers["content-type"] == "image/jpeg"
            assert "sandbox" in answer.headers["content-security-policy"]
            small = Image.open(io.BytesIO(await answer.read()))
        assert small.size == (100, 200)
        assert dict(small.getexif()) == {}
        await house.store["attachments"].update_one({"_id": attachment}, {"$set": {"content_type": "text/html"}})
        assert (await officer.get(f"/attachments/{attachment}/small"))[0] == 404


async def test_the_queue_shows_the_report_of_an_emergency_and_not_what_came_after_it(house: House) -> None:
    urgent, plain = a_case(504, category="emergency", due_at=minutes_ago(1)), a_case(505)
    said = [
        (urgent, "cháy nhà số 8", "emergency"),
        (urgent, "cảm ơn", "normal"),
        (plain, "mất chó", "normal"),
        (plain, "🙏🙏", "normal"),
    ]
    messages = [
        a_message(case, text, urgency=urgency, sent_at=minutes_ago(9 - n))
        for n, (case, text, urgency) in enumerate(said)
    ]
    await put(house.store, cases=[urgent, plain], messages=messages)
    async with a_visitor(house.url, PAGE) as officer:
        _, page = await officer.get("/queue")
    excerpts = re.findall(r'<span class="excerpt">([^<]*)</span>', page)
    assert {"cháy nhà số 8", "mất chó"} <= set(excerpts)
    assert not {"cảm ơn", "🙏🙏"} & set(excerpts)


async def test_a_case_of_a_thousand_messages_takes_no_text_and_no_count_from_older_cases(house: House) -> None:
    talked, silent = a_case(507), a_case(508, opened_at=minutes_ago(3_000))
    many = [a_message(talked, f"tin {n}", number=n, sent_at=minutes_ago(30 - n / 50)) for n in range(1_001)]
    old = [
        a_message(silent, text, number=n, sent_at=minutes_ago(3_000 - n)) for n, text in enumerate(("mất chó", "??"))
    ]
    await put(house.store, cases=[talked, silent])
    await house.store["messages"].insert_many([*many, *old])
    async with a_visitor(house.url, PAGE) as officer:
        _, page = await officer.get("/queue")
    rows = {found[0]: row for row in page.split("<li ") if (found := codes(row))}
    assert "tin 1000<" in rows[talked["code"]]
    assert "1001 tin" in rows[talked["code"]]
    assert "mất chó" in rows[silent["code"]]
    assert "2 tin" in rows[silent["code"]]


async def test_the_texts_of_the_queue_are_found_by_an_index(house: House, monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[Document] = []
    aggregate = house.store.aggregate

    async def noted(collection: str, pipeline: Sequence[Mapping[str, Any]]) -> list[Document]:
        asked.append({"aggregate": collection, "pipeline": list(pipeline), "cursor": {}})
        return await aggregate(collection, pipeline)

    monkeypatch.setattr(house.store, "aggregate", noted)
    cases = await CaseRepository(house.store, Scope(units=None)).queue("open")
    plans = [str(await house.store._database.command("explain", command)) for command in asked]

    assert all(case.message_count for case in cases)
    assert len(plans) == 1, "one query for all cases"
    assert "case_code_1_sent_at_1" in plans[0]
    assert "COLLSCAN" not in plans[0]


async def test_what_was_found_is_shown_once_and_without_the_signs_of_the_rules(house: House) -> None:
    case = a_case(
        506,
        reasons=["unit.page"],
        evidence=["xe", "mất xe", "mat xe", "=cháy", "đám", "dam", "place:tan-chanh-hiep-21"],
    )
    await put(house.store, cases=[case])
    async with a_visitor(house.url, PAGE) as officer:
        _, page = await officer.get(f"/cases/{case['code']}")
    found = re.findall(r'<span class="tag">([^<]*)</span>', page)
    assert found[1:] == ["mất xe", "cháy", "đám", "Công an phường Tân Chánh Hiệp 21"]


async def test_a_case_says_which_language_its_citizen_chose_last(house: House) -> None:
    case, early, late = a_case(503), minutes_ago(9), minutes_ago(2)
    chosen = {"en": {"is_on": True, "at": late, "by": "b"}, "vi": {"is_on": True, "at": early, "by": "a"}}
    contact = {**a_contact(case, late), "choices": {"language": chosen}}
    await put(house.store, cases=[case], contacts=[contact])
    async with a_visitor(house.url, PAGE) as officer:
        _, page = await officer.get(f"/cases/{case['code']}")
        assert "Ngôn ngữ đã chọn</dt><dd>Tiếng Anh" in page
        assert 'data-insert="Please tell us the exact place' in page
        assert ">Hỏi địa điểm</button>" in page, "the officer's own language names it"
        assert "Ngôn ngữ đã chọn" not in (await officer.get(f"/cases/{a_code(42)}"))[1]


async def test_the_language_is_switched_and_remembered_in_this_browser(house: House) -> None:
    async with a_visitor(house.url, PAGE) as officer:
        assert '<html lang="vi"' in (await officer.get("/queue"))[1]
        assert (await officer.post("/preferences", {"language": "en", "back": "/queue"})) == (303, "/queue")
        _, page = await officer.get("/queue")
        assert '<html lang="en"' in page
        assert "Tan Chanh Hiep Ward Police" in page


async def test_every_page_with_everything_it_loads_is_under_150_kilobytes(house: House) -> None:
    async with a_visitor(house.url, PAGE) as officer:
        for path in ("/sign-in", "/queue", f"/cases/{a_code(42)}", "/account", "/help"):
            _, page = await officer.get(path)
            loads = set(re.findall(r'(?:src|href)="(/static/[^"]+)"', page))
            weight = len(page.encode()) + sum([len((await officer.get(load))[1].encode()) for load in loads])
            assert weight < 150_000, f"{path}: {weight} bytes uncompressed"


async def test_unknown_pages_and_bad_requests_are_answered_in_words(house: House) -> None:
    async with a_visitor(house.url, PAGE) as officer:
        assert "Không có trang này" in (await officer.get("/nowhere"))[1]
        assert (await officer.get("/queue?view=all"))[0] == 422
    async with a_program(house.url, PAGE) as program:
        assert (await program.call("GET", "/api/nowhere"))[1]["code"] == "page.not_found"


async def test_the_api_is_described(house: House) -> None:
    async with a_program(house.url, PAGE) as program:
        _, document = await program.call("GET", "/api/openapi.json")
        assert set(document["paths"]) == {
            "/api/sessions", "/api/sessions/current", "/api/me", "/api/units", "/api/cases", "/api/cases/{code}",
            "/api/cases/{code}/conversation", "/api/cases/{code}/actions", "/api/actions/{action_id}",
            "/api/attachments/{attachment_id}",
        }  # fmt: skip
        _, queue = await program.call("GET", "/api/cases?limit=2")
        assert [case["code"] for case in queue["cases"]] == [a_code(42), a_code(41)]
        _, case = await program.call("GET", f"/api/cases/{a_code(42)}")
        assert case["window"]["kind"] == "free"
        assert case["reasons"][0]["words"] == "Đang trộm, đang phá khóa"


# -- the live stream --------------------------------------------------------------------------------------------------


async def events_of(visitor: Visitor, path: str, heard: list[str], opened: asyncio.Event) -> None:
    async with visitor.session.get(
        visitor.url + path, headers={"accept": "text/event-stream"}, timeout=aiohttp.ClientTimeout(total=None)
    ) as stream:
        async for line in stream.content:
            if line.startswith(b"event: "):
                heard.append(line.decode().strip().removeprefix("event: "))
                opened.set()


async def listen(visitor: Visitor, page: str) -> tuple[list[str], asyncio.Task[None]]:
    """Open the stream that a page names, as the browser does."""
    _, text = await visitor.get(page)
    found = re.search(r'data-live="([^"]+)"', text)
    assert found is not None
    heard: list[str] = []
    opened = asyncio.Event()
    task = asyncio.create_task(events_of(visitor, found[1].replace("&amp;", "&"), heard, opened))
    await opened.wait()
    return heard, task


async def test_a_page_that_is_up_to_date_hears_nothing_until_something_changes(house: House) -> None:
    async with a_visitor(house.url, PAGE) as officer, a_visitor(house.url, OTHER_UNIT) as other:
        heard, listening = await listen(officer, f"/cases/{a_code(40)}")
        heard_elsewhere, listening_elsewhere = await listen(other, "/queue")
        polls = house.deps.live.polls
        await until(lambda: house.deps.live.polls > polls + 3)
        assert heard == heard_elsewhere == ["hello"]
        fire = a_case(600, category="emergency")
        await put(house.store, cases=[fire], messages=[a_message(fire, "cháy")])
        await until(lambda: "queue" in heard)
        theft = await house.store["cases"].find_one({"code": a_code(40)})
        assert theft is not None
        await put(house.store, messages=[a_message(theft, "nó quay lại", number=9)])
        await until(lambda: "case" in heard)
        await officer.post(f"/cases/{a_code(40)}/reply", {"text": "đang đến", "key": "form"})
        await until(lambda: "pending" in heard)
        assert heard_elsewhere == ["hello"]  # another unit's page hears nothing of it
        listening.cancel()
        listening_elsewhere.cancel()
        await asyncio.gather(listening, listening_elsewhere, return_exceptions=True)


async def test_a_reply_that_was_seen_changes_its_mark_on_the_open_page(house: House) -> None:
    async with a_visitor(house.url, PAGE) as officer:
        heard, listening = await listen(officer, f"/cases/{a_code(40)}")
        await house.store["reply_ledger"].update_one(
            {"case_code": a_code(40)}, [{"$set": {"seen_at": "$requested_at"}}]
        )
        await until(lambda: "case" in heard)
        assert "Đã xem" in (await officer.get(f"/cases/{a_code(40)}/live", **{"HX-Request": "true"}))[1]
        listening.cancel()
        await asyncio.gather(listening, return_exceptions=True)


@pytest.mark.parametrize("page", [PAGE, OTHER_UNIT])
async def test_a_language_that_the_citizen_chooses_on_any_page_reaches_the_open_case_page(
    house: House, page: str
) -> None:
    case = a_case(509)
    here = a_contact(case, minutes_ago(30)) | {"person": "p-509"}
    there = here | {"_id": "another-page:900", "oa_id": "another-page"}
    await put(house.store, cases=[case], messages=[a_message(case, "mất xe")], contacts=[here, there])
    chosen = {"en": {"is_on": True, "at": minutes_ago(1), "by": "a"}}
    async with a_visitor(house.url, PAGE) as officer:
        heard, listening = await listen(officer, f"/cases/{case['code']}")
        polls = house.deps.live.polls
        await until(lambda: house.deps.live.polls > polls + 1)
        assert heard == ["hello"]
        contact = here if page == PAGE else there
        await house.store["contacts"].update_one({"_id": contact["_id"]}, {"$set": {"choices.language": chosen}})
        await until(lambda: "case" in heard)
        _, part = await officer.get(f"/cases/{case['code']}/live", **{"HX-Request": "true"})
        assert 'data-language="en"' in part
        assert 'data-insert="Please tell us the exact place' in part
        listening.cancel()
        await asyncio.gather(listening, return_exceptions=True)


async def test_a_withdrawal_reaches_the_open_case_page(house: House) -> None:
    async with a_visitor(house.url, PAGE) as officer:
        heard, listening = await listen(officer, f"/cases/{a_code(40)}")
        await house.store["contacts"].update_one(
            {"_id": a_case(40)["citizen_key"]}, {"$set": {"withdrawn_at": minutes_ago(0)}}
        )
        await until(lambda: "case" in heard)
        _, part = await officer.get(f"/cases/{a_code(40)}/live", **{"HX-Request": "true"})
        assert "yêu cầu xóa dữ liệu" in part
        listening.cancel()
        await asyncio.gather(listening, return_exceptions=True)


async def test_a_picture_that_is_fetched_while_its_page_is_open_appears(house: House) -> None:
    case = a_case(503)
    message = a_message(case, "", kind="image", attachments=[{"index": 0}])
    await put(house.store, cases=[case], messages=[message])
    attachment = await a_picture(house.store, message, state="pending")
    async with a_visitor(house.url, PAGE) as officer:
        heard, listening = await listen(officer, f"/cases/{case['code']}")
        await house.store["attachments"].update_one({"_id": attachment}, {"$set": {"state": "stored"}})
        await until(lambda: "case" in heard)
        _, part = await officer.get(f"/cases/{case['code']}/live", **{"HX-Request": "true"})
        assert f'src="/attachments/{attachment}/small"' in part
        listening.cancel()
        await asyncio.gather(listening, return_exceptions=True)


async def test_a_case_handed_over_while_its_page_is_open_leads_back_to_the_queue(house: House) -> None:
    async with a_visitor(house.url, PAGE) as officer:
        heard, listening = await listen(officer, f"/cases/{a_code(40)}")
        await house.store["cases"].update_one({"code": a_code(40)}, {"$set": {"unit": OTHER_UNIT}})
        await until(lambda: "case" in heard)
        async with officer.session.get(
            f"{house.url}/cases/{a_code(40)}/live", headers={"HX-Request": "true"}
        ) as answer:
            assert (answer.status, answer.headers["hx-redirect"]) == (404, "/queue")
        listening.cancel()
        await asyncio.gather(listening, return_exceptions=True)


async def test_many_open_pages_cost_one_look_each_time(house: House) -> None:
    async with a_visitor(house.url, PAGE) as officer:
        opened = [await listen(officer, "/queue") for _ in range(5)]
        assert house.deps.live.watchers == 5
        polls = house.deps.live.polls
        await until(lambda: house.deps.live.polls >= polls + 2)
        for _, listening in opened:
            listening.cancel()
        await asyncio.gather(*(listening for _, listening in opened), return_exceptions=True)
        await until(lambda: house.deps.live.watchers == 0)
