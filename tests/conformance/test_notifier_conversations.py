"""Our reading of Zalo's conversation API, against the simulator and the stub of the kill tests."""

from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from services.notifier.adapters.zalo import MESSAGES_A_CALL, ZaloClient
from services.notifier.domain.outcomes import Accepted, Refused
from shared.events import ReplyContent
from shared.zalo_config import ZaloConfig
from tests.unit.notifier.fakes import RULES
from tests.unit.notifier.zalo_stub import ZaloStub
from tests.unit.simulator.live import APP_ID, APP_SECRET, OA_IDS, WARD, running, settings_for

PAGE = {"page": WARD, "oa_id": OA_IDS[WARD], "app_id": APP_ID}
APP = {"app_id": APP_ID, "app_secret": APP_SECRET, "oa_secret_keys": ["k"]}


@pytest.fixture(params=["simulator", "stub"])
async def whom(request: pytest.FixtureRequest, tmp_path: Path) -> AsyncIterator[tuple[ZaloConfig, str, str]]:
    """A Zalo, an access token of a page there, and somebody who may be written to."""
    if request.param == "stub":
        async with ZaloStub(checks_tokens=False) as stub:
            yield stub.config(), "any", "2000000000000000001"
        return
    async with running(settings_for(tmp_path)) as live:
        user_id = (await live.write("xin chào"))["user_id"]
        config = ZaloConfig.model_validate({"oa_api_url": live.url, "apps": [APP], "pages": [PAGE]})
        yield config, await live.token(), user_id


async def test_zalos_list_shows_what_we_sent_from_the_newest(whom: tuple[ZaloConfig, str, str]) -> None:
    config, token, user_id = whom
    app_id = config.apps[0].app_id
    async with ZaloClient(config, RULES.errors, timeout_seconds=5, connect_timeout_seconds=2, connections=2) as zalo:
        sent = {}
        for number in range(MESSAGES_A_CALL + 2):
            text = f"Mời bác đến trụ sở ({number})"
            outcome = await zalo.send(ReplyContent(text=text), app_id=app_id, user_id=user_id, access_token=token)
            assert isinstance(outcome, Accepted)
            sent[outcome.message_id] = text

        first = await zalo.conversation(user_id, offset=0, app_id=app_id, access_token=token)
        second = await zalo.conversation(user_id, offset=MESSAGES_A_CALL, app_id=app_id, access_token=token)
        assert isinstance(first, list)
        assert isinstance(second, list)
        assert len(first) == MESSAGES_A_CALL > len(second)
        messages = first + second
        assert [one.at for one in messages] == sorted((one.at for one in messages), reverse=True)
        assert {one.message_id: one.text for one in messages if one.is_from_page} == sent
        assert not any(one.text in sent.values() for one in messages if not one.is_from_page)


async def test_a_conversation_with_a_stranger_is_refused(tmp_path: Path) -> None:
    async with running(settings_for(tmp_path)) as live:
        config = ZaloConfig.model_validate({"oa_api_url": live.url, "apps": [APP], "pages": [PAGE]})
        client = ZaloClient(config, RULES.errors, timeout_seconds=5, connect_timeout_seconds=2, connections=2)
        async with client as zalo:
            answer = await zalo.conversation("123", offset=0, app_id=APP_ID, access_token=await live.token())
    assert isinstance(answer, Refused)
