"""Stands for a dialer: places calls through the gateway, for the agents of the pretend organisation of that seed.

A gateway gets no httpx extension, so a header tells it who places a call that names nobody.
"""

import argparse
import asyncio
from collections.abc import Mapping
from typing import Any

import httpx

from call_initiation.program.service import ended_by_signals
from call_initiation.simulator.dialer import Dialer
from call_initiation.simulator.org import Organisation


class Gateway:
    """A client whose calls go through a gateway."""

    def __init__(self, client: httpx.AsyncClient) -> None:
        self._client = client

    async def post(self, path: str, content: bytes, headers: Mapping[str, str], extensions: Any) -> httpx.Response:
        """Place one call."""
        agent = extensions.get("call_initiation", {}).get("agent_id")
        told = {"X-Call-Initiation-Agent-Id": agent} if agent else {}
        return await self._client.post(path, content=content, headers={**headers, **told})


async def dial(gateway: str, seed: int, agents: int, rate: float) -> None:
    """Place calls until SIGINT or SIGTERM; then wait for those under way."""
    agent_ids = Organisation(seed, agents, started=0.0).agent_ids
    async with httpx.AsyncClient(base_url=gateway, timeout=40.0, trust_env=False) as client:
        with ended_by_signals() as end:
            await Dialer(Gateway(client), agent_ids, seed, rate).run(end)


if __name__ == "__main__":
    flags = argparse.ArgumentParser(description="Place pretend calls through the gateway.")
    flags.add_argument("--gateway", default="http://127.0.0.1:8080", help="where calls are sent")
    flags.add_argument("--seed", type=int, default=1, help="the pretend organisation's")
    flags.add_argument("--agents", type=int, default=50, help="how many it has")
    flags.add_argument("--rate", type=float, default=10.0, help="calls a second, on average")
    asyncio.run(dial(**vars(flags.parse_args())))
