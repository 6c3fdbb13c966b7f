"""The officers' pages: the queue and a case."""

import secrets
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Annotated, Any

from fastapi import APIRouter, Depends, Form
from starlette.responses import RedirectResponse, Response, StreamingResponse

from services.console.access import Access, access
from services.console.adapters.case_store import MAX_QUEUE, CaseRepository
from services.console.adapters.console_data import quick_replies_for
from services.console.domain import (
    CATEGORIES,
    DECISIONS_SHOWN,
    MAX_REPLY_CHARACTERS,
    SUBTOPICS,
    Action,
    Case,
    CaseSummary,
    Decision,
    Line,
    QueueView,
    ReplyWindow,
    as_sent,
    decision_fault,
    reply_language,
    reply_window,
    scope_of,
)
from services.console.endpoints.frame import frame
from services.console.errors import ActionRefused, CaseNotFound, PictureNotFound, TooLateToUndo
from services.console.handlers import decide, send_now, undo
from services.console.live import Watcher
from services.console.web import Visit, visit_of
from shared.errors import StoreUnavailable

router = APIRouter(include_in_schema=False)
Visiting = Annotated[Visit, Depends(visit_of)]


NOTHING_WRITTEN = Decision("reply")


# -- queue -----------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class QueuePage:
    """What the queue shows."""

    view: QueueView
    unit: str
    typed: str
    is_search: bool
    cases: Sequence[CaseSummary]
    counts: dict[str, int]

    @property
    def is_full(self) -> bool:
        """Whether there may be more than is shown."""
        return len(self.cases) >= MAX_QUEUE


async def _queue(visit: Visit, view: QueueView, unit: str, typed: str) -> QueuePage:
    cases = CaseRepository(visit.deps.store, scope_of(visit.officer).narrowed_to(unit))
    search = visit.deps.code_search(typed) if typed else None
    found = await cases.search(search) if search else await cases.queue(view)
    return QueuePage(view, unit, typed, search is not None, found, await cases.counts())


@router.get("/queue")
@access(Access.UNIT)
async def queue_page(visit: Visiting, view: QueueView = "open", unit: str = "", q: str = "") -> Response:
    """The unit's queue: emergencies on top, then what is due first."""
    around = await frame(visit)
    page = await _queue(visit, view, unit, q)
    if page.is_search and len(page.cases) == 1:
        return RedirectResponse(f"/cases/{page.cases[0].code}", 303)
    return visit.render("queue.html", queue=page, units=_units(visit), **around)


@router.get("/queue/list")
@access(Access.UNIT)
async def queue_list(visit: Visiting, view: QueueView = "open", unit: str = "", q: str = "") -> Response:
    """The part of the queue that changes."""
    return visit.render("_queue.html", queue=await _queue(visit, view, unit, q))


@router.get("/queue/burning")
@access(Access.UNIT)
async def burning(visit: Visiting) -> Response:
    """How much burns and how much is overdue, for the top of every page."""
    return visit.render("_burning.html", counts=await visit.cases.counts())


@router.get("/pending")
@access(Access.SIGNED_IN)
async def pending(visit: Visiting) -> Response:
    """One's own decisions that can still be undone."""
    return visit.render("_pending.html", pending=await visit.deps.actions.waiting_of([visit.officer.account]))


def _units(visit: Visit) -> list[str]:
    return list(visit.deps.units().units) if scope_of(visit.officer).units is None else []


# -- case ------------------------------------------------------------------------------------------------------------


async def _case_parts(visit: Visit, code: str) -> tuple[Case, list[Line], ReplyWindow, dict[str, Any]]:
    cases = visit.cases
    case = await cases.case(code.upper())
    recent = await visit.deps.actions.of_cases([case.code], since=datetime.now(UTC) - DECISIONS_SHOWN)
    lines = await cases.conversation(case, recent)
    contact = await cases.contact(case, lines)
    window = reply_window(contact, now=datetime.now(UTC), rule=visit.deps.window_rule())
    parts = {
        "case": case,
        "citizen_language": contact.language,
        "reply_language": reply_language(contact, lines),
        "quick_replies": quick_replies_for(case.summary.category, visit.deps.quick_replies),
        "lines": lines,
        "window": window,
        "history": await cases.history(case),
        "places": [line for line in lines if line.place is not None],
    }
    return case, lines, window, parts


async def _case_page(
    visit: Visit, code: str, *, written: Decision | None = None, fault: str | None = None, status: int = 200
) -> Response:
    around = await frame(visit, code=(await visit.cases.case(code.upper())).code)
    *_, parts = await _case_parts(visit, code)
    return visit.render(
        "case.html",
        status=status,
        **parts,
        **around,
        written=written or NOTHING_WRITTEN,
        fault=fault,
        open_form=written.action if written else "",
        key=secrets.token_urlsafe(12),
        max_characters=MAX_REPLY_CHARACTERS,
        categories=CATEGORIES,
        subtopics=SUBTOPICS,
        units=sorted(visit.deps.units().units, key=lambda slug: (slug != "district", visit.unit_name(slug))),
    )


@router.get("/cases/{code}")
@access(Access.UNIT)
async def case_page(visit: Visiting, code: str, draft: str = "") -> Response:
    """The whole story on one screen; with a decision of one's own that was undone or refused, to be changed."""
    known = await visit.deps.actions.find(draft) if draft else None
    if not known or known["officer"] != visit.officer.account or known["case_code"] != code.upper():
        return await _case_page(visit, code)
    names = ("action", "text", "closes_case", "to_unit", "category", "subtopic")
    departure = (await visit.cases.case(code.upper())).summary.departure
    is_refused = departure is not None and departure.is_refused and departure.action_id == draft
    return await _case_page(
        visit,
        code,
        written=Decision(**{name: known[name] for name in names}),
        fault="departure.refused" if is_refused else None,
    )


@router.get("/cases/{code}/live")
@access(Access.UNIT)
async def case_live(visit: Visiting, code: str) -> Response:
    """The parts of a case that change while somebody writes."""
    _, _, _, parts = await _case_parts(visit, code)
    return visit.render("_case_live.html", **parts)


@router.post("/cases/{code}/preview")
@access(Access.UNIT)
async def preview(visit: Visiting, code: str, text: Annotated[str, Form(max_length=20_000)] = "") -> Response:
    """The reply as the citizen will see it, and whether it can be sent."""
    case, _, window, _ = await _case_parts(visit, code)
    reply = as_sent(text)
    fault = decision_fault(
        Decision("reply", text=reply), case.summary, window=window, units=frozenset(visit.deps.units().units)
    )
    return visit.render(
        "_preview.html", text=reply, fault=fault, window=window, page_unit=case.citizen.page, characters=len(reply)
    )


async def _decide(visit: Visit, code: str, decision: Decision, key: str, *, leaves: bool = False) -> Response:
    """Take the decision and go on; a refusal shows the case again with what was written."""
    case, _, window, _ = await _case_parts(visit, code)
    try:
        await decide(
            decision,
            case,
            officer=visit.officer,
            key=key or secrets.token_urlsafe(12),
            window=window,
            units=frozenset(visit.deps.units().units),
            wait_seconds=visit.deps.settings.console_undo_seconds,
            actions=visit.deps.actions,
        )
    except ActionRefused as error:
        return await _case_page(visit, code, written=decision, fault=error.reason, status=error.status)
    return RedirectResponse("/queue" if leaves else f"/cases/{case.code}", 303)


Key = Annotated[str, Form(max_length=64)]
Text = Annotated[str, Form(max_length=20_000)]


@router.post("/cases/{code}/reply")
@access(Access.UNIT)
async def reply(visit: Visiting, code: str, text: Text = "", closes_case: Key = "", key: Key = "") -> Response:
    """Answer the citizen."""
    return await _decide(visit, code, Decision("reply", text=text, closes_case=closes_case == "on"), key)


@router.post("/cases/{code}/hand-over")
@access(Access.UNIT)
async def hand_over(visit: Visiting, code: str, to_unit: Key = "", text: Text = "", key: Key = "") -> Response:
    """Give the case with everything known to another unit."""
    return await _decide(visit, code, Decision("hand_over", text=text, to_unit=to_unit or None), key, leaves=True)


@router.post("/cases/{code}/close")
@access(Access.UNIT)
async def close(visit: Visiting, code: str, text: Text = "", key: Key = "") -> Response:
    """End the matter."""
    return await _decide(visit, code, Decision("close", text=text), key, leaves=True)


@router.post("/cases/{code}/reopen")
@access(Access.UNIT)
async def reopen(visit: Visiting, code: str, text: Text = "", key: Key = "") -> Response:
    """Take the matter up again."""
    return await _decide(visit, code, Decision("reopen", text=text), key)


@router.post("/cases/{code}/correct")
@access(Access.UNIT)
async def correct(
    visit: Visiting,
    code: str,
    category: Key = "",
    subtopic: Key = "",
    to_unit: Key = "",
    text: Text = "",
    key: Key = "",
) -> Response:
    """Say what it really is and whose it really is; kept to learn from."""
    case = await visit.cases.case(code.upper())
    decision = Decision(
        "correct",
        text=text,
        category=category if category != case.summary.category else None,
        subtopic=subtopic if subtopic and subtopic != case.summary.subtopic else None,
        to_unit=to_unit if to_unit and to_unit != case.unit else None,
    )
    return await _decide(visit, code, decision, key, leaves=decision.to_unit is not None)


@router.post("/actions/{action_id}/undo")
@access(Access.SIGNED_IN)
async def undo_action(visit: Visiting, action_id: str) -> Response:
    """Take a decision back; what was written comes back to be changed."""
    try:
        undone = await undo(action_id, officer=visit.officer, actions=visit.deps.actions)
    except TooLateToUndo as too_late:
        known = await visit.deps.actions.find(action_id)
        try:
            return await _case_page(visit, known["case_code"] if known else "", fault="action.too_late", status=409)
        except CaseNotFound:
            raise too_late from None  # handed over by this very decision
    return RedirectResponse(f"/cases/{undone['case_code']}?draft={action_id}", 303)


@router.post("/actions/{action_id}/send-now")
@access(Access.SIGNED_IN)
async def send_action_now(visit: Visiting, action_id: str) -> Response:
    """Do not wait for the rest of the ten seconds."""
    await send_now(action_id, officer=visit.officer, actions=visit.deps.actions)
    known = await visit.deps.actions.find(action_id)
    action: Action = known["action"] if known else "reply"
    leaves = known is None or action in {"hand_over", "close"}
    return RedirectResponse("/queue" if leaves or known is None else f"/cases/{known['case_code']}", 303)


# -- pictures and the live stream ------------------------------------------------------------------------------------


@router.get("/attachments/{attachment_id}")
@access(Access.UNIT)
async def attachment(visit: Visiting, attachment_id: str) -> Response:
    """A picture or file of a case; whatever is not plainly a picture is only given as a download."""
    picture, content = await visit.cases.picture(attachment_id)
    headers = {
        "cache-control": "private, max-age=300",
        "content-security-policy": "default-src 'none'; style-src 'unsafe-inline'; sandbox",
    }
    if picture.is_image:
        return Response(content, media_type=picture.content_type, headers=headers)
    headers["content-disposition"] = f'attachment; filename="{attachment_id[:64]}"'
    return Response(content, media_type="application/octet-stream", headers=headers)


@router.get("/attachments/{attachment_id}/small")
@access(Access.UNIT)
async def small_picture(visit: Visiting, attachment_id: str) -> Response:
    """A picture of a case as the conversation shows it: small, and without the camera's notes."""
    picture, content = await visit.cases.picture(attachment_id)
    if not picture.is_image:
        raise PictureNotFound(attachment_id)
    headers = {"cache-control": "private, max-age=3600", "content-security-policy": "default-src 'none'; sandbox"}
    return Response(await visit.deps.thumbnails.of(content), media_type="image/jpeg", headers=headers)


@router.get("/live")
@access(Access.UNIT)
async def live(visit: Visiting, queue: str = "", pending: str = "", case: str = "", code: str = "") -> Response:
    """Signals of what changed, for one open page."""
    if code:
        await visit.cases.case(code.upper())
    seen = {"queue": queue, "pending": pending} | ({"case": case} if code else {})
    watcher = Watcher(visit.officer.account, scope_of(visit.officer), code.upper() or None, seen)
    token = visit.request.cookies.get(visit.deps.cookie, "")

    async def is_valid() -> bool:
        try:
            session = await visit.deps.sessions.find(token, is_use=False)
        except StoreUnavailable:
            return True  # nothing can be fetched meanwhile; the page is told of the trouble
        return session is not None and scope_of(session.officer) == watcher.scope

    return StreamingResponse(
        visit.deps.live.stream(watcher, is_valid),
        media_type="text/event-stream",
        headers={"cache-control": "no-store", "x-accel-buffering": "no"},
    )
