"""Work broadcasts: draft, preview, approval by a second person, schedule, pause, watch; and ask what would happen.

Each person has a token of their own. Writing and approving are different rights, and whoever wrote a draft cannot
approve it, whatever their rights. Every refusal has a stable `code`.
"""

from datetime import datetime
from typing import Annotated, Any, Literal

from fastapi import APIRouter, Depends, Header, Path, Query, Request
from pydantic import AwareDatetime, BaseModel, ConfigDict, Field
from starlette.responses import JSONResponse, Response

from services.notifier.domain.access import Person
from services.notifier.domain.articles import ArticleState, ArticleStep
from services.notifier.domain.broadcast import Action, Broadcast, BroadcastState, Draft, Forecast
from services.notifier.domain.copies import CopyState, copy_id
from services.notifier.endpoints.web import desk_of, person_of, strictly
from services.notifier.handlers.broadcasts import MAX_TESTS, Desk, Standing
from shared.events import Slug

router = APIRouter(prefix="/v1")
At = Annotated[Desk, Depends(desk_of)]
Who = Annotated[Person, Depends(person_of)]
Id = Annotated[str, Path(pattern=r"^[0-9a-f]{12}$", description="of the broadcast", examples=["4d1f0be0a1c2"])]
CitizenKey = Annotated[
    str, Field(pattern=r"^[A-Za-z0-9_.\-]{1,128}:[A-Za-z0-9_.\-]{1,64}$", description="page and user as `OA:USER`")
]
Key = Annotated[
    str, Header(alias="Idempotency-Key", max_length=128, description="the same key is the same request, done once")
]


class Problem(BaseModel):
    """Why a request was not carried out."""

    code: str = Field(description="stable", examples=["broadcast.needs_a_second_person"])
    message: str
    problems: list[dict[str, str]] = Field(description="for `request.invalid`: where and what")


class _In(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class EditIn(_In):
    """A draft instead of another."""

    draft: Draft
    version: int = Field(ge=0, description="of the broadcast as it was read; if it has another one now, 409")


class ApprovalIn(_In):
    """The second person's agreement."""

    digest: str = Field(pattern=r"^[0-9a-f]{64}$", description="of the draft that was read")
    note: str = Field(default="", max_length=500)


class ScheduleIn(_In):
    """When it starts."""

    starts_at: AwareDatetime | None = Field(default=None, description="null is now")
    note: str = Field(default="", max_length=500)


class NoteIn(_In):
    """Why; kept in the history."""

    note: str = Field(default="", max_length=500)


class TestIn(_In):
    """Colleagues who get it as it is; the page's administrator tagged them as staff."""

    citizens: tuple[CitizenKey, ...] = Field(min_length=1, max_length=MAX_TESTS)


class DryRunIn(Draft):
    """What would be sent, and to whom; nothing is kept."""

    title: str = Field(default="dry run", min_length=1, max_length=200)
    citizens: tuple[CitizenKey, ...] = Field(default=(), max_length=1_000, description="only these; empty is everybody")


class ForecastOut(BaseModel):
    """What sending would come to: `people` is the sum of `lanes` and of `refused`."""

    people: int
    lanes: dict[str, int]
    costs: dict[str, int]
    refused: dict[str, int] = Field(description="people who get nothing, by reason code")
    pages: dict[str, int] = Field(description="people who get it, by page")
    articles: dict[str, str] = Field(description="for an article: by page `article`, or why not")
    quiet_until: datetime | None = Field(description="it would wait until then")


class PreviewOut(BaseModel):
    """A forecast for one draft."""

    digest: str
    at: datetime
    forecast: ForecastOut


class HistoryOut(BaseModel):
    """Who did what, when."""

    action: Action
    by: str
    at: datetime
    note: str


class BroadcastLine(BaseModel):
    """One broadcast in a list."""

    id: str
    title: str
    unit: str
    state: BroadcastState
    author: str
    approved_by: str | None
    created_at: datetime | None
    starts_at: datetime | None
    started_at: datetime | None
    finished_at: datetime | None
    is_emergency: bool
    kind: Literal["message", "template", "article"]
    people: int = Field(description="of the audience as it was when it started; before that of the preview")


class BroadcastOut(BroadcastLine):
    """One broadcast."""

    version: int
    digest: str = Field(description="names exactly this draft; approving asks for it")
    draft: Draft
    preview: PreviewOut | None
    history: list[HistoryOut]


class BroadcastsOut(BaseModel):
    """The newest broadcasts."""

    broadcasts: list[BroadcastLine]


class ReasonCount(BaseModel):
    """How many copies are in a state for a reason."""

    state: str
    reason: str
    count: int


class ArticleOut(BaseModel):
    """An article on one page."""

    page: str
    step: ArticleStep
    state: ArticleState
    reason: str | None
    followers: int = Field(description="as far as we know them")
    article_id: str | None
    sent_at: datetime | None = Field(description="when Zalo took it; it shows it after its review")
    views: int | None
    shares: int | None
    collected_at: datetime | None


class ProgressOut(BaseModel):
    """How far a broadcast is: the states add up to the people."""

    id: str
    title: str
    state: BroadcastState
    at: datetime
    people: int
    states: dict[str, int]
    reasons: list[ReasonCount]
    in_flight: int = Field(description="with Zalo at this moment, or a dead sender's")
    chunks: int
    chunks_done: int
    articles: list[ArticleOut] = Field(description="of an article: page by page; its people are followers")
    per_second: float | None
    seconds_left: float | None


class UncertainCopy(BaseModel):
    """A copy of which nobody knows whether Zalo has it."""

    person: str = Field(description="names the person in this broadcast")
    citizen_key: str = Field(description="page and user, to look the conversation up in Zalo's OA manager")
    page: str
    lane: str | None = Field(description="`template_phone` went to a phone number, so it is in no conversation")
    tracking_id: str = Field(description="by which Zalo's own list of sent templates knows one by phone number")
    marked_at: datetime = Field(description="when it was to be sent")
    reason: str | None


class CopyOut(BaseModel):
    """What became of one citizen's copy of a broadcast."""

    broadcast: str
    title: str
    state: CopyState
    reason: str | None = Field(description="why not, or why not yet")
    page: str | None = Field(description="the page it went out on; none where nobody was to be called")
    marked_at: datetime = Field(description="when it was decided or sent last")


class CopiesOut(BaseModel):
    """The newest first; none of those that decided nothing about this citizen."""

    copies: list[CopyOut]


class UncertainOut(BaseModel):
    """Up to 1,000 of them."""

    copies: list[UncertainCopy]


class AbandonIn(_In):
    """Copies to give up."""

    persons: tuple[Annotated[str, Field(pattern=r"^[0-9a-f]{32}$")], ...] = Field(min_length=1, max_length=1_000)


class AbandonOut(BaseModel):
    """What was given up."""

    abandoned: int = Field(description="those that were uncertain still")


class SettleCopiesIn(AbandonIn):
    """What a person saw of copies in Zalo's own tool."""

    is_sent: bool = Field(description="whether they are there")


class SettleCopiesOut(BaseModel):
    """What was settled."""

    settled: int = Field(description="those that were uncertain still")


class TestOut(BaseModel):
    """Tests on their way."""

    replies: list[str] = Field(description="ids in the reply ledger, in the order of the citizens")


PROBLEMS: dict[int | str, dict[str, Any]] = {
    status: {"model": Problem} for status in (401, 403, 404, 409, 413, 422, 503)
}


@router.get("/openapi.json", include_in_schema=False)
async def openapi(request: Request) -> Response:
    """This description."""
    return JSONResponse(request.app.openapi())


@router.get("/broadcasts", responses=PROBLEMS, tags=["broadcasts"])
async def list_broadcasts(
    desk: At,
    who: Who,
    state: Annotated[list[BroadcastState], Query(max_length=7)] = [],  # noqa: B006 - FastAPI copies it
    unit: Annotated[str | None, Query(max_length=64)] = None,
    limit: Annotated[int, Query(ge=1, le=200)] = 50,
    skip: Annotated[int, Query(ge=0, le=100_000, description="so many of the newest are left out")] = 0,
) -> BroadcastsOut:
    """The newest first."""
    found = await desk.find(who, states=state, unit=unit, limit=limit, skip=skip)
    return BroadcastsOut(broadcasts=[BroadcastLine(**_line(one)) for one in found])


@router.post("/broadcasts", status_code=201, responses=PROBLEMS, tags=["broadcasts"])
async def create_broadcast(
    desk: At, who: Who, body: Draft, _: Annotated[None, strictly(Draft)], key: Key = ""
) -> BroadcastOut:
    """Keep a new draft."""
    return _out(await desk.create(body, who, key=key))


@router.get("/broadcasts/{id}", responses=PROBLEMS, tags=["broadcasts"])
async def show_broadcast(desk: At, who: Who, id: Id) -> BroadcastOut:
    """One broadcast with its preview and its history."""
    return _out(await desk.show(id, who))


@router.put("/broadcasts/{id}/draft", responses=PROBLEMS, tags=["broadcasts"])
async def edit_broadcast(
    desk: At, who: Who, id: Id, body: EditIn, _: Annotated[None, strictly(EditIn)]
) -> BroadcastOut:
    """Replace the draft; preview and approval are needed again, and you are its author now."""
    return _out(await desk.edit(id, body.draft, who, version=body.version))


@router.post("/broadcasts/{id}/preview", responses=PROBLEMS, tags=["life"])
async def preview_broadcast(desk: At, who: Who, id: Id) -> BroadcastOut:
    """Count who would get it now, and who would not and why."""
    return _out(await desk.preview(id, who))


@router.post("/broadcasts/{id}/approve", responses=PROBLEMS, tags=["life"])
async def approve_broadcast(
    desk: At, who: Who, id: Id, body: ApprovalIn, _: Annotated[None, strictly(ApprovalIn)]
) -> BroadcastOut:
    """Agree as the second person."""
    return _out(await desk.approve(id, who, digest=body.digest, note=body.note))


@router.post("/broadcasts/{id}/schedule", responses=PROBLEMS, tags=["life"])
async def schedule_broadcast(
    desk: At, who: Who, id: Id, body: ScheduleIn, _: Annotated[None, strictly(ScheduleIn)]
) -> BroadcastOut:
    """Let it start then."""
    return _out(await desk.schedule(id, who, starts_at=body.starts_at, note=body.note))


@router.post("/broadcasts/{id}/start", responses=PROBLEMS, tags=["life"])
async def start_broadcast(
    desk: At, who: Who, id: Id, body: NoteIn, _: Annotated[None, strictly(NoteIn)]
) -> BroadcastOut:
    """Let it start now: it is `running` within seconds."""
    return _out(await desk.schedule(id, who, starts_at=None, note=body.note))


@router.post("/broadcasts/{id}/pause", responses=PROBLEMS, tags=["life"])
async def pause_broadcast(
    desk: At, who: Who, id: Id, body: NoteIn, _: Annotated[None, strictly(NoteIn)]
) -> BroadcastOut:
    """Begin no further copies; what is in flight ends."""
    return _out(await desk.pause(id, who, note=body.note))


@router.post("/broadcasts/{id}/resume", responses=PROBLEMS, tags=["life"])
async def resume_broadcast(
    desk: At, who: Who, id: Id, body: NoteIn, _: Annotated[None, strictly(NoteIn)]
) -> BroadcastOut:
    """Go on after a pause: nobody gets it twice, nobody is skipped."""
    return _out(await desk.resume(id, who, note=body.note))


@router.post("/broadcasts/{id}/cancel", responses=PROBLEMS, tags=["life"])
async def cancel_broadcast(
    desk: At, who: Who, id: Id, body: NoteIn, _: Annotated[None, strictly(NoteIn)]
) -> BroadcastOut:
    """End it for good; what was sent stays sent."""
    return _out(await desk.cancel(id, who, note=body.note))


@router.post("/broadcasts/{id}/test", status_code=202, responses=PROBLEMS, tags=["broadcasts"])
async def send_test(
    desk: At, who: Who, id: Id, body: TestIn, _: Annotated[None, strictly(TestIn)], key: Key = ""
) -> TestOut:
    """Send it to colleagues as they are, before anybody approved it."""
    return TestOut(replies=await desk.test(id, who, body.citizens, key=key))


class SettleIn(_In):
    """What a person saw in Zalo's own tool."""

    is_sent: bool = Field(description="whether the article was shown to the page's followers")


class SettleOut(BaseModel):
    """What became of it."""

    settled: bool = Field(description="false where the page is not uncertain, or has no article yet")


@router.get("/broadcasts/{id}/progress", responses=PROBLEMS, tags=["broadcasts"])
async def watch_broadcast(desk: At, who: Who, id: Id) -> ProgressOut:
    """How far it is."""
    return _progress(await desk.standing(id, who))


@router.get("/citizens/{citizen}/copies", responses=PROBLEMS, tags=["broadcasts"])
async def list_copies(desk: At, who: Who, citizen: CitizenKey) -> CopiesOut:
    """What became of a citizen's copies, on whatever page, of the 200 newest broadcasts you may see."""
    return CopiesOut(
        copies=[
            CopyOut(
                broadcast=broadcast.id,
                title=broadcast.draft.title,
                **{name: row[name] for name in ("state", "reason", "page", "marked_at")},
            )
            for broadcast, row in await desk.copies_of(citizen, who)
        ]
    )


@router.get("/broadcasts/{id}/uncertain", responses=PROBLEMS, tags=["broadcasts"])
async def list_uncertain(desk: At, who: Who, id: Id) -> UncertainOut:
    """Copies of which nobody knows whether Zalo has them: a person looks into the conversation."""
    found = await desk.uncertain(id, who)
    return UncertainOut(
        copies=[
            UncertainCopy(
                **{name: row.get(name) for name in UncertainCopy.model_fields}
                | {"tracking_id": copy_id(id, row["person"])}
            )
            for row in found
        ]
    )


@router.post("/broadcasts/{id}/settle", responses=PROBLEMS, tags=["broadcasts"])
async def settle_copies(
    desk: At, who: Who, id: Id, body: SettleCopiesIn, _: Annotated[None, strictly(SettleCopiesIn)]
) -> SettleCopiesOut:
    """Say what became of uncertain copies; nothing is sent again."""
    return SettleCopiesOut(settled=await desk.settle(id, who, body.persons, is_sent=body.is_sent))


@router.post("/broadcasts/{id}/articles/{page}/settle", responses=PROBLEMS, tags=["broadcasts"])
async def settle_article(
    desk: At, who: Who, id: Id, page: Slug, body: SettleIn, _: Annotated[None, strictly(SettleIn)]
) -> SettleOut:
    """Say what became of an article whose page is uncertain: Zalo sends no echo of articles."""
    return SettleOut(settled=await desk.settle_article(id, page, who, is_sent=body.is_sent))


@router.post("/broadcasts/{id}/abandon", responses=PROBLEMS, tags=["broadcasts"])
async def abandon_copies(
    desk: At, who: Who, id: Id, body: AbandonIn, _: Annotated[None, strictly(AbandonIn)]
) -> AbandonOut:
    """Give uncertain copies up: they count as failed and are never sent."""
    return AbandonOut(abandoned=await desk.abandon(id, who, body.persons))


@router.post("/send/dry-run", responses=PROBLEMS, tags=["dry run"])
async def dry_run(desk: At, who: Who, body: DryRunIn, _: Annotated[None, strictly(DryRunIn)]) -> ForecastOut:
    """What would happen if I sent this to these people now; nothing is sent and nothing is kept."""
    return _forecast(await desk.dry_run(body, who, citizens=body.citizens))


def _line(broadcast: Broadcast) -> dict[str, Any]:
    draft, content = broadcast.draft, broadcast.draft.content
    planned = 0 if broadcast.preview is None else broadcast.preview.forecast.people
    same = ("id", "state", "author", "approved_by", "created_at", "starts_at", "started_at", "finished_at")
    return {
        **{name: getattr(broadcast, name) for name in same},
        "title": draft.title,
        "unit": draft.unit,
        "is_emergency": draft.is_emergency,
        "kind": "article" if content.article else "message" if content.message else "template",
        "people": broadcast.snapshot.people if broadcast.snapshot.is_complete else planned,
    }


def _out(broadcast: Broadcast) -> BroadcastOut:
    preview = broadcast.preview
    return BroadcastOut(
        **_line(broadcast),
        version=broadcast.version,
        digest=broadcast.draft.digest,
        draft=broadcast.draft,
        preview=None
        if preview is None
        else PreviewOut(digest=preview.digest, at=preview.at, forecast=_forecast(preview.forecast)),
        history=[HistoryOut(**vars(entry)) for entry in broadcast.history],
    )


def _forecast(forecast: Forecast) -> ForecastOut:
    return ForecastOut(**vars(forecast))


def _progress(standing: Standing) -> ProgressOut:
    broadcast, progress = standing.broadcast, standing.progress
    return ProgressOut(
        id=broadcast.id,
        title=broadcast.draft.title,
        state=broadcast.state,
        at=standing.at,
        people=progress.people,
        states=dict(progress.states),
        reasons=[
            ReasonCount(state=state, reason=reason, count=count)
            for (state, reason), count in sorted(progress.reasons.items())
        ],
        in_flight=progress.in_flight,
        chunks=progress.chunks,
        chunks_done=progress.chunks_done,
        articles=[
            ArticleOut(**{name: getattr(send, name) for name in ArticleOut.model_fields}) for send in standing.articles
        ],
        per_second=None if standing.per_second is None else round(standing.per_second, 1),
        seconds_left=None if standing.seconds_left is None else round(standing.seconds_left, 1),
    )
