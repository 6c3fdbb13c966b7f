"""A ward's 60,000 followers are cheap."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

from simulator.settings import load_zalo_config, write_example_config
from tests.unit.simulator.live import WARD, Live, settings_for

FOLLOWERS = 60_000
MEMORY_MAX_MEGABYTES = 200

# In a process of its own: the peak is the simulator's and not the test runner's.
PROGRAM = """
import sys
from datetime import UTC, datetime
from pathlib import Path
from simulator.core import Simulator
from simulator import broadcasts
from simulator.settings import SimulatorSettings
from simulator.world import Article

settings = SimulatorSettings(config=Path(sys.argv[1]), state_dir=Path(sys.argv[2]), broadcast_seconds=0)
simulator = Simulator(settings)
page = next(iter(simulator.world.pages.values()))
for number in range(int(sys.argv[3])):
    simulator.world.contact(page, f"follower-{number}").follows = True
assert len(page.contacts) == int(sys.argv[3])
page.articles["a"] = Article("a", {"title": "t", "description": "d", "type": "normal"}, 0, 0)
simulator.clock.set_to(datetime(2026, 11, 24, 3, tzinfo=UTC))
element = {"media_type": "article", "attachment_id": "a"}
payload = {"template_type": "media", "elements": [element]}
broadcasts.broadcast(simulator, page, {}, {"attachment": {"type": "template", "payload": payload}})
assert page.broadcasts[0].delivered == int(sys.argv[3])
simulator.save()
# Not getrusage: after a fork its peak begins with the memory of the parent.
status = dict(line.split(":", 1) for line in Path("/proc/self/status").read_text().splitlines())
print(int(status["VmHWM"].split()[0]) // 1024)
"""


def test_sixty_thousand_followers_a_broadcast_to_all_and_a_snapshot_fit_in_200_megabytes(tmp_path: Path) -> None:
    settings = settings_for(tmp_path)
    arguments = [str(settings.config), str(settings.state_dir), str(FOLLOWERS)]
    run = subprocess.run(
        [sys.executable, "-c", PROGRAM, *arguments],
        cwd=Path(__file__).parents[3],
        capture_output=True,
        text=True,
        check=True,
        timeout=120,
    )
    peak_megabytes = int(run.stdout)
    print(f"{FOLLOWERS} followers: peak {peak_megabytes} MB")
    assert peak_megabytes < MEMORY_MAX_MEGABYTES


async def test_the_example_configuration_works_and_is_not_overwritten(tmp_path: Path) -> None:
    path = tmp_path / "new" / "zalo.yaml"
    write_example_config(path)
    assert path.stat().st_mode & 0o777 == 0o600
    assert load_zalo_config(path).pages[0].page == "first-page"


async def test_a_persons_reaction_reaches_the_page(live: Live) -> None:
    token, user_id = await live.token(), (await live.write("hỏi"))["user_id"]
    msg_id = (await live.send(token, user_id, "đáp"))["data"]["message_id"]
    answer = await live.post("/control/reactions", {"page": WARD, "citizen": "0901", "msg_id": msg_id})
    assert answer["webhook"]["status"] == 200
    item = (await live.get(f"/control/conversations/{WARD}/{user_id}"))["items"][-1]
    assert item["reaction"] == "/-heart"
