"""Which Zalo the hub talks to: a generated configuration for the simulator, or the person's own."""

import secrets
from collections.abc import Mapping
from pathlib import Path

import yaml

from shared.errors import ConfigurationError
from shared.zalo_config import load_zalo_config
from stack.errors import StackError
from stack.supervision import write_private

DEMO_APP_ID = "1000000000000000001"

DEMO_PAGES = {
    "an-phu-dong": "Công an phường An Phú Đông",
    "thanh-loc": "Công an phường Thạnh Lộc",
    "thoi-an": "Công an phường Thới An",
    "thanh-xuan": "Công an phường Thạnh Xuân",
    "tan-thoi-hiep": "Công an phường Tân Thới Hiệp",
    "hiep-thanh": "Công an phường Hiệp Thành",
    "trung-my-tay": "Công an phường Trung Mỹ Tây",
    "tan-chanh-hiep": "Công an phường Tân Chánh Hiệp",
    "dong-hung-thuan": "Công an phường Đông Hưng Thuận",
    "tan-hung-thuan": "Công an phường Tân Hưng Thuận",
    "tan-thoi-nhat": "Công an phường Tân Thới Nhất",
    "doi-qlhc": "Đội Cảnh sát quản lý hành chính về trật tự xã hội",
    "doi-csgt": "Đội Cảnh sát giao thông - trật tự",
    "doi-pccc": "Đội Cảnh sát phòng cháy, chữa cháy và cứu nạn, cứu hộ",
    "district": "Công an Quận 12",
}
"""The demonstration's pages as citizens see them; a page is called like the unit that owns it at first."""


def write_demo_config(file: Path, simulator_url: str) -> None:
    """Write the configuration that hub and simulator share; secrets are kept, addresses follow the run."""
    if file.exists():
        config = yaml.safe_load(file.read_text(encoding="utf-8"))
    else:
        config = {
            "apps": [
                {
                    "app_id": DEMO_APP_ID,
                    "app_secret": secrets.token_urlsafe(24),
                    "oa_secret_keys": [secrets.token_urlsafe(24)],
                }
            ],
            "pages": [
                {
                    "page": page,
                    "oa_id": str(4_000_000_000_000_000_000 + number),
                    "app_id": DEMO_APP_ID,
                    "name": name,
                    "refresh_token": secrets.token_urlsafe(48),
                }
                for number, (page, name) in enumerate(DEMO_PAGES.items(), start=1)
            ],
        }
    config |= {"oa_api_url": simulator_url, "oauth_url": simulator_url, "upload_url": simulator_url}
    write_private(file, yaml.safe_dump(config, allow_unicode=True, sort_keys=False))


def check_own_config(file: Path | None, environment: Mapping[str, str]) -> None:
    """Check what `SIMULATOR=off` needs before anything is started.

    Raises:
        StackError: something is missing or wrong; the text names it and shows no secret.
    """
    missing = [name for name in ("ZALO_APPS", "ZALO_PAGES") if not environment.get(name)]
    if file is None and missing:
        raise StackError(
            "zalo_settings_missing",
            f"SIMULATOR=off needs to know Zalo's apps and pages, and {' and '.join(missing)} "
            f"{'is' if len(missing) == 1 else 'are'} not set, nor is ZALO_CONFIG_FILE.",
            "Write a file like config/zalo.example.yaml and run: make up SIMULATOR=off ZALO_CONFIG_FILE=…",
        )
    try:
        load_zalo_config(file)
    except ConfigurationError as error:
        raise StackError("zalo_settings_invalid", str(error), "Correct it and run `make up` again.") from error
