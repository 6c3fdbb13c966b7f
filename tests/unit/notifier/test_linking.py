"""Linking a page by hand: what is asked of Zalo, what is taken from it, and what the page has afterwards."""

import asyncio
from urllib.parse import parse_qs, urlsplit

import pytest

from services.notifier.domain.linking import LinkRequest, WrongAnswer, code_of
from services.notifier.domain.outcomes import NotSent, RefreshOutcome, RefreshRefused, Unknown
from services.notifier.errors import LinkFailed
from services.notifier.handlers.keep_tokens import AccessToken
from services.notifier.handlers.link_page import link_page
from shared.zalo_config import ZaloPage
from tests.factories import OA_ID, PAGE
from tests.unit.notifier.fake_tokens import FakeOAuth
from tests.unit.notifier.samples import APP_ID
from tests.unit.notifier.test_keep_tokens import HOUR, Office, lost

REQUEST = LinkRequest(APP_ID, OA_ID, "https://hub.vn/linked", "v" * 43, "s1")
ZALO_PAGE = ZaloPage(page=PAGE, oa_id=OA_ID, app_id=APP_ID)


def test_the_challenge_is_that_of_the_standard() -> None:
    verifier = "dBjftJeZ4CVP-mB92K27uhbUJU1p1r_wW1gFWFOEjXk"  # RFC 7636, appendix B

    request = LinkRequest(APP_ID, OA_ID, "https://hub.vn", verifier, "s")

    assert request.challenge == "E9Melhoa2OwvFrEMTJguCHaoeK1t8URWbuGJSstw-cM"


def test_the_address_has_the_challenge_and_never_the_verifier() -> None:
    request = LinkRequest.new(app_id=APP_ID, oa_id=OA_ID, redirect_uri="https://hub.vn/linked?a=1&b=2")

    address = request.consent_url("https://oauth.zaloapp.com")

    assert address.startswith("https://oauth.zaloapp.com/v4/oa/permission?")
    assert parse_qs(urlsplit(address).query) == {
        "app_id": [APP_ID],
        "redirect_uri": ["https://hub.vn/linked?a=1&b=2"],
        "code_challenge": [request.challenge],
        "state": [request.state],
    }
    assert request.verifier not in address
    assert request.verifier.isalnum()
    assert len(request.verifier) == 43
    assert request.verifier != LinkRequest.new(app_id=APP_ID, oa_id=OA_ID, redirect_uri="https://hub.vn").verifier


@pytest.mark.parametrize(
    "answer",
    [
        "c-1",
        "  c-1\n",
        f"https://hub.vn/linked?code=c-1&oa_id={OA_ID}&state=s1",
        f"/linked?oa_id={OA_ID}&state=s1&code=c-1",
        f"code=c-1&oa_id={OA_ID}&state=s1",
        "https://hub.vn/linked?code=c-1&state=s1",
    ],
)
def test_the_code_is_found_in_what_is_pasted(answer: str) -> None:
    assert code_of(answer, REQUEST) == "c-1"


@pytest.mark.parametrize(
    ("answer", "code"),
    [
        ("", "link.no_code"),
        ("two words", "link.no_code"),
        ("https://hub.vn/linked", "link.no_code"),
        ("https://hub.vn/linked?error=-14003&state=s1", "link.no_code"),
        (f"https://hub.vn/linked?code=c-1&oa_id={OA_ID}&state=s2", "link.other_request"),
        (f"https://hub.vn/linked?code=c-1&oa_id={OA_ID}", "link.other_request"),
        ("https://hub.vn/linked?code=c-1&oa_id=4999&state=s1", "link.other_page"),
    ],
)
def test_what_belongs_to_another_request_or_page_is_not_taken(answer: str, code: str) -> None:
    with pytest.raises(WrongAnswer) as caught:
        code_of(answer, REQUEST)

    assert caught.value.code == code


async def link(office: Office, code: str = "c") -> None:
    office.oauth.codes.add(("c", "v"))
    await link_page(ZALO_PAGE, code, "v", office.store, office.oauth)


async def test_a_page_whose_refresh_token_is_used_up_speaks_again_without_a_restart() -> None:
    office = await Office().started()
    office.clock.advance(26 * HOUR)
    office.oauth.answers = [RefreshRefused(-14014, is_final=True)]
    await office.keeper.look_after_all()
    assert office.store.tokens[OA_ID].state == "refused"

    await link(office)
    await office.keeper.look_after_all()

    assert await office.keeper.access(OA_ID) == AccessToken("access-2", 2)
    assert (await office.fact())["alarm"] is None


async def test_a_page_that_never_had_a_token_is_linked() -> None:
    office = Office()
    office.keeper = office.a_keeper(configured=None)

    await link(office)

    assert await office.keeper.access(OA_ID) == AccessToken("access-1", 1)


@pytest.mark.parametrize(
    ("answer", "reason"),
    [
        (RefreshRefused(-14010, is_final=False), "link.refused_14010"),
        (NotSent("refused"), "link.unreachable"),
    ],
)
async def test_a_refused_code_leaves_the_page_as_it_was(answer: RefreshOutcome, reason: str) -> None:
    office = await Office().started()
    before = office.store.tokens[OA_ID]
    office.oauth.answers = [answer]

    with pytest.raises(LinkFailed, match=reason):
        await link(office)

    assert office.store.tokens[OA_ID] == before or office.store.tokens[OA_ID].lease_until != before.lease_until
    assert await office.keeper.access(OA_ID) == AccessToken("access-1", 1)
    assert (await office.fact())["alarm"] is None


@pytest.mark.parametrize("answer", [lost, lambda _: Unknown("zalo.answer_lost", "reset")])
async def test_a_lost_answer_is_told_and_judged_like_that_of_a_refresh(answer: object) -> None:
    office = await Office().started()
    office.oauth.answers = [answer]  # type: ignore[list-item]

    with pytest.raises(LinkFailed, match=r"link\.answer_lost"):
        await link(office)

    assert (await office.fact())["alarm"] == "token.refresh_unknown"
    await link(office)  # a person may do at once what the keeper must not
    assert (await office.fact())["alarm"] is None
    assert office.store.tokens[OA_ID].access_token == office.oauth.access


async def test_no_replica_refreshes_while_a_page_is_linked_and_the_pair_of_the_link_stays() -> None:
    office = await Office().started()
    office.clock.advance(20 * HOUR)
    office.oauth.pause = asyncio.Event()
    started = asyncio.Event()

    class Slow(FakeOAuth):
        async def exchange_code(self, *, app_id: str, code: str, verifier: str) -> RefreshOutcome:
            started.set()
            await asyncio.sleep(0.05)
            return await office.oauth.exchange_code(app_id=app_id, code=code, verifier=verifier)

    office.oauth.codes.add(("c", "v"))
    linking = asyncio.create_task(link_page(ZALO_PAGE, "c", "v", office.store, Slow()))
    await started.wait()
    await office.a_keeper().look_after_all()
    await linking

    assert office.oauth.calls == 1, "only the first refresh of all"
    assert office.store.tokens[OA_ID].access_token == office.oauth.access == "access-2"


async def test_the_pair_of_a_link_is_stored_for_as_long_as_it_takes(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("services.notifier.handlers.link_page.STORE_PAUSE_SECONDS", 0.0)
    office = await Office().started()
    office.store.outages = 3

    await link(office)

    assert office.store.tokens[OA_ID].access_token == "access-2"
