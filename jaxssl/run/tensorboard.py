"""Write TensorBoard's event file in the calling thread.

``tensorboardX.SummaryWriter`` passes events to its own thread through a queue of ten.
If the disk is full, this thread dies, and the eleventh event waits for ever.
"""

import contextlib
import os
import socket
import time
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from tensorboardX import summary
from tensorboardX.proto import event_pb2
from tensorboardX.record_writer import RecordWriter

# Protobuf makes these classes at import, so type checkers do not know them.
Event = event_pb2.Event  # type: ignore[attr-defined]
SessionLog = event_pb2.SessionLog  # type: ignore[attr-defined]


@contextlib.contextmanager
def open_board(folder: Path, *, first_step: int) -> Iterator[RecordWriter]:
    """Begin a new event file; TensorBoard hides older events from ``first_step`` on.

    Args:
      folder: TensorBoard's log folder; made if it is missing.
      first_step: the first step that may be written.

    Yields:
      The writer, which is closed at the end of the block.
    """
    folder.mkdir(exist_ok=True)
    now = time.time()
    name = f"events.out.tfevents.{int(now)}.{socket.gethostname()}.{os.getpid()}"
    with contextlib.closing(RecordWriter(str(folder / name))) as board:
        _add(board, Event(wall_time=now, file_version="brain.Event:2"))
        start = SessionLog(status=SessionLog.START)
        _add(board, Event(wall_time=now, step=first_step, session_log=start))
        yield board


def _add(board: RecordWriter, event: Any) -> None:
    board.write(event.SerializeToString())


def write(board: RecordWriter, step: int, scalars: Mapping[str, float]) -> None:
    """Write the scalars of one step and flush them to the disk.

    Raises:
      OSError: the disk refused them.
    """
    for name, value in scalars.items():
        content = summary.scalar(name, value)
        _add(board, Event(wall_time=time.time(), step=step, summary=content))
    board.flush()
