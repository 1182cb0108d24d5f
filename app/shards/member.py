"""A process that computes one shard: `python -m app.shards.member SOCKET`, started by `processes`.

It does what it is told over the socket, and nothing by itself. It ends at once when the socket
closes, whatever it is in the middle of, so it cannot outlive the serving process. Signals are that
one's business.
"""

import os
import pickle
import queue
import signal
import sys
import threading
from collections.abc import Iterator
from functools import partial
from multiprocessing.connection import Connection

from app.shards.orders import FAREWELL, Failure, LoadOrder, OpenOrder, Stage
from engine.shard_group import join_group, least_of_all, leave_group
from engine.shard_runner import follow
from engine.torch_runner import Sharing, TorchRunner, set_num_threads
from optimize.loading import load_model
from optimize.placement import Placement


def main(descriptor: int) -> int:
    """Take part until the serving process closes the socket, which ends this one."""
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, signal.SIG_IGN)
    connection = Connection(descriptor)
    inbox: queue.SimpleQueue[bytes] = queue.SimpleQueue()
    threading.Thread(target=_read, args=(connection, inbox), daemon=True).start()
    try:
        _take_part(connection, iter(inbox.get, FAREWELL))
    except Exception as error:  # noqa: BLE001  the serving process is told, whatever it is
        connection.send(Failure(str(error) or type(error).__name__))
        return 1
    return 0


def _read(connection: Connection, inbox: "queue.SimpleQueue[bytes]") -> None:
    """Hand on what comes; the end of it is the end of this process."""
    while True:
        try:
            inbox.put(connection.recv_bytes())
        except (EOFError, OSError):
            os._exit(0)


def _take_part(connection: Connection, messages: Iterator[bytes]) -> None:
    load: LoadOrder = pickle.loads(next(messages))
    set_num_threads(load.num_threads)
    connection.send(Stage.MEETING)
    join_group(load.place)
    module = load_model(
        load.folder,
        Placement(device=load.place.device, dtype=load.dtype),
        trust_remote_code=load.trust_remote_code,
        num_shards=load.place.size,
    )
    connection.send(Stage.LOADED)
    order: OpenOrder = pickle.loads(next(messages))
    runner = TorchRunner.load(
        module,
        order.config,
        context_length=order.context_length,
        sharing=Sharing(
            agree=partial(least_of_all, device=load.place.device), expected=order.expected
        ),
    )
    connection.send(Stage.OPEN)
    follow(runner, messages)
    connection.send(Stage.LEAVING)
    leave_group()


if __name__ == "__main__":
    os._exit(main(int(sys.argv[1])))  # a collective that never ends must not hold it up
