"""`roadstead exec`: a command in a running task, without a plugin: a client of ExecuteCommand and its data channel."""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import json
import os
import shlex
import signal
import sys
import termios
import time
import tty
from collections.abc import Iterator
from hashlib import sha256
from typing import Any

import aiohttp
import msgspec

from services.cli.ask import _get, _port, _running
from services.cli.layout import Layout
from services.shared import data_channel as channel
from services.shared.aws.signer import Credentials, signed_headers

TARGET = "AmazonEC2ContainerServiceV20141113.ExecuteCommand"
REFUSED = 255
ANSWER_S = 30.0
END_OF_INPUT = b"\4"
"""What a terminal takes for the end of its input."""


class Refused(Exception):
    """It can't be done; the text is for a person."""


def execute(layout: Layout, arguments: argparse.Namespace) -> int:
    """Run it; the command's exit code, or 255 with a plain sentence when there is none."""
    info = _running(layout)
    credentials = json.loads((layout.root / "credentials.json").read_text())
    try:
        if not arguments.argv:
            raise Refused("Say which command is to run: roadstead exec TASK COMMAND …")
        tasks = _get(_port(info, "scheduler"), "/state?tasks=1000")["latest_tasks"]
        request = {
            **_find(tasks, arguments.task),
            "command": shlex.join(arguments.argv),
            "interactive": arguments.tty,
            **({"container": arguments.container} if arguments.container else {}),
        }
        return asyncio.run(_run(f"127.0.0.1:{info.port}", credentials, request))
    except Refused as refused:
        print(refused, file=sys.stderr)
    except (OSError, aiohttp.ClientError) as error:
        print(f"The platform does not answer: {error}", file=sys.stderr)
    return REFUSED


def _find(tasks: list[dict[str, Any]], named: str) -> dict[str, str]:
    wanted = named.rpartition("/")[2]
    found = [task for task in tasks if wanted and task["id"].startswith(wanted)]
    if len(found) != 1:
        raise Refused(f"{len(found) or 'No'} running tasks begin with {wanted!r}")
    return {"cluster": found[0]["cluster"], "task": found[0]["id"]}


async def _run(host: str, credentials: dict[str, str], request: dict[str, Any]) -> int:
    async with aiohttp.ClientSession() as http:
        body = json.dumps(request).encode()
        headers = _signed(host, body, credentials)
        timeout = aiohttp.ClientTimeout(total=ANSWER_S)
        async with http.post(f"http://{host}/", data=body, headers=headers, timeout=timeout) as response:
            answer = await response.json(content_type=None)
        if response.status != 200:
            raise Refused(f"{answer.get('__type', response.status)}: {answer.get('message', '')}")
        session = answer["session"]
        async with http.ws_connect(session["streamUrl"], max_msg_size=2**20) as socket:
            await socket.send_str(_opening(session["tokenValue"]))
            with _raw_terminal(request["interactive"]):
                return await Client(socket, terminal=request["interactive"]).run()


def _opening(token: str) -> str:
    return msgspec.json.encode(channel.Opening(token, client_id="roadstead", client_version="1.2.0.0")).decode()


def _signed(host: str, body: bytes, credentials: dict[str, str]) -> dict[str, str]:
    """Headers of a request with Signature Version 4."""
    keys = Credentials(credentials["access_key_id"], credentials["secret"])
    headers = {"Content-Type": "application/x-amz-json-1.1", "Host": host, "X-Amz-Target": TARGET}
    payload = sha256(body).hexdigest()
    return signed_headers(keys, "ecs", credentials["region"], time.time(), "POST", "/", "", headers, payload)


@contextlib.contextmanager
def _raw_terminal(wanted: bool) -> Iterator[None]:
    """Every key goes to the command, the interrupt too."""
    if not wanted or not sys.stdin.isatty():
        yield
        return
    before = termios.tcgetattr(sys.stdin)
    try:
        tty.setraw(sys.stdin)
        yield
    finally:
        termios.tcsetattr(sys.stdin, termios.TCSADRAIN, before)


class Client:
    """This end of a data channel."""

    def __init__(self, socket: aiohttp.ClientWebSocketResponse, *, terminal: bool) -> None:
        self._socket = socket
        self._terminal = terminal
        self._sender = channel.Sender(channel.INPUT)
        self._receiver = channel.Receiver()
        self._room = asyncio.Event()
        self._helpers: list[asyncio.Task[None]] = []

    async def run(self) -> int:
        """Until the session is over; the exit code. Raises Refused when it ends without one."""
        self._helpers.append(asyncio.ensure_future(self._send_again()))
        try:
            async for frame in self._socket:
                if frame.type is not aiohttp.WSMsgType.BINARY:
                    continue
                message = channel.decode(frame.data)
                if message.type == channel.CHANNEL_CLOSED:
                    closed = msgspec.json.decode(message.payload, type=channel.Closed)
                    if closed.exit_code is None:
                        raise Refused(closed.output or "The session has ended")
                    return closed.exit_code
                await self._take(message)
        finally:
            for helper in self._helpers:
                helper.cancel()
            await asyncio.gather(*self._helpers, return_exceptions=True)
        raise Refused("The connection has ended before the command")

    async def _take(self, message: channel.Message) -> None:
        if message.type == channel.ACKNOWLEDGE:
            self._sender.acknowledged(message)
            self._room.set()
        elif message.type == channel.OUTPUT:
            ready, acknowledge = self._receiver.take(message)
            for each in ready:
                await self._act_upon(each)
            if acknowledge:
                await self._socket.send_bytes(channel.acknowledgement(message, time.time()))

    async def _act_upon(self, message: channel.Message) -> None:
        if message.payload_type == channel.HANDSHAKE_REQUEST:
            actions = [{"ActionType": "SessionType", "ActionStatus": 1, "ActionResult": None, "Error": ""}]
            answer = {"ClientVersion": "1.2.0.0", "ProcessedClientActions": actions, "Errors": []}
            await self._send(channel.HANDSHAKE_RESPONSE, msgspec.json.encode(answer))
        elif message.payload_type == channel.HANDSHAKE_COMPLETE:
            if self._terminal:
                self._helpers.append(asyncio.ensure_future(self._pass_input()))
                await self._tell_size()
        elif message.payload_type in (channel.DATA, channel.STDERR):
            out = sys.stderr if message.payload_type == channel.STDERR else sys.stdout
            out.buffer.write(message.payload)
            out.buffer.flush()

    async def _send(self, payload_type: int, payload: bytes) -> None:
        await self._socket.send_bytes(self._sender.send(payload_type, payload, time.time()))

    async def _send_again(self) -> None:
        while True:
            await asyncio.sleep(1.0)
            for data in self._sender.overdue(time.time()):
                await self._socket.send_bytes(data)

    async def _tell_size(self) -> None:
        if not sys.stdout.isatty():
            return
        size = os.get_terminal_size(sys.stdout.fileno())
        await self._send(channel.SIZE, msgspec.json.encode(channel.Size(size.columns, size.lines)))

    async def _pass_input(self) -> None:
        loop, moved, resized = asyncio.get_running_loop(), asyncio.Event(), asyncio.Event()

        def on_resize() -> None:
            resized.set()
            moved.set()

        loop.add_signal_handler(signal.SIGWINCH, on_resize)
        try:
            while True:
                with _reading(loop, moved):
                    await moved.wait()
                moved.clear()
                if resized.is_set():
                    resized.clear()
                    await self._tell_size()
                    continue
                data = os.read(0, 1024)
                await self._send(channel.DATA, data or END_OF_INPUT)
                if not data:
                    return
                while self._sender.pending >= channel.WINDOW:
                    self._room.clear()
                    await self._room.wait()
        finally:
            loop.remove_signal_handler(signal.SIGWINCH)


@contextlib.contextmanager
def _reading(loop: asyncio.AbstractEventLoop, moved: asyncio.Event) -> Iterator[None]:
    """`moved` is set when there is input. A file, which the loop can't wait for, always has some."""
    try:
        loop.add_reader(0, moved.set)
    except PermissionError:
        moved.set()
        yield
        return
    try:
        yield
    finally:
        loop.remove_reader(0)
