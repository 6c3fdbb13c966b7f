"""Message contracts: every fact that travels between services.

Events are frozen. A new optional field is a compatible change; any other change is a new topic version
(`tests/unit/shared/test_contracts.py` compares the generated AsyncAPI documents with the committed ones).
"""

from typing import Annotated, ClassVar, Literal, get_args

from pydantic import AwareDatetime, BaseModel, ConfigDict, Field, StringConstraints

from shared.ids import citizen_key

ProviderId = Annotated[str, StringConstraints(pattern=r"^[A-Za-z0-9_.\-]{1,128}$")]
"""An id given by Zalo: a short plain token. Anything else is refused at the edge, so that no id can act as a query."""

UserId = Annotated[str, StringConstraints(pattern=r"^[A-Za-z0-9_.\-]{1,64}$")]
Slug = Annotated[str, StringConstraints(pattern=r"^[a-z0-9]+(-[a-z0-9]+)*$", max_length=64)]
ReasonCode = Annotated[str, StringConstraints(pattern=r"^[a-z0-9_]+(\.[a-z0-9_]+)+$", max_length=96)]
"""A stable key of why something was decided, skipped or failed: `<area>.<reason>`."""

MAX_TEXT_CHARACTERS = 8_000
"""Far above the 2,000 characters that Zalo allows a citizen; longer texts are cut at the edge and marked."""


class Event(BaseModel):
    """What every event carries.

    Attributes:
        event_id: the idempotency key, also the CloudEvents `id`.
        occurred_at: when the fact happened, by its source's clock, UTC.
        correlation_id: the event_id of the webhook at the start of the story.
        schema_version: of this class; grows with compatible changes only.
    """

    model_config = ConfigDict(frozen=True, extra="ignore", ser_json_inf_nan="null", allow_inf_nan=False)

    ce_type: ClassVar[str]

    event_id: str = Field(pattern=r"^[0-9a-f]{32}$")
    occurred_at: AwareDatetime
    correlation_id: str = Field(min_length=1, max_length=64)
    schema_version: int = 1

    @property
    def partition_key(self) -> str:
        """Events of one key are handled in order."""
        return self.event_id


class Coordinates(BaseModel):
    """A point in degrees, WGS 84."""

    model_config = ConfigDict(frozen=True, allow_inf_nan=False)

    latitude: float = Field(ge=-90, le=90)
    longitude: float = Field(ge=-180, le=180)


AttachmentKind = Literal["image", "gif", "link", "audio", "video", "sticker", "file", "business_card", "other"]


class Attachment(BaseModel):
    """One attachment as the webhook names it; the bytes are fetched later, since Zalo's links expire."""

    model_config = ConfigDict(frozen=True)

    index: int = Field(ge=0)
    kind: AttachmentKind
    url: str | None = Field(default=None, max_length=4_096)
    thumbnail_url: str | None = Field(default=None, max_length=4_096)
    name: str | None = Field(default=None, max_length=512)
    size_bytes: int | None = Field(default=None, ge=0)
    description: str | None = Field(default=None, max_length=MAX_TEXT_CHARACTERS)


MessageKind = Literal[
    "text", "image", "gif", "link", "audio", "video", "sticker", "location", "business_card", "file", "unsupported"
]


class CitizenEvent(Event):
    """A fact about one citizen on one page.

    Attributes:
        channel: where the citizen is; a second channel is a second value.
        page: slug of the page in our configuration.
        oa_id: Zalo's id of the page.
        user_id: the citizen as this page sees them.
        user_id_by_app: the same person as the app sees them; joins the pages.
    """

    channel: Literal["zalo"] = "zalo"
    page: Slug
    oa_id: ProviderId
    user_id: UserId
    user_id_by_app: UserId | None = None

    @property
    def citizen_key(self) -> str:
        """Key of the citizen on this page."""
        return citizen_key(self.oa_id, self.user_id)

    @property
    def partition_key(self) -> str:
        """One citizen's events are handled in order."""
        return self.citizen_key


class CitizenMessageReceived(CitizenEvent):
    """A citizen wrote to a page.

    Attributes:
        message_id: Zalo's `msg_id`.
        text: NFC, without control and zero-width characters, cut to MAX_TEXT_CHARACTERS; "" where there is none.
        original_text: as the webhook had it, when it differs from `text`.
        conversation_id: set for an anonymous visitor, who can only be answered with it.
        sent_at: when the citizen sent it, by Zalo's clock.
        received_at: when the webhook arrived here.
    """

    ce_type: ClassVar[str] = "vn.binhyen.citizen-message-received.v1"

    message_id: ProviderId
    kind: MessageKind
    text: str = Field(default="", max_length=MAX_TEXT_CHARACTERS)
    original_text: str | None = Field(default=None, max_length=MAX_TEXT_CHARACTERS)
    text_was_cut: bool = False
    location: Coordinates | None = None
    attachments: tuple[Attachment, ...] = ()
    quoted_message_id: ProviderId | None = None
    conversation_id: ProviderId | None = None
    sent_at: AwareDatetime
    received_at: AwareDatetime


ReportKind = Literal["echo", "received", "seen", "reacted"]


class DeliveryReported(CitizenEvent):
    """Zalo told what became of messages that a page sent.

    Attributes:
        report: `echo` is Zalo's copy of a message the page sent, by our call or by a person in Zalo's own tool.
        message_ids: Zalo's ids of the messages it is about.
        text_sha256: of the echoed text (`shared.ids.text_digest`), to settle a send whose answer was lost.
        admin_id: set when a person sent it in Zalo's own chat tool.
        reaction: the icon, for `reacted`.
    """

    ce_type: ClassVar[str] = "vn.binhyen.delivery-reported.v1"

    report: ReportKind
    message_ids: tuple[ProviderId, ...] = Field(min_length=1, max_length=1_000)
    text_sha256: str | None = Field(default=None, pattern=r"^[0-9a-f]{64}$")
    admin_id: ProviderId | None = None
    reaction: str | None = Field(default=None, max_length=32)
    reported_at: AwareDatetime


class TemplateDelivered(Event):
    """A template reached the phone number it was sent to. Zalo names no citizen, and the number stays outside.

    Attributes:
        tracking_id: what the sender gave the message, and Zalo repeats: our own id of the send.
        delivered_at: by Zalo's clock.
    """

    ce_type: ClassVar[str] = "vn.binhyen.template-delivered.v1"

    page: Slug
    oa_id: ProviderId
    message_id: ProviderId
    tracking_id: ProviderId | None = None
    delivered_at: AwareDatetime


ChangeKind = Literal[
    "followed",
    "unfollowed",
    "chat_opened",
    "profile_shared",
    "profile_updated",
    "tag_added",
    "tag_removed",
    "call_consent",
    "call_ended",
    "feedback_given",
    "button_clicked",
    "withdrawn",
]


class CitizenChanged(CitizenEvent):
    """What we know of a citizen changed.

    Attributes:
        change: `withdrawn` is a request to erase personal data.
        details: plain values named after Zalo's fields (tag name, call seconds, rate, phone ...).
        is_interaction: whether Zalo counts it as an interaction that opens the consultation window.
    """

    ce_type: ClassVar[str] = "vn.binhyen.citizen-changed.v1"

    change: ChangeKind
    details: dict[str, str | int | float | bool | None] = Field(default_factory=dict)
    is_interaction: bool = False
    changed_at: AwareDatetime


Language = Literal["vi", "en"]
LANGUAGES: tuple[Language, ...] = get_args(Language)
ChoiceSubject = Literal["broadcasts", "topic", "ward", "language"]


class CitizenChose(CitizenEvent):
    """A citizen chose what the pages may send, and in which language; it holds on all pages for the same person.

    Choices of one subject and value are a register: the newest `chosen_at` counts, whatever the order of arrival. Of
    the languages the newest counts.

    Attributes:
        subject: all broadcasts, one topic of them, one area, or the language of answers and news.
        value: the topic, the ward or the language (`Language`); None for `broadcasts`.
        is_on: wants it, or does not.
    """

    ce_type: ClassVar[str] = "vn.binhyen.citizen-chose.v2"

    subject: ChoiceSubject
    value: Slug | None = None
    is_on: bool
    chosen_at: AwareDatetime


class WebhookRecorded(Event):
    """A webhook that was accepted and leads to no message, receipt or citizen's state: kept with its reason.

    Attributes:
        reason: why it went no further.
        event_name: Zalo's name, where it could be read.
        oa_id: the page, where it could be read.
        raw_base64: the body, byte for byte.
    """

    ce_type: ClassVar[str] = "vn.binhyen.webhook-recorded.v1"

    reason: ReasonCode
    event_name: str | None = Field(default=None, max_length=128)
    oa_id: str | None = Field(default=None, max_length=128)
    user_id: str | None = Field(default=None, max_length=128)
    raw_base64: str
    received_at: AwareDatetime

    @property
    def partition_key(self) -> str:
        """Records have no order among themselves."""
        return self.event_id


class ReplyButton(BaseModel):
    """A button under a reply, in Zalo's words: a type such as `oa.query.show` and its payload."""

    model_config = ConfigDict(frozen=True)

    title: str = Field(min_length=1, max_length=100)
    type: Literal["oa.open.url", "oa.query.show", "oa.query.hide", "oa.open.phone", "oa.open.sms"]
    payload: str = Field(min_length=1, max_length=1_000)


class ReplyContent(BaseModel):
    """What to send; exactly the consultation bodies that Zalo documents.

    Attributes:
        text: at most 2,000 characters after NFC.
        image_url: or image_attachment_id: a picture with `text` as its caption.
        file_token: a file uploaded before.
        request_info: ask for contact details with this (title, subtitle, image url).
    """

    model_config = ConfigDict(frozen=True)

    text: str = Field(default="", max_length=2_000)
    quote_message_id: ProviderId | None = None
    image_url: str | None = Field(default=None, max_length=4_096)
    image_attachment_id: str | None = Field(default=None, max_length=512)
    file_token: str | None = Field(default=None, max_length=1_024)
    request_info: tuple[str, str, str] | None = None
    buttons: tuple[ReplyButton, ...] = Field(default=(), max_length=5)


class ReplyRequested(CitizenEvent):
    """Somebody decided that a citizen gets this answer.

    Attributes:
        event_id: also the id of the send ledger entry; the same decision always makes the same id.
        answers_event_id: the message it answers; None for an officer's own message.
        case_code: the code people quote; None where no case was opened.
        origin: who decided.
        template: key of the text in the templates, or `officer`; with the message it makes the id.
        is_emergency: overtakes everything else.
        interaction_at: the citizen's last known interaction; opens the window even if the contact is not stored yet.
    """

    ce_type: ClassVar[str] = "vn.binhyen.reply-requested.v1"

    answers_event_id: str | None = None
    case_code: str | None = None
    origin: Literal["automatic", "officer"]
    template: str = Field(max_length=96)
    is_emergency: bool = False
    content: ReplyContent
    conversation_id: ProviderId | None = None
    interaction_at: AwareDatetime | None = None


OfficerAction = Literal["reply", "hand_over", "close", "reopen", "correct"]


class OfficerActed(CitizenEvent):
    """An officer decided something about a case.

    Attributes:
        action: `correct` changes the category or the unit and is kept as a label for learning.
        officer: account name of who acted.
        unit: slug of the officer's unit at that moment.
        text: of the reply; internal note otherwise.
        closes_case: a reply that also ends the matter.
        to_unit: for `hand_over`, and for `correct` when the unit was wrong.
        category: for `correct`, the right one; likewise `subtopic` and `urgency`.
    """

    ce_type: ClassVar[str] = "vn.binhyen.officer-acted.v1"

    action: OfficerAction
    case_code: str = Field(max_length=32)
    officer: str = Field(min_length=1, max_length=128)
    unit: Slug | None = None
    text: str = Field(default="", max_length=2_000)
    closes_case: bool = False
    to_unit: Slug | None = None
    category: str | None = Field(default=None, max_length=64)
    subtopic: str | None = Field(default=None, max_length=64)
    urgency: Literal["emergency", "high", "normal"] | None = None
