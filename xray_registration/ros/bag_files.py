"""rosbag2 files (sqlite3 and mcap), read and written as rclpy messages.

rosbags does the files, rclpy the messages: what is read and written are the same classes, through
the same serialisation, as on topics. Nothing here needs a running node.
"""

from __future__ import annotations

import shutil
import sqlite3
from collections.abc import Iterable, Iterator
from contextlib import closing
from pathlib import Path
from tempfile import TemporaryDirectory, mkdtemp
from types import TracebackType
from typing import Any

from xray_registration.errors import InputError, XrayRegistrationError
from xray_registration.optional import require

STORAGES = ("mcap", "sqlite3")
_SUFFIXES = {".mcap": "mcap", ".db3": "sqlite3"}
_ACCEPTED = "expected a rosbag2 folder (with metadata.yaml), a .mcap or a .db3 file"
_VERSION = 9
_LARGEST_DB3 = 1 << 42

Raw = tuple[str, str, int, bytes]  # topic, type, bag time, CDR


class BagDamagedError(InputError):
    """The rest of a bag cannot be read; what came before could."""


class BagReader:
    """One bag, open for reading. Use as a context manager."""

    def __init__(self, path: str | Path) -> None:
        """Open.

        Raises:
            InputError: missing, no bag, or damaged so that not even its topics can be listed.
        """
        rosbag2 = require("rosbags.rosbag2", pip="rosbags")
        self.path = Path(path)
        if not self.path.exists():
            raise InputError(f"{self.path}: no such bag; {_ACCEPTED}.")
        if self.path.is_dir() and not (self.path / "metadata.yaml").is_file():
            parts = sorted(p.name for p in self.path.iterdir() if p.suffix in _SUFFIXES)
            found = f"; it holds {', '.join(parts)}: `ros2 bag reindex` makes one" if parts else ""
            raise InputError(f"{self.path}: a folder without metadata.yaml{found}. {_ACCEPTED}.")
        self.damage: str | None = None
        self._salvaged: list[Raw] | None = None
        self._reader: Any = None
        try:
            self._reader = rosbag2.Reader(self.path)
            self._reader.open()
        except (rosbag2.ReaderError, OSError, ValueError, sqlite3.Error) as error:
            self._reader = None
            self._salvage(str(error))

    def __enter__(self) -> BagReader:
        """Itself."""
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        """Close."""
        if self._reader is not None:
            self._reader.close()
            self._reader = None

    @property
    def storage(self) -> str:
        """Either mcap or sqlite3."""
        files = [self.path] if self.path.is_file() else sorted(self.path.iterdir())
        found = [_SUFFIXES[f.suffix] for f in files if f.suffix in _SUFFIXES]
        return found[0] if found else "mcap"

    @property
    def topics(self) -> dict[str, str]:
        """Topic to message type (pkg/msg/Type)."""
        if self._salvaged is not None:
            return {topic: kind for topic, kind, _, _ in self._salvaged}
        return {connection.topic: connection.msgtype for connection in self._reader.connections}

    def need_topic(self, topic: str, types: Iterable[str], purpose: str) -> None:
        """InputError when the bag has no such topic, or of another type; it lists what there is."""
        kind = self.topics.get(topic)
        if kind is None:
            raise InputError(
                f"{self.path}: no topic {topic} ({purpose}); it holds: {self._listed()}."
            )
        if kind not in types:
            raise InputError(
                f"{self.path}: topic {topic} ({purpose}) has the type {kind}; expected "
                f"{' or '.join(types)}."
            )

    def only_topic(self, kind: str, purpose: str, option: str) -> str:
        """The one topic of this type; InputError when there is none or there are several."""
        found = sorted(topic for topic, have in self.topics.items() if have == kind)
        if len(found) == 1:
            return found[0]
        if found:
            raise InputError(
                f"{self.path}: several topics of the type {kind} ({', '.join(found)}); say which "
                f"one is {purpose}: {option}."
            )
        raise InputError(
            f"{self.path}: no topic of the type {kind} ({purpose}); it holds: {self._listed()}."
        )

    def messages(self, topics: Iterable[str]) -> Iterator[tuple[str, int, Any]]:
        """(topic, bag time ns, rclpy message) in the order of the bag's time.

        Raises:
            BagDamagedError: the rest cannot be read (truncated file), naming the last time.
        """
        wanted, last = set(topics), 0
        try:
            for topic, kind, time_ns, raw in self._raw(wanted):
                last = time_ns
                yield topic, time_ns, self._decoded(topic, kind, time_ns, raw)
        except (XrayRegistrationError, GeneratorExit):
            raise
        except Exception as error:  # sqlite3, struct, zlib, rosbags: whatever meets the damage
            raise self._damaged(str(error), last) from error
        if self.damage is not None:
            raise self._damaged(self.damage, last)

    def _raw(self, wanted: set[str]) -> Iterator[Raw]:
        if self._salvaged is not None:
            yield from (item for item in self._salvaged if item[0] in wanted)
            return
        connections = [c for c in self._reader.connections if c.topic in wanted]
        if connections:  # none would mean all to rosbags
            for connection, time_ns, raw in self._reader.messages(connections):
                yield connection.topic, connection.msgtype, time_ns, raw

    def _decoded(self, topic: str, kind: str, time_ns: int, raw: bytes) -> Any:
        serialization = require("rclpy.serialization", pip="ros-rclpy")
        try:
            return serialization.deserialize_message(bytes(raw), message_class(kind))
        except XrayRegistrationError:
            raise
        except Exception as error:
            raise self._damaged(f"a {kind} on {topic} cannot be decoded: {error}", time_ns) from (
                error
            )

    def _damaged(self, reason: str, time_ns: int) -> BagDamagedError:
        where = f"after bag time {time_ns * 1e-9:.9f} s" if time_ns else "from its start"
        return BagDamagedError(
            f"{self.path}: damaged or truncated: cannot be read {where} ({reason}). What came "
            "before has been used; `mcap recover` or sqlite3's .recover may save more."
        )

    def _listed(self) -> str:
        listed = [f"{topic} ({kind})" for topic, kind in sorted(self.topics.items())]
        return ", ".join(listed) or "no topics"

    def _salvage(self, reason: str) -> None:
        """What a truncated file still holds: what is cut off is the index, then messages."""
        files = [self.path] if self.path.is_file() else sorted(self.path.iterdir())
        found: list[Raw] = []
        for file in files:
            reader = _SALVAGERS.get(file.suffix)
            if reader is None:
                continue
            try:
                # one by one: what came before the exception stays
                for item in reader(file):
                    found.append(item)  # noqa: PERF402
            except XrayRegistrationError as error:
                reason = f"{reason}; {error}"
            except Exception as error:  # the damage that is expected, in many forms
                reason = str(error) or type(error).__name__
        if not found:
            raise InputError(
                f"{self.path}: cannot be opened as a bag, damaged or truncated: {reason}. "
                f"{_ACCEPTED}."
            )
        self._salvaged = sorted(found, key=lambda item: item[2])
        self.damage = reason


def _rest_of_mcap(file: Path) -> Iterator[Raw]:
    reader = require("mcap.reader", pip="mcap")
    with file.open("rb") as stream:
        plain = reader.NonSeekingReader(stream)
        for schema, channel, message in plain.iter_messages(log_time_order=False):
            kind = schema.name if schema is not None else ""
            yield channel.topic, kind, message.log_time, message.data


def _rest_of_sqlite(file: Path) -> Iterator[Raw]:
    with TemporaryDirectory() as folder:
        copy = Path(folder) / "copy.db3"
        shutil.copyfile(file, copy)
        # SQLite refuses a file that is shorter than its header says: the missing pages are empty.
        with copy.open("r+b") as stream:
            start = stream.read(32)
            size, pages = int.from_bytes(start[16:18], "big"), int.from_bytes(start[28:32], "big")
            whole = (65536 if size == 1 else size) * pages
            if start.startswith(b"SQLite format 3") and copy.stat().st_size < whole < _LARGEST_DB3:
                stream.truncate(whole)
        with closing(sqlite3.connect(copy)) as database:
            topics = {
                row[0]: row[1:] for row in database.execute("select id, name, type from topics")
            }
            # in the order of the rows: the index of times is what is missing
            rows = database.execute(
                "select topic_id, timestamp, data from messages not indexed order by rowid"
            )
            # one behind: the last message before the damage may end in an empty page
            held: Raw | None = None
            for topic, time_ns, raw in rows:
                if held is not None:
                    yield held
                held = (*topics[topic], time_ns, raw)


_SALVAGERS = {".mcap": _rest_of_mcap, ".db3": _rest_of_sqlite}


class BagWriter:
    """A bag that is complete, in its place, only after ``close`` (or leaving the context).

    It is closed and put in place after an exception as well: what was done is kept.
    """

    def __init__(self, path: str | Path, storage: str = "mcap") -> None:
        """Open.

        Raises:
            InputError: the place is taken or cannot be written; an unknown storage.
        """
        rosbag2 = require("rosbags.rosbag2", pip="rosbags")
        typesys = require("rosbags.typesys", pip="rosbags")
        self.path = Path(path)
        if storage not in STORAGES:
            raise InputError(f"storage is {storage!r}; expected {' or '.join(STORAGES)}.")
        if self.path.exists():
            raise InputError(f"{self.path}: exists already; bags are not overwritten.")
        plugin = rosbag2.StoragePlugin[storage.upper()]
        try:
            self._scratch = Path(mkdtemp(prefix=f".{self.path.name}.", dir=self.path.parent))
        except OSError as error:
            raise InputError(
                f"{self.path}: cannot be written: {error.strerror or error}."
            ) from error
        self._store = typesys.get_typestore(typesys.Stores.LATEST)
        self._connections: dict[str, Any] = {}
        # the files inside are named after the folder: the name must be the final one
        self._writer = rosbag2.Writer(
            self._scratch / self.path.name, version=_VERSION, storage_plugin=plugin
        )
        self._writer.open()
        self._open = True

    def __enter__(self) -> BagWriter:
        """Itself."""
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        """Close; keep what was written."""
        self.close()

    def add_topic(self, topic: str, kind: str, latched: bool = False) -> None:
        """Announce a topic; one that never gets a message is in the bag as well."""
        if topic not in self._connections:
            self._connections[topic] = self._writer.add_connection(
                topic, kind, typestore=self._store, offered_qos_profiles=[_qos(latched)]
            )

    def write(self, topic: str, message: Any, time_ns: int) -> None:
        """Append one rclpy message at a bag time."""
        serialization = require("rclpy.serialization", pip="ros-rclpy")
        self.add_topic(topic, type_name(type(message)))
        raw = serialization.serialize_message(message)
        self._writer.write(self._connections[topic], time_ns, raw)

    def close(self) -> None:
        """Finish the files and put the bag in its place."""
        if not self._open:
            return
        self._open = False
        self._writer.close()
        (self._scratch / self.path.name).rename(self.path)
        shutil.rmtree(self._scratch, ignore_errors=True)


def message_class(kind: str) -> Any:
    """The rclpy class of ``pkg/msg/Type``. MissingDependencyError when its package is absent."""
    package, _, name = kind.split("/")
    module = require(f"{package}.msg", pip=f"ros-{package.replace('_', '-')}")
    return getattr(module, name)


def type_name(message_type: type) -> str:
    """``pkg/msg/Type`` of an rclpy class."""
    return f"{message_type.__module__.split('.')[0]}/msg/{message_type.__name__}"


def _qos(latched: bool) -> Any:
    interfaces = require("rosbags.interfaces", pip="rosbags")
    durability = interfaces.QosDurability
    return interfaces.Qos(
        history=interfaces.QosHistory.KEEP_LAST,
        depth=1 if latched else 100,
        reliability=interfaces.QosReliability.RELIABLE,
        durability=durability.TRANSIENT_LOCAL if latched else durability.VOLATILE,
        deadline=interfaces.QosTime(0, 0),
        lifespan=interfaces.QosTime(0, 0),
        liveliness=interfaces.QosLiveliness.AUTOMATIC,
        liveliness_lease_duration=interfaces.QosTime(0, 0),
        avoid_ros_namespace_conventions=False,
    )
