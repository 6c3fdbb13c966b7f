"""A broadcast's life: draft, preview, a second person's approval, schedule, run, pause, end. Pure.

What runs is exactly what was previewed and approved: both name the draft by its digest, and a changed draft needs both
again. States only go forward, but for running and paused.

Source: docs/architecture/broadcasts.md.
"""

import hashlib
import re
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta
from typing import Annotated, Literal, Self, TypeAlias

from pydantic import BaseModel, ConfigDict, Field, StringConstraints, model_validator

from services.notifier.domain.audience import Audience
from services.notifier.domain.lanes import PERSONAL_LANES, Lane, Offer
from services.notifier.domain.permission import content_problem
from services.notifier.domain.reply import composed
from shared.events import ReplyContent, Slug

BroadcastState = Literal["draft", "approved", "scheduled", "running", "paused", "done", "cancelled"]
Action = Literal["edit", "preview", "approve", "schedule", "start", "pause", "resume", "cancel", "finish", "reopen"]
PREVIEW_VALID = timedelta(hours=24)
"""An approval rests on counts; older ones are no longer about the people there are."""
MAX_HISTORY = 200

# What may be done in which state, and what follows; None leaves the state as it is.
_NEXT: dict[tuple[BroadcastState, Action], BroadcastState] = {
    ("draft", "edit"): "draft",
    ("approved", "edit"): "draft",
    ("draft", "preview"): "draft",
    ("draft", "approve"): "approved",
    ("approved", "schedule"): "scheduled",
    ("scheduled", "schedule"): "scheduled",
    ("scheduled", "start"): "running",
    ("running", "pause"): "paused",
    ("paused", "resume"): "running",
    ("running", "finish"): "done",
    ("done", "reopen"): "running",
    ("draft", "cancel"): "cancelled",
    ("approved", "cancel"): "cancelled",
    ("scheduled", "cancel"): "cancelled",
    ("running", "cancel"): "cancelled",
    ("paused", "cancel"): "cancelled",
}


class TemplateContent(BaseModel):
    """An approved template with its values.

    Attributes:
        text: what the person reads, for the preview and to recognise Zalo's echo; the template with its values in it.
        by_user_id: by the page's user id; false for templates that Zalo sends by phone number only (-249).
        by_phone: by a number that the person gave us, where the user id does not do.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    template_id: Annotated[str, StringConstraints(pattern=r"^[A-Za-z0-9_-]{1,64}$")]
    data: dict[
        Annotated[str, StringConstraints(pattern=r"^[A-Za-z0-9_]{1,64}$")],
        Annotated[str, StringConstraints(min_length=1, max_length=1_000)],
    ] = Field(default_factory=dict, max_length=50)
    text: str = Field(min_length=1, max_length=2_000)
    by_user_id: bool = True
    by_phone: bool = False

    @model_validator(mode="after")
    def _has_a_way(self) -> Self:
        if not (self.by_user_id or self.by_phone):
            raise ValueError("a template goes by_user_id or by_phone, or both")
        return self


class ArticlePart(BaseModel):
    """One part of an article's body."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    type: Literal["text", "image"]
    content: str = Field(min_length=1, max_length=20_000, description="the text, or the address of the picture")

    @model_validator(mode="after")
    def _picture_has_an_address(self) -> Self:
        # Zalo refuses spaces and Vietnamese letters in an address unless they are percent-encoded.
        if self.type == "image" and not re.fullmatch(r"https?://[!-~]+", self.content):
            raise ValueError("a picture needs its address, percent-encoded: https://…")
        return self


class ArticleContent(BaseModel):
    """An article, broadcast to all followers of the pages.

    Attributes:
        target: Zalo's own targets: ages, gender, locations, cities, platform; there is none for wards or persons.
        reaches_opted_out: it is known and wanted that followers who opted out get it too: Zalo cannot leave them out.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    # One character less than Zalo says: texts of exactly 150 and 300 characters are refused.
    title: str = Field(min_length=1, max_length=149)
    description: str = Field(min_length=1, max_length=299)
    author: str = Field(min_length=1, max_length=50)
    cover_url: str = Field(pattern=r"^https?://[!-~]+$", max_length=2_000)
    body: tuple[ArticlePart, ...] = Field(min_length=1, max_length=100)
    target: dict[Literal["ages", "gender", "locations", "cities", "platform"], tuple[int, ...]] = Field(
        default_factory=dict
    )
    reaches_opted_out: bool = False


class Content(BaseModel):
    """What is sent: a message, a template for those whom a message may not reach, or both; or an article."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    message: ReplyContent | None = None
    template: TemplateContent | None = None
    article: ArticleContent | None = None

    @model_validator(mode="after")
    def _one_kind(self) -> Self:
        if (self.article is None) == (self.message is None and self.template is None):
            raise ValueError("give an article, or a message and/or a template")
        if self.message is not None and (problem := content_problem(composed(self.message))):
            raise ValueError(f"message: {problem}")
        return self

    def lanes(self) -> frozenset[Lane]:
        """The lanes this content has a form for."""
        if self.article is not None:
            return frozenset({"article"})
        lanes = set[Lane](PERSONAL_LANES[:2] if self.message is not None else ())
        if self.template is not None:
            lanes |= {"template_user"} if self.template.by_user_id else set()
            lanes |= {"template_phone"} if self.template.by_phone else set()
        return frozenset(lanes)


class Draft(BaseModel):
    """What somebody wants to send, to whom, and how."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    title: str = Field(min_length=1, max_length=200, description="for our own lists; no citizen sees it")
    unit: Slug = Field(description="the unit that speaks")
    content: Content
    audience: Audience = Audience()
    is_emergency: bool = Field(
        default=False,
        description="people are in danger now: no quiet hours, no personal cap; opt-outs hold all the same",
    )
    pays: bool = Field(default=False, description="also use lanes that cost something")

    @model_validator(mode="after")
    def _audience_is_possible(self) -> Self:
        if self.content.article is not None and self.audience != Audience(units=self.audience.units):
            raise ValueError("an article is shown to all followers of its pages: of the audience give only `units`")
        return self

    @property
    def digest(self) -> str:
        """Names exactly this draft."""
        return hashlib.sha256(self.model_dump_json().encode()).hexdigest()

    @property
    def offer(self) -> Offer:
        """How it can be sent."""
        return Offer(self.content.lanes(), self.pays, self.is_emergency)


@dataclass(frozen=True)
class Forecast:
    """What sending to an audience would come to.

    Attributes:
        people: everybody the audience means; `sum(lanes) + sum(refused)` of them. For an article: followers.
        lanes: people by lane.
        costs: people by what it costs.
        refused: people who get nothing, by reason.
        pages: people by page, of those who get it.
        articles: for an article, by page what would happen: `article` or the reason why not.
        quiet_until: it would wait until then.
    """

    people: int = 0
    lanes: Mapping[str, int] = field(default_factory=dict)
    costs: Mapping[str, int] = field(default_factory=dict)
    refused: Mapping[str, int] = field(default_factory=dict)
    pages: Mapping[str, int] = field(default_factory=dict)
    articles: Mapping[str, str] = field(default_factory=dict)
    quiet_until: datetime | None = None


@dataclass(frozen=True)
class Preview:
    """A forecast for one draft."""

    digest: str
    at: datetime
    forecast: Forecast


@dataclass(frozen=True)
class HistoryEntry:
    """Who did what, when."""

    action: Action
    by: str
    at: datetime
    note: str = ""


@dataclass(frozen=True)
class Snapshot:
    """The audience as it was when the ledger was built.

    Attributes:
        people: rows of the ledger; all counts add up to it.
        digest: over persons, lanes and refusals, in order.
        is_complete: whether the whole ledger is there; nothing is sent before.
    """

    people: int = 0
    chunks: int = 0
    digest: str = ""
    is_complete: bool = False


@dataclass(frozen=True)
class Broadcast:
    """One content to an audience.

    Attributes:
        author: who wrote what it says now.
        version: counts changes; a change is stored only over the version it was made from.
        starts_at: when it may start.
        started_at: when it did: its ledger's rows count for personal caps from then on.
    """

    id: str
    draft: Draft
    author: str
    created_at: datetime | None = None
    state: BroadcastState = "draft"
    version: int = 0
    preview: Preview | None = None
    approved_by: str | None = None
    starts_at: datetime | None = None
    started_at: datetime | None = None
    finished_at: datetime | None = None
    snapshot: Snapshot = Snapshot()
    history: tuple[HistoryEntry, ...] = ()


@dataclass(frozen=True)
class NotAllowed:
    """The change is refused, for this reason."""

    reason: str


Change: TypeAlias = Broadcast | NotAllowed


def act(
    broadcast: Broadcast,
    action: Action,
    *,
    by: str,
    at: datetime,
    note: str = "",
    draft: Draft | None = None,
    forecast: Forecast | None = None,
    starts_at: datetime | None = None,
) -> Change:
    """Do one thing to a broadcast.

    Args:
        broadcast: as it is stored.
        action: what to do.
        by: who; `scheduler` is the product itself.
        at: by the database's clock.
        note: why, for the history.
        draft: for `edit`.
        forecast: for `preview`, made from the present draft.
        starts_at: for `schedule`; None is now.

    Returns:
        The broadcast after it, one version later; or why not.
    """
    state = _NEXT.get((broadcast.state, action))
    if state is None:
        return NotAllowed(f"broadcast.is_{broadcast.state}")
    if reason := _objection(broadcast, action, by, at, starts_at):
        return NotAllowed(reason)
    entry = HistoryEntry(action, by, at, note)
    changed = replace(
        broadcast, state=state, version=broadcast.version + 1, history=(*broadcast.history, entry)[-MAX_HISTORY:]
    )
    match action:
        case "edit":
            # Whoever changes it becomes its author: the second person must not be the one who wrote what is sent.
            return replace(changed, draft=draft or broadcast.draft, author=by, preview=None, approved_by=None)
        case "preview":
            return replace(changed, preview=Preview(broadcast.draft.digest, at, forecast or Forecast()))
        case "approve":
            return replace(changed, approved_by=by)
        case "schedule":
            return replace(changed, starts_at=starts_at or at)
        case "start":
            return replace(changed, started_at=at)
        case "finish" | "cancel":
            return replace(changed, finished_at=at)
        case _:
            return changed


def running_seconds(broadcast: Broadcast, now: datetime) -> float:
    """How long it has been running, pauses left out."""
    seconds, since = 0.0, None
    for entry in broadcast.history:
        if entry.action in {"start", "resume", "reopen"}:
            since = entry.at
        elif since is not None and entry.action in {"pause", "cancel", "finish"}:
            seconds += (entry.at - since).total_seconds()
            since = None
    return seconds if since is None else seconds + (now - since).total_seconds()


def _objection(broadcast: Broadcast, action: Action, by: str, at: datetime, starts_at: datetime | None) -> str | None:
    match action:
        case "approve":
            preview = broadcast.preview
            if preview is None or preview.digest != broadcast.draft.digest:
                return "broadcast.not_previewed"
            if at - preview.at > PREVIEW_VALID:
                return "broadcast.preview_too_old"
            if by == broadcast.author:
                return "broadcast.needs_a_second_person"
        case "schedule" if starts_at is not None and starts_at < at - timedelta(minutes=1):
            return "broadcast.starts_in_the_past"
        case "start" if broadcast.starts_at is None or broadcast.starts_at > at:
            return "broadcast.not_due"
        case "finish" if not broadcast.snapshot.is_complete:
            return "broadcast.not_built"
    return None
