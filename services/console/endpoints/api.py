"""The same as the pages for programs: read cases, take decisions. OpenAPI at `/api/openapi.json`.

Sign in with `POST /api/sessions` and send the token as `Authorization: Bearer …`; or use the session of a signed-in
browser with its CSRF token in `X-CSRF-Token`.
"""

from datetime import UTC, datetime
from typing import Annotated, Literal

from fastapi import APIRouter, Depends, Header, Path, Query
from pydantic import BaseModel, ConfigDict, Field, SecretStr
from starlette.responses import JSONResponse, Response

from services.console.access import Access, access
from services.console.adapters.case_store import MAX_QUEUE, CaseRepository
from services.console.domain import (
    DECISIONS_SHOWN,
    Action,
    Case,
    CaseSummary,
    Decision,
    Entry,
    Line,
    Mark,
    QueueView,
    ReplyWindow,
    Role,
    Urgency,
    reply_window,
    scope_of,
)
from services.console.errors import ActionNotFound
from services.console.handlers import decide, sign_in, undo
from services.console.web import Visit, visit_of
from shared.mongo import Document

router = APIRouter(prefix="/api")
Visiting = Annotated[Visit, Depends(visit_of)]
Code = Annotated[str, Path(max_length=32, description="the code that people quote", examples=["Q12-261124-0042"])]


class Problem(BaseModel):
    """Why a request was not carried out."""

    code: str = Field(description="stable key", examples=["case.not_found"])
    message: str


class SignIn(BaseModel):
    """Who signs in."""

    account: str = Field(max_length=64)
    password: SecretStr = Field(max_length=1_024)


class OfficerOut(BaseModel):
    """Who is signed in, and whose cases they see."""

    account: str
    name: str
    unit: str
    role: Role
    sees_all_units: bool


class SessionOut(BaseModel):
    """A session of a program."""

    token: str = Field(description="send it as `Authorization: Bearer …`; shown only now")
    expires_at: datetime
    officer: OfficerOut


class UnitOut(BaseModel):
    """A unit of today."""

    slug: str
    name: str
    name_en: str
    role: str


class CaseLine(BaseModel):
    """One case of a queue."""

    code: str
    unit: str
    page: str
    category: str
    subtopic: str | None
    urgency: str
    is_open: bool
    waits_for: Literal["officer", "citizen"]
    opened_at: datetime
    last_message_at: datetime
    due_at: datetime | None
    closed_at: datetime | None
    excerpt: str
    message_count: int


class QueueOut(BaseModel):
    """A queue in its order, with counts (each counted up to the longest queue that is shown)."""

    cases: list[CaseLine]
    counts: dict[str, int]


class ReasonOut(BaseModel):
    """Why something was decided: the code, and the words a person reads."""

    code: str
    words: str


class WindowOut(BaseModel):
    """What sending a reply now would meet."""

    kind: Literal["free", "paid", "closed", "withdrawn"]
    until: datetime | None


class EntryOut(BaseModel):
    """One line of a case's history."""

    at: datetime
    what: str
    by: str | None
    note: str


class CaseOut(BaseModel):
    """A case with what was decided about it."""

    case: CaseLine
    reasons: list[ReasonOut]
    doubts: list[ReasonOut]
    evidence: list[str]
    confidence: float | None
    window: WindowOut
    history: list[EntryOut]


class PictureOut(BaseModel):
    """An attachment; its bytes are at `/api/attachments/{attachment_id}`."""

    attachment_id: str
    kind: str
    state: Literal["ready", "waiting", "failed"]
    content_type: str | None
    size_bytes: int | None


class LineOut(BaseModel):
    """One thing that was said."""

    side: Literal["citizen", "bot", "officer"]
    at: datetime
    text: str
    kind: str
    latitude: float | None = None
    longitude: float | None = None
    pictures: list[PictureOut]
    author: str | None
    mark: Mark | None = Field(description="what became of a reply")


class DecisionIn(BaseModel):
    """What to do with a case."""

    model_config = ConfigDict(extra="forbid")

    action: Action
    text: str = Field(default="", max_length=20_000, description="the reply, or a note for colleagues")
    closes_case: bool = False
    to_unit: str | None = Field(default=None, max_length=64)
    category: str | None = Field(default=None, max_length=64)
    subtopic: str | None = Field(default=None, max_length=64)
    urgency: Urgency | None = None
    wait_seconds: float | None = Field(
        default=None, ge=0, le=60, description="how long it can be undone; without it as on the page"
    )


class ActionOut(BaseModel):
    """A decision on its way."""

    action_id: str
    action: Action
    case_code: str
    state: Literal["waiting", "publishing", "published", "undone"]
    decided_at: datetime
    due_at: datetime


PROBLEMS: dict[int | str, dict[str, object]] = {
    status: {"model": Problem} for status in (401, 403, 404, 409, 422, 429, 503)
}


@router.get("/openapi.json", include_in_schema=False)
@access(Access.PUBLIC)
async def openapi(visit: Visiting) -> Response:
    """This description."""
    return JSONResponse(visit.request.app.openapi())


@router.post("/sessions", status_code=201, responses=PROBLEMS, tags=["sessions"])
@access(Access.PUBLIC)
async def open_session(visit: Visiting, body: SignIn) -> SessionOut:
    """Sign in a program."""
    token, session = await sign_in(
        body.account,
        body.password.get_secret_value(),
        kind="api",
        address=visit.address,
        user_agent=visit.request.headers.get("user-agent", ""),
        deps=visit.deps.sign_in,
    )
    officer = session.officer
    return SessionOut(
        token=token,
        expires_at=session.expires_at,
        officer=OfficerOut(**vars(officer), sees_all_units=scope_of(officer).units is None),
    )


@router.delete("/sessions/current", status_code=204, responses=PROBLEMS, tags=["sessions"])
@access(Access.SIGNED_IN)
async def end_session(visit: Visiting) -> Response:
    """Sign out."""
    await visit.deps.sessions.close(visit.session.session_id)
    return Response(status_code=204)


@router.get("/me", responses=PROBLEMS, tags=["sessions"])
@access(Access.SIGNED_IN)
async def me(visit: Visiting) -> OfficerOut:
    """Who is signed in."""
    return OfficerOut(**vars(visit.officer), sees_all_units=scope_of(visit.officer).units is None)


@router.get("/units", responses=PROBLEMS, tags=["units"])
@access(Access.SIGNED_IN)
async def units(visit: Visiting) -> list[UnitOut]:
    """The units of today, to hand over to."""
    return [
        UnitOut(slug=unit.slug, name=unit.name, name_en=unit.name_en, role=unit.role)
        for unit in visit.deps.units().units.values()
    ]


@router.get("/cases", responses=PROBLEMS, tags=["cases"])
@access(Access.UNIT)
async def list_cases(
    visit: Visiting,
    view: QueueView = "open",
    unit: Annotated[str, Query(max_length=64)] = "",
    q: Annotated[
        str, Query(max_length=64, description="a code, its beginning, or a number of today such as 0042")
    ] = "",
    limit: Annotated[int, Query(ge=1, le=MAX_QUEUE)] = 100,
) -> QueueOut:
    """The queue in its order: emergencies first, then what is due first."""
    cases = CaseRepository(visit.deps.store, scope_of(visit.officer).narrowed_to(unit))
    search = visit.deps.code_search(q) if q else None
    found = await cases.search(search) if search else await cases.queue(view, limit=limit)
    return QueueOut(cases=[_line(case) for case in found[:limit]], counts=await cases.counts())


@router.get("/cases/{code}", responses=PROBLEMS, tags=["cases"])
@access(Access.UNIT)
async def read_case(visit: Visiting, code: Code) -> CaseOut:
    """One case: reasons, deadline, what the window allows, history."""
    cases = visit.cases
    case = await cases.case(code.upper())
    window = await _window(visit, cases, case)
    return CaseOut(
        case=_line(case.summary),
        reasons=[ReasonOut(code=code, words=visit.reason(code)) for code in case.reasons],
        doubts=[ReasonOut(code=code, words=visit.reason(code)) for code in case.doubts],
        evidence=list(case.evidence),
        confidence=case.confidence,
        window=WindowOut(kind=window.kind, until=window.until),
        history=[_entry(entry) for entry in await cases.history(case)],
    )


@router.get("/cases/{code}/conversation", responses=PROBLEMS, tags=["cases"])
@access(Access.UNIT)
async def read_conversation(visit: Visiting, code: Code) -> list[LineOut]:
    """Everything said in a case, oldest first."""
    cases = visit.cases
    case = await cases.case(code.upper())
    recent = await visit.deps.actions.of_cases([case.code], since=datetime.now(UTC) - DECISIONS_SHOWN)
    return [_said(line) for line in await cases.conversation(case, recent)]


@router.post("/cases/{code}/actions", status_code=202, responses=PROBLEMS, tags=["actions"])
@access(Access.UNIT)
async def act(
    visit: Visiting,
    code: Code,
    body: DecisionIn,
    idempotency_key: Annotated[
        str, Header(min_length=8, max_length=128, description="the same key is the same decision")
    ],
) -> ActionOut:
    """Take a decision; it waits while it can be undone and is then published once."""
    cases = visit.cases
    case = await cases.case(code.upper())
    wait_seconds = body.wait_seconds
    kept = await decide(
        Decision(**body.model_dump(exclude={"wait_seconds"})),
        case,
        officer=visit.officer,
        key=idempotency_key,
        window=await _window(visit, cases, case),
        units=frozenset(visit.deps.units().units),
        wait_seconds=visit.deps.settings.console_undo_seconds if wait_seconds is None else wait_seconds,
        actions=visit.deps.actions,
    )
    return _action(kept)


@router.get("/actions/{action_id}", responses=PROBLEMS, tags=["actions"])
@access(Access.SIGNED_IN)
async def read_action(visit: Visiting, action_id: str) -> ActionOut:
    """How far one's own decision is."""
    known = await visit.deps.actions.find(action_id)
    if known is None or known["officer"] != visit.officer.account:
        raise ActionNotFound(action_id)
    return _action(known)


@router.delete("/actions/{action_id}", responses=PROBLEMS, tags=["actions"])
@access(Access.SIGNED_IN)
async def undo_action(visit: Visiting, action_id: str) -> ActionOut:
    """Take one's own decision back while it waits."""
    undone = await undo(action_id, officer=visit.officer, actions=visit.deps.actions)
    return _action({**undone, "state": "undone"})


@router.get("/attachments/{attachment_id}", responses=PROBLEMS, tags=["cases"], response_class=Response)
@access(Access.UNIT)
async def read_attachment(visit: Visiting, attachment_id: str) -> Response:
    """The bytes of a picture or file of a case."""
    _, content = await visit.cases.picture(attachment_id)
    return Response(content, media_type="application/octet-stream", headers={"content-disposition": "attachment"})


async def _window(visit: Visit, cases: CaseRepository, case: Case) -> ReplyWindow:
    return reply_window(await cases.contact(case), now=datetime.now(UTC), rule=visit.deps.window_rule())


def _line(case: CaseSummary) -> CaseLine:
    return CaseLine(**vars(case))


def _entry(entry: Entry) -> EntryOut:
    return EntryOut(at=entry.at, what=entry.what, by=entry.by, note=entry.note)


def _said(line: Line) -> LineOut:
    return LineOut(
        side=line.side,
        at=line.at,
        text=line.text,
        kind=line.kind,
        latitude=line.place.latitude if line.place else None,
        longitude=line.place.longitude if line.place else None,
        pictures=[
            PictureOut(
                attachment_id=p.attachment_id,
                kind=p.kind,
                state=p.state,
                content_type=p.content_type,
                size_bytes=p.size_bytes,
            )
            for p in line.pictures
        ],
        author=line.author,
        mark=line.mark,
    )


def _action(document: Document) -> ActionOut:
    return ActionOut(
        action_id=document["_id"],
        action=document["action"],
        case_code=document["case_code"],
        state=document["state"],
        decided_at=document["decided_at"],
        due_at=document["due_at"],
    )
