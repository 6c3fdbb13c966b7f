"""Each error code of Zalo's table, and what we do about it."""

from datetime import timedelta
from pathlib import Path

import pytest

from services.notifier.adapters.delivery_rules import load_delivery_rules
from services.notifier.adapters.zalo import FINAL_REFRESH_CODES, read_answer
from services.notifier.domain.next_step import Fail, Park, Sent, TryAgain, next_step
from services.notifier.domain.outcomes import Accepted, NotSent, Refused, Unknown
from shared.errors import ConfigurationError
from tests.factories import NOW
from tests.unit.notifier.fakes import DATA_DIR, RULES
from tests.unit.notifier.samples import a_claimed_reply

# code: (class, reason, what follows the first failure: seconds until the next try, or None for an end)
EXPECTED: dict[int, tuple[str, str, float | None]] = {
    -32: ("throttled", "zalo.rate_limited", 5),
    -100: ("permanent", "zalo.attachment_expired", None),
    -200: ("retryable", "zalo.send_failed", 10),
    -201: ("permanent", "zalo.invalid_parameter", None),
    -202: ("account", "zalo.invalid_mac", 30),
    -204: ("account", "zalo.page_disabled", 30),
    -205: ("account", "zalo.page_not_found", 30),
    -207: ("account", "zalo.page_not_registered", 30),
    -208: ("account", "zalo.page_without_secret", 30),
    -209: ("account", "zalo.app_not_active", 30),
    -210: ("permanent", "zalo.parameter_too_large", None),
    -211: ("quota", "zalo.out_of_quota", None),
    -212: ("account", "zalo.api_not_registered", 30),
    -213: ("permanent", "zalo.not_a_follower", None),
    -214: ("retryable", "zalo.article_in_process", 5),
    -215: ("account", "zalo.invalid_app_id", 30),
    -216: ("token", "zalo.token_invalid", 30),
    -217: ("permanent", "zalo.invitation_blocked", None),
    -218: ("quota", "zalo.receiver_quota_used", None),
    -219: ("account", "zalo.app_removed", 30),
    -220: ("token", "zalo.token_expired", 30),
    -221: ("account", "zalo.page_not_verified", 30),
    -222: ("permanent", "zalo.user_blocked_or_idle", None),
    -223: ("account", "zalo.api_not_authorised", 30),
    -224: ("account", "zalo.package_too_small", 30),
    -227: ("permanent", "zalo.user_banned_or_idle", None),
    -230: ("permanent", "zalo.window_closed", None),
    -232: ("permanent", "zalo.no_interaction", None),
    -233: ("permanent", "zalo.message_type_unsupported", None),
    -234: ("retryable", "zalo.night", 13.5 * 3600),  # 16:30 in Vietnam; the next 06:00
    -235: ("account", "zalo.page_type_unsupported", 30),
    -237: ("account", "zalo.group_disabled", 30),
    -238: ("account", "zalo.asset_disabled", 30),
    -240: ("permanent", "zalo.endpoint_shut_down", None),
    -241: ("account", "zalo.asset_used", 30),
    -242: ("account", "zalo.invalid_secret_proof", 30),
    -244: ("permanent", "zalo.user_restricted", None),
    -248: ("permanent", "zalo.standards_violated", None),
    -249: ("permanent", "zalo.template_not_by_user_id", None),
    -305: ("permanent", "zalo.window_closed", None),
    -311: ("quota", "zalo.reply_quota_used", None),
    -320: ("account", "zalo.billing_not_linked", 30),
    -321: ("account", "zalo.out_of_money", 30),
    -403: ("account", "zalo.not_in_group", 30),
}


BUSINESS: dict[int, tuple[str, str, float | None]] = {
    -108: ("permanent", "zalo.phone_invalid", None),
    -124: ("token", "zalo.token_invalid", 30),
    -133: ("retryable", "zalo.night", 13.5 * 3600),
    -144: ("quota", "zalo.phone_quota_used", None),
}


def test_the_table_has_exactly_the_documented_codes() -> None:
    assert set(RULES.errors.codes) == set(EXPECTED)
    assert set(RULES.business_errors.codes) == set(BUSINESS)


@pytest.mark.parametrize("code", sorted(BUSINESS))
def test_a_code_of_the_business_host_has_its_class_its_reason_and_its_next_step(code: int) -> None:
    error_class, reason, seconds = BUSINESS[code]
    outcome = read_answer(RULES.business_errors, 200, {}, {"error": code, "message": "refused"})
    assert isinstance(outcome, Refused)
    assert (outcome.rule.error_class, outcome.rule.reason) == (error_class, reason)
    step = next_step(outcome, a_claimed_reply(), schedules=RULES.schedules, now=NOW)
    assert step == (Fail(reason) if seconds is None else TryAgain(NOW + timedelta(seconds=seconds), reason, 1))


def test_the_hosts_do_not_share_their_codes() -> None:
    for code, table in ((-213, RULES.business_errors), (-108, RULES.errors)):
        assert isinstance(read_answer(table, 200, {}, {"error": code, "message": "?"}), Unknown)


@pytest.mark.parametrize("code", sorted(EXPECTED))
def test_a_code_has_its_class_its_reason_and_its_next_step(code: int) -> None:
    error_class, reason, wait_seconds = EXPECTED[code]

    rule = RULES.errors.rule_of(code, "")

    assert rule is not None
    assert (rule.error_class, rule.reason) == (error_class, reason)
    step = next_step(Refused(code, rule), a_claimed_reply(), schedules=RULES.schedules, now=NOW)
    match step:
        case TryAgain(at, why, failures):
            assert ((at - NOW).total_seconds(), why, failures) == (wait_seconds, reason, 1)
        case _:
            assert wait_seconds is None
            assert step == Fail(reason)


@pytest.mark.parametrize("code", sorted(EXPECTED))
@pytest.mark.parametrize("as_text", [False, True])
def test_a_code_is_recognised_in_zalos_answer_and_never_taken_for_an_acceptance(code: int, as_text: bool) -> None:
    answer = {"error": str(code) if as_text else code, "message": "", "data": {"message_id": "m1"}}

    found = read_answer(RULES.errors, 200, {}, answer)

    assert isinstance(found, Refused)
    assert (found.code, found.rule.reason) == (code, EXPECTED[code][1])


@pytest.mark.parametrize(
    ("code", "is_final"),
    [(-14002, False), (-14003, False), (-14010, False), (-14029, False), (-14014, True), (-14020, True)],
)
def test_only_two_codes_of_oauth_say_that_the_refresh_token_is_worth_nothing(code: int, is_final: bool) -> None:
    assert (code in FINAL_REFRESH_CODES) == is_final


def test_the_article_meaning_of_a_code_is_told_by_its_text() -> None:
    rule = RULES.errors.rule_of(-223, "OA has reached the article QUOTA of this month")

    assert rule is not None
    assert (rule.error_class, rule.reason) == ("quota", "zalo.article_quota_used")


def test_a_code_that_nobody_documented_has_no_rule() -> None:
    assert RULES.errors.rule_of(-9_999, "") is None


@pytest.mark.parametrize("code", [code for code, (kind, _, _) in EXPECTED.items() if kind in {"account", "token"}])
def test_what_a_person_must_repair_is_given_up_after_three_tries_with_its_reason(code: int) -> None:
    rule = RULES.errors.rule_of(code, "")
    assert rule is not None

    step = next_step(Refused(code, rule), a_claimed_reply(failures=3), schedules=RULES.schedules, now=NOW)

    assert step == Fail(EXPECTED[code][1])


def test_only_a_proof_that_zalo_did_not_take_it_leads_to_another_try() -> None:
    reply = a_claimed_reply()

    assert next_step(Unknown("zalo.answer_lost", "reset"), reply, schedules=RULES.schedules, now=NOW) == Park(
        "zalo.answer_lost", "reset"
    )
    assert isinstance(next_step(NotSent("refused"), reply, schedules=RULES.schedules, now=NOW), TryAgain)
    assert next_step(Accepted("m1", "reply"), reply, schedules=RULES.schedules, now=NOW) == Sent("m1", "reply")


def test_the_next_try_waits_for_the_end_of_a_shared_block() -> None:
    rule = RULES.errors.rule_of(-32, "")
    assert rule is not None
    block_ends_at = NOW.replace(minute=31)

    step = next_step(
        Refused(-32, rule), a_claimed_reply(), schedules=RULES.schedules, now=NOW, not_before=block_ends_at
    )

    assert step == TryAgain(block_ends_at, "zalo.rate_limited", 1)


def test_rules_that_name_an_unknown_schedule_are_refused(tmp_path: Path) -> None:
    folder = tmp_path / "delivery"
    folder.mkdir()
    for file in (DATA_DIR / "delivery").iterdir():
        (folder / file.name).write_text(file.read_text("utf-8"), "utf-8")
    errors = folder / "zalo_errors.yaml"
    errors.write_text(errors.read_text("utf-8").replace("retry: send_failed", "retry: whenever"), "utf-8")

    with pytest.raises(ConfigurationError, match="whenever"):
        load_delivery_rules(tmp_path)
