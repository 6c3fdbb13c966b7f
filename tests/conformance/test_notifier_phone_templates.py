"""Our calls to Zalo's business host, which sends templates by phone number, and its receipts, against the simulator."""

from datetime import UTC, datetime
from pathlib import Path

import pytest

from services.intake.channels.zalo.normalise import Webhook, decide
from services.notifier.adapters.zalo_copies import Address, CopyClient, phone_form
from services.notifier.domain.broadcast import TemplateContent
from services.notifier.domain.outcomes import Accepted, Refused
from shared.events import TemplateDelivered
from shared.zalo_config import ZaloConfig, ZaloPage
from tests.unit.notifier.fakes import RULES
from tests.unit.simulator.live import APP_ID, APP_SECRET, OA_IDS, WARD, eventually, listening, running, settings_for

DAY, NIGHT = "2026-11-24T03:00:00+00:00", "2026-11-24T17:00:00+00:00"
PHONE, TRACKING = "84900000001", "0f" * 16
TEMPLATE = TemplateContent(template_id="200003", data={"otp": "12"}, text="Mã", by_user_id=False, by_phone=True)


@pytest.mark.parametrize(
    ("now", "phone", "token", "reason"),
    [
        (DAY, PHONE, None, None),
        (DAY, "849", None, "zalo.phone_invalid"),
        (NIGHT, PHONE, None, "zalo.night"),
        (DAY, PHONE, "old", "zalo.token_invalid"),
    ],
)
async def test_zalo_takes_our_template_by_phone_or_says_why_not(
    tmp_path: Path, now: str, phone: str, token: str | None, reason: str | None
) -> None:
    async with running(settings_for(tmp_path)) as live:
        await live.post("/control/clock", {"now": now})
        config = ZaloConfig.model_validate(
            {
                "business_url": live.url,
                "apps": [{"app_id": APP_ID, "app_secret": APP_SECRET, "oa_secret_keys": ["k"]}],
                "pages": [{"page": WARD, "oa_id": OA_IDS[WARD], "app_id": APP_ID}],
            }
        )
        address = Address("", APP_ID, token or await live.token(), phone=phone, tracking_id=TRACKING)
        async with CopyClient(
            config,
            RULES.errors,
            RULES.business_errors,
            timeout_seconds=5,
            connect_timeout_seconds=2,
            connections=1,
        ) as zalo:
            (outcome,) = await zalo.send(phone_form(TEMPLATE), [address])

    if reason is None:
        assert isinstance(outcome, Accepted)
        assert outcome.message_id
    else:
        assert isinstance(outcome, Refused)
        assert outcome.rule.reason == reason


async def test_the_receipt_of_our_template_names_our_send_and_tells_no_number(tmp_path: Path) -> None:
    async with listening() as hub, running(settings_for(tmp_path, webhook_url=hub.url)) as live:
        await live.post("/control/clock", {"now": DAY})
        headers = {"access_token": await live.token()}
        body = {"phone": PHONE, "template_id": "200003", "template_data": {"otp": "12"}, "tracking_id": TRACKING}
        sent = await live.post("/message/template", body, headers=headers)
        await eventually(lambda: bool(hub.named("user_received_message")))
        (report,) = hub.named("user_received_message")

    webhook = Webhook(report.raw, APP_ID, "", report.headers["x-zevent-server"] == "ZNS", datetime.now(UTC))
    decision = decide(webhook, {OA_IDS[WARD]: ZaloPage(page=WARD, oa_id=OA_IDS[WARD], app_id=APP_ID)})

    (outgoing,) = decision.outgoing
    assert isinstance(outgoing.event, TemplateDelivered)
    assert (outgoing.event.tracking_id, outgoing.event.message_id) == (TRACKING, sent["data"]["msg_id"])
    assert PHONE not in repr(decision)
