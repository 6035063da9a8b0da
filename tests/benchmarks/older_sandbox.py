"""The sandbox in the older form, which alone the agents of the official SDK read; its URL is on stderr."""

from __future__ import annotations

import sys

import anyio

from inferencesh_sandbox import Facts, Sandbox, serving


async def main() -> None:
    facts = Facts(versioned_answers=True, messages_preloaded=True, run_end_events=False, errors_in_messages=True)
    async with serving(Sandbox(facts=facts)) as url:
        sys.stderr.write(f"{url}\n")
        sys.stderr.flush()
        await anyio.sleep_forever()


if __name__ == "__main__":
    anyio.run(main)
