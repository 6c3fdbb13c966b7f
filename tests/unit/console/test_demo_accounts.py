"""The password of the demo accounts: made once, kept private, the same for every replica."""

import re
from pathlib import Path
from typing import get_args

import pytest

from services.console.adapters.console_data import load_quick_replies, load_windows, quick_replies_for
from services.console.adapters.demo_accounts import demo_officers, demo_password
from services.console.domain import Role
from shared.errors import ConfigurationError
from shared.events import LANGUAGES


def test_the_demo_password_is_made_once_and_only_its_owner_may_read_it(tmp_path: Path) -> None:
    home = tmp_path / "home"
    password = demo_password(home, None)
    assert demo_password(home, None) == password
    assert len(password) >= 16
    assert (home / "demo-accounts.json").stat().st_mode & 0o777 == 0o600


def test_a_given_demo_password_is_used_and_written_down(tmp_path: Path) -> None:
    assert demo_password(tmp_path, "một mật khẩu") == "một mật khẩu"
    assert demo_password(tmp_path, None) == "một mật khẩu"


def test_a_broken_password_file_says_what_to_do(tmp_path: Path) -> None:
    (tmp_path / "demo-accounts.json").write_text("{", encoding="utf-8")
    with pytest.raises(ConfigurationError, match="delete it"):
        demo_password(tmp_path, None)


def test_each_unit_has_an_officer_and_each_other_role_an_account() -> None:
    units = [("thoi-an", "Công an phường Thới An"), ("tan-chanh-hiep", "Công an phường Tân Chánh Hiệp")]
    officers = demo_officers(units, lead_unit="district")
    assert [(officer.account, officer.unit, officer.role) for officer in officers] == [
        ("thoi-an", "thoi-an", "officer"),
        ("tan-chanh-hiep", "tan-chanh-hiep", "officer"),
        ("truc-ban", "tan-chanh-hiep", "duty"),
        ("chi-huy", "tan-chanh-hiep", "commander"),
        ("lanh-dao", "district", "lead"),
    ]
    assert {officer.role for officer in officers} == set(get_args(Role))


def test_the_data_files_can_be_read_and_quick_replies_fit_the_category() -> None:
    assert load_windows(Path("data"))
    replies = load_quick_replies()
    assert all(set(reply.texts) == set(reply.titles) == set(LANGUAGES) for reply in replies)
    for reply in replies:
        numbers = [re.findall(r"\d+", reply.texts[language]) for language in LANGUAGES]
        assert numbers[0] == numbers[1], f"{reply.key}: both languages name the same numbers to call"
    assert "emergency" in quick_replies_for("emergency", replies)[0].categories
