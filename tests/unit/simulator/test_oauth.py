"""Tokens: what works once, what dies when, what survives a restart."""

from __future__ import annotations

from pathlib import Path
from urllib.parse import parse_qs, urlsplit

import pytest

from simulator.clock import Clock
from simulator.errors import OAuthRefusal, ZaloRefusal
from simulator.oauth import TokenOffice, challenge_of
from simulator.settings import load_zalo_config
from simulator.world import Page, World
from tests.unit.simulator.live import APP_ID, APP_SECRET, OA_IDS, WARD, write_config

DAY = 86_400


class Office:
    """A token office that can be closed and opened again over the same file."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.clock = Clock()
        self.reopen()

    def reopen(self) -> None:
        config = load_zalo_config(write_config(self.folder))
        self.world = World(config, seed=1, webhook_url="", names=["Nguyễn Văn An"])
        self.tokens = TokenOffice(self.world, self.clock, self.folder / "tokens.json")

    @property
    def ward(self) -> Page:
        return self.world.page(WARD)

    def refresh(self, token: str, *, secret: str = APP_SECRET, app_id: str = APP_ID) -> dict[str, str]:
        form = {"grant_type": "refresh_token", "refresh_token": token, "app_id": app_id}
        return self.tokens.exchange(form, secret)[1]

    def redeem(self, code: str, verifier: str = "") -> dict[str, str]:
        form = {"grant_type": "authorization_code", "code": code, "app_id": APP_ID, "code_verifier": verifier}
        return self.tokens.exchange(form, APP_SECRET)[1]

    def consent(self, challenge: str = "") -> str:
        address = self.tokens.consent(self.ward, "https://hub.vn/callback?from=zalo", challenge, "s1")
        query = parse_qs(urlsplit(address).query)
        assert query["oa_id"] == [OA_IDS[WARD]]
        assert query["state"] == ["s1"]
        assert query["from"] == ["zalo"]
        return query["code"][0]


@pytest.fixture
def office(tmp_path: Path) -> Office:
    return Office(tmp_path)


def refusal_code(call: object, *arguments: str, **options: str) -> int:
    assert callable(call)
    try:
        call(*arguments, **options)
    except (OAuthRefusal, ZaloRefusal) as refusal:
        return refusal.code
    return 0


def test_expires_in_is_text(office: Office) -> None:
    answer = office.refresh("first-8")
    assert set(answer) == {"access_token", "refresh_token", "expires_in"}
    assert answer["expires_in"] == "90000"


def test_a_refresh_token_works_once_and_rotates(office: Office) -> None:
    second = office.refresh("first-8")["refresh_token"]
    assert refusal_code(office.refresh, "first-8") == -14014
    third = office.refresh(second)["refresh_token"]
    assert refusal_code(office.refresh, second) == -14014
    assert len({second, third, office.refresh(third)["refresh_token"]}) == 3


def test_the_old_access_token_dies_when_a_new_one_is_issued(office: Office) -> None:
    first = office.refresh("first-8")
    assert office.tokens.page_of(first["access_token"]) is office.ward
    second = office.refresh(first["refresh_token"])
    assert refusal_code(office.tokens.page_of, first["access_token"]) == -216
    assert office.tokens.page_of(second["access_token"]) is office.ward


def test_a_failed_refresh_uses_nothing_up(office: Office) -> None:
    assert refusal_code(office.refresh, "first-8", secret="wrong") == -14002
    assert refusal_code(office.refresh, "first-8", app_id="999") == -14002
    assert refusal_code(office.refresh, "") == -14014
    assert office.refresh("first-8")["access_token"]


def test_tokens_survive_a_restart(office: Office) -> None:
    answer = office.refresh("first-8")
    office.reopen()
    assert office.tokens.page_of(answer["access_token"]) is office.ward
    assert refusal_code(office.refresh, "first-8") == -14014
    assert office.refresh(answer["refresh_token"])["access_token"]


def test_the_token_file_is_for_its_owner_only(office: Office) -> None:
    office.refresh("first-8")
    assert (office.folder / "tokens.json").stat().st_mode & 0o777 == 0o600


def test_an_access_token_lives_25_hours(office: Office) -> None:
    token = office.refresh("first-8")["access_token"]
    office.clock.shift(25 * 3600 - 5)
    assert office.tokens.page_of(token) is office.ward
    office.clock.shift(6)
    assert refusal_code(office.tokens.page_of, token) == -220


def test_a_refresh_token_lives_three_months(office: Office) -> None:
    token = office.refresh("first-8")["refresh_token"]
    office.clock.shift(90 * DAY + 1)
    assert refusal_code(office.refresh, token) == -14020


def test_a_revoked_access_token_can_be_replaced(office: Office) -> None:
    answer = office.refresh("first-8")
    assert office.tokens.revoke(office.ward)
    assert refusal_code(office.tokens.page_of, answer["access_token"]) == -220
    assert office.refresh(answer["refresh_token"])["access_token"]


def test_after_revoking_the_refresh_token_only_a_consent_helps(office: Office) -> None:
    answer = office.refresh("first-8")
    office.tokens.revoke_refresh_token(office.ward)
    assert refusal_code(office.refresh, answer["refresh_token"]) == -14014
    assert office.redeem(office.consent())["access_token"]


def test_a_code_works_once(office: Office) -> None:
    code = office.consent()
    assert office.redeem(code)["expires_in"] == "90000"
    assert refusal_code(office.redeem, code) == -14010


def test_a_code_lives_ten_minutes(office: Office) -> None:
    code = office.consent()
    office.clock.shift(601)
    assert refusal_code(office.redeem, code) == -14010


def test_a_code_with_a_challenge_wants_its_verifier(office: Office) -> None:
    # The pair of RFC 7636, appendix B.
    verifier, challenge = "dBjftJeZ4CVP-mB92K27uhbUJU1p1r_wW1gFWFOEjXk", "E9Melhoa2OwvFrEMTJguCHaoeK1t8URWbuGJSstw-cM"
    assert challenge_of(verifier) == challenge
    code = office.consent(challenge)
    assert refusal_code(office.redeem, code, "another") == -14010
    assert office.redeem(code, verifier)["access_token"]


def test_forgetting_all_tokens_brings_back_the_first_day(office: Office) -> None:
    office.refresh("first-8")
    office.tokens.forget_all()
    assert office.refresh("first-8")["access_token"]
