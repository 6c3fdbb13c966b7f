"""A real store for one test, with its indexes, gone afterwards."""

import uuid
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from pydantic import SecretStr

from shared.collections import create_indexes
from shared.mongo import Store, open_store
from shared.settings import HubSettings


@asynccontextmanager
async def fresh_store(uri: str, driver: str) -> AsyncIterator[Store]:
    """A database of its own on the test server."""
    settings = HubSettings.model_validate(
        {"mongo_uri": SecretStr(uri), "mongo_database": f"test_{uuid.uuid4().hex[:12]}", "mongo_driver": driver}
    )
    store = open_store(settings)
    try:
        await create_indexes(store)
        yield store
    finally:
        await store.drop()
        await store.close()
