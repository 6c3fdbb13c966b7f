"""What citizens choose about broadcasts: which words count, which do not, and what follows."""

import unicodedata

import pytest

from services.router.domain.answers import MAX_ANSWER_CHARACTERS
from services.router.domain.choices import Choice, MenuAsked, Wish
from shared.events import LANGUAGES, Language, ReplyButton
from shared.ids import deterministic_id
from tests.factories import PAGE, a_message
from tests.unit.router.fakes import CHOICES, VIEW, Office, as_received

STOP, RESUME = Choice("broadcasts", is_on=False), Choice("broadcasts", is_on=True)
ENGLISH = Choice("language", is_on=True, value="en")
TRAFFIC = Choice("topic", is_on=True, value="giao-thong")
WARD = Choice("ward", is_on=True, value="thoi-an")


@pytest.mark.parametrize(
    ("text", "wish"),
    [
        ("ngừng", STOP),
        ("Ngừng!", STOP),
        ("NGỪNG", STOP),
        ("ngung", STOP),
        ("ngưng nha", STOP),
        ("nguwngf", STOP),  # Telex that was never turned into marks
        ("stop", STOP),
        ("STOP.", STOP),
        ("dừng nhận tin", STOP),
        ("dung nhan tin", STOP),
        ("hủy nhận tin", STOP),
        ("huỷ nhận tin ạ", STOP),
        ("Huy nhan tin giùm", STOP),
        (unicodedata.normalize("NFD", "ngừng nhận tin"), STOP),
        ("ko nhận tin nữa", STOP),
        ("k nhan tin nua nhé", STOP),
        ("cho tôi ngừng nhận tin, cảm ơn", STOP),
        ("hủy đk nhận tin", STOP),
        ("nhận tin lại", RESUME),
        ("Nhan tin lai di", None),  # "đi" is no courtesy: "ngừng đi" is said to others
        ("nhận lại tin", RESUME),
        ("Start", RESUME),
        ("chọn loại tin", MenuAsked("topics")),
        ("chon khu vuc", MenuAsked("wards")),
        ("chọn khu vực 3", MenuAsked("wards", 3)),
        ("nhận tin giao thông", TRAFFIC),
        ("nhan tin giao thong", TRAFFIC),
        ("bỏ tin giao thông", Choice("topic", is_on=False, value="giao-thong")),
        ("nhận tin phường Thới An", WARD),
        ("nhan tin phuong thoi an", WARD),
        ("English", ENGLISH),
        ("english please!", ENGLISH),
        ("Do you speak English?", ENGLISH),
        ("tiếng anh nhé", ENGLISH),
        ("Tiếng Việt", Choice("language", is_on=True, value="vi")),
        ("tieng viet", Choice("language", is_on=True, value="vi")),
        ("stop news", STOP),
        ("get news on traffic", TRAFFIC),
        ("Get news on Thoi An Ward", WARD),
        ("choose areas 3", MenuAsked("wards", 3)),
        ("tôi muốn học tiếng Anh ở phường mình", None),
        ("English teacher stole my phone", None),
        ("no news on my stolen motorbike", None),
        ("remember me", None),
        ("ngừng đi", None),
        ("dừng", None),
        ("dừng lại", None),
        ("hủy", None),
        ("dùng nhận tin", None),  # another word, written with its marks
        ("dừng nhắn tin", None),
        ("bảo nó ngừng giùm", None),
        ("tôi muốn ngừng tạm trú", None),
        ("hàng xóm hát karaoke không ngừng", None),
        ("nó không chịu stop", None),
        ("ngừng xe bắt cướp", None),
        ("làm sao để dừng nhận tin rác từ số lạ", None),
        ("tôi không nhận tin nữa vì bị lừa đảo", None),
        ("start up là gì", None),
        ("nhận tin giao thông bằng cách nào", None),
        ("nhận tin phường Bến Nghé", None),
        ("", None),
        ("ạ", None),
        ("cảm ơn", None),
        ("ngừng " * 40, None),
    ],
)
def test_only_a_whole_message_is_a_choice(text: str, wish: Wish | None) -> None:
    assert CHOICES.of(text, VIEW) == wish


def all_buttons(language: Language = "vi") -> dict[str, ReplyButton]:
    """Every button that can be reached from a confirmation, for a citizen who chose this language."""
    found: dict[str, ReplyButton] = {}
    wishes: list[Wish] = [STOP, RESUME]
    while wishes:
        for button in CHOICES.buttons(wishes.pop(), VIEW, "thoi-an", language):
            if button.payload not in found:
                found[button.payload] = button
                wish = CHOICES.of(button.payload, VIEW)
                assert wish is not None, f"the button {button.payload!r} means nothing"
                wishes.append(wish)
    return found


@pytest.mark.parametrize("language", LANGUAGES)
def test_every_button_means_something_and_every_topic_and_ward_can_be_reached(language: Language) -> None:
    reached = {CHOICES.of(payload, VIEW) for payload in all_buttons(language)}

    chosen = {wish.value for wish in reached if isinstance(wish, Choice) and wish.is_on}
    assert chosen >= {unit.slug for unit in VIEW.wards()} | {"an-ninh", "thu-tuc", "pccc", "giao-thong", "tin-khan"}
    assert {STOP, RESUME} < reached
    others = {one for one in LANGUAGES if one != language}
    assert {wish.value for wish in reached if isinstance(wish, Choice) and wish.subject == "language"} == others


@pytest.mark.parametrize("language", LANGUAGES)
def test_answers_and_buttons_fit_on_a_phone(language: Language) -> None:
    for payload in all_buttons(language):
        wish = CHOICES.of(payload, VIEW)
        assert wish is not None
        assert len(CHOICES.buttons(wish, VIEW, "thoi-an", language)) <= 5
        text = Office().desk.answers.text(
            CHOICES.template(wish), language=language, case_code="", unit="", choice="Phường Tân Thới Hiệp"
        )
        assert 0 < len(text) <= MAX_ANSWER_CHARACTERS


def test_the_ward_of_the_page_stands_first() -> None:
    first = CHOICES.buttons(MenuAsked("wards"), VIEW, "trung-my-tay", "vi")[0]

    assert first.title == "Nhận tin Phường Trung Mỹ Tây"


def test_the_other_wards_are_behind_the_last_button() -> None:
    *_, last = CHOICES.buttons(MenuAsked("wards"), VIEW, None, "vi")

    assert (last.title, CHOICES.of(last.payload, VIEW)) == ("Phường khác", MenuAsked("wards", 2))


async def test_a_stop_is_confirmed_told_to_the_others_and_opens_no_case() -> None:
    office = Office()

    message = await office.write("ngừng", page=PAGE)

    assert office.store.cases == {}
    assert office.templates == ["choice.broadcasts_off"]
    (choice,) = office.choices
    assert (choice.subject, choice.value, choice.is_on) == ("broadcasts", None, False)
    assert (choice.chosen_at, choice.citizen_key) == (message.sent_at, message.citizen_key)
    assert choice.event_id == deterministic_id("choice", message.event_id)
    assert "reading.is_choice" in office.reasons_of(message)


async def test_a_redelivered_choice_is_told_again_under_the_same_id_and_never_decided_again() -> None:
    office = Office()
    message = a_message(text="nhận tin giao thông")

    await office.receive(message)
    await office.receive(message)

    assert len({choice.event_id for choice in office.choices}) == 1
    assert len({reply.event_id for reply in office.replies}) == 1
    assert len(office.store.messages) == 1


async def test_a_choice_leaves_an_open_case_as_it_is_and_is_confirmed_each_time() -> None:
    office = Office()
    await office.write("mất xe máy ở Lê Văn Khương", event_id="1" * 32)
    before = office.only_case

    await office.write("stop", event_id="2" * 32)
    await office.write("stop", event_id="3" * 32)

    assert office.only_case == before
    assert office.templates[1:] == ["choice.broadcasts_off", "choice.broadcasts_off"]
    assert [choice.is_on for choice in office.choices] == [False, False]


async def test_a_menu_chooses_nothing() -> None:
    office = Office()

    await office.write("chọn loại tin")

    assert office.choices == []
    (reply,) = office.replies
    assert [button.type for button in reply.content.buttons] == ["oa.query.show"] * 5


@pytest.mark.parametrize("fails_after", range(4))
async def test_wherever_it_fails_the_choice_is_told_after_the_next_delivery(fails_after: int) -> None:
    office = Office()
    message = a_message(text="ngừng")
    office.store.fails_after = fails_after
    try:
        await office.receive(message)
    except Exception:  # noqa: BLE001 - Kafka redelivers, whatever it was
        office.store.fails_after = None
        await office.receive(message)

    assert {choice.is_on for choice in office.choices} == {False}
    assert {reply.template for reply in office.replies} == {"choice.broadcasts_off"}
    assert len(as_received([message])) == 1
