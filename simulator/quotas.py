"""Who pays for a message: free, the package, what was given or bought, or the Zalo Cloud account."""

from __future__ import annotations

from datetime import datetime

from simulator.errors import ZaloRefusal
from simulator.limits import last_renewal, local_day, next_renewal
from simulator.messages import QuotaType
from simulator.world import App, Page

MESSAGE_PRICE_VND = 55  # a third party's figure for a consultation message outside of the free window


def renew(page: Page, now: datetime) -> None:
    """Fill the package's quota when its month has begun anew."""
    began = last_renewal(local_day(now), page.config.renews_on_day).isoformat()
    if page.quota_period and began > page.quota_period:
        page.sub_quota_remain = page.package.messages_a_month
    page.quota_period = max(began, page.quota_period)


def renewal_of(page: Page, now: datetime) -> str:
    """When the package's quota is full again, as Zalo writes dates."""
    return next_renewal(local_day(now), page.config.renews_on_day).strftime("%d/%m/%Y")


def charge(page: Page, quota: QuotaType, now: datetime) -> dict[str, str] | None:
    """Take the price of one message from the first purse that has it; no quota object means a billed message.

    Raises:
        ZaloRefusal: -320 without a Zalo Cloud account, -321 when there is too little money in it.
    """
    if quota != "sub_quota":
        return {"quota_type": quota}
    renew(page, now)
    if page.sub_quota_remain > 0:
        page.sub_quota_remain -= 1
        return {
            "quota_type": "sub_quota",
            "remain": str(page.sub_quota_remain),
            "total": str(page.package.messages_a_month),
            "expired_date": renewal_of(page, now),
        }
    if page.reward_quota > 0:
        page.reward_quota -= 1
        return {"quota_type": "reward_quota", "remain": str(page.reward_quota)}
    if page.purchase_quota > 0:
        page.purchase_quota -= 1
        owner = {"owner_type": "OA", "owner_id": page.oa_id}
        return {"quota_type": "purchase_quota", "remain": str(page.purchase_quota), **owner}
    bill(page.app)
    return None


def bill(app: App) -> None:
    """Take the price of one message from the app's Zalo Cloud account.

    Raises:
        ZaloRefusal: -320 without an account, -321 when there is too little money in it.
    """
    if not app.has_cloud_account:
        raise ZaloRefusal(-320)
    if app.balance_vnd is not None:
        if app.balance_vnd < MESSAGE_PRICE_VND:
            raise ZaloRefusal(-321)
        app.balance_vnd -= MESSAGE_PRICE_VND
    app.billed_vnd += MESSAGE_PRICE_VND
