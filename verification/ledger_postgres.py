"""A ledger in PostgreSQL, for several writers on several machines: SQLAlchemy over any driver, pg8000 by default.

Writers take turns by a table lock, held from the look at the last number to the commit. A server that does not make
commits durable (``fsync``, ``full_page_writes``, ``synchronous_commit``) is refused. Passwords come from a 0600 file,
never from the URL: URLs are seen in process lists and logs.
"""

from __future__ import annotations

from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from countermark.errors import MissingAssetError, StorageError, UsageError
from verification.faults import Fault, LedgerError
from watermarks.keystore import read_secret_file

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

    from sqlalchemy import Connection, Engine
    from sqlalchemy.engine import URL

    from verification.ledger_store import LooseRow, NodeRow, Row

FORMAT = "countermark-ledger/1"
DRIVER = "postgresql+pg8000"
_FETCH = 2048
_IDS = 10_000
_DURABLE = {"fsync": ("on",), "full_page_writes": ("on",), "synchronous_commit": ("on", "remote_apply")}
_TABLES = ("entries", "nodes", "meta", "checkpoints")
_SCHEMA = """
CREATE TABLE countermark_meta (name text PRIMARY KEY, value text NOT NULL);
CREATE TABLE countermark_entries (seq bigint PRIMARY KEY, id bytea NOT NULL UNIQUE, data bytea NOT NULL, leaf bytea NOT NULL);
CREATE TABLE countermark_nodes (level int, position bigint, hash bytea NOT NULL, PRIMARY KEY (level, position));
CREATE TABLE countermark_checkpoints (number bigserial PRIMARY KEY, size bigint NOT NULL, note bytea NOT NULL UNIQUE);
CREATE FUNCTION countermark_guard() RETURNS trigger LANGUAGE plpgsql AS
  'BEGIN RAISE EXCEPTION ''a ledger is append-only''; END';
"""  # noqa: E501
_GUARD = """CREATE TRIGGER countermark_guard BEFORE UPDATE OR DELETE OR TRUNCATE ON countermark_{table}
FOR EACH STATEMENT EXECUTE FUNCTION countermark_guard()"""


class PostgresSession:
    """One transaction on one connection."""

    def __init__(self, connection: Connection) -> None:
        self._connection = connection

    def size(self) -> int:
        ((found,),) = self._ask("SELECT max(seq) FROM countermark_entries")
        return 0 if found is None else int(found) + 1

    def find(self, ids: Sequence[bytes]) -> Mapping[bytes, tuple[int, bytes]]:
        query = "SELECT id, seq, data FROM countermark_entries WHERE id = ANY(:ids)"
        found: dict[bytes, tuple[int, bytes]] = {}
        for start in range(0, len(ids), _IDS):
            part = self._ask(query, ids=list(ids[start : start + _IDS]))
            found.update((bytes(id_), (seq, bytes(data))) for id_, seq, data in part)
        return found

    def add(self, rows: Sequence[Row], nodes: Sequence[NodeRow]) -> None:
        if rows:
            columns = ("bigint", "bytea", "bytea", "bytea")
            self._insert("countermark_entries (seq, id, data, leaf)", columns, rows)
        if nodes:
            self._insert("countermark_nodes (level, position, hash)", ("int", "bigint", "bytea"), nodes)

    def rows(self, first: int, stop: int) -> Iterator[LooseRow]:
        query = "SELECT seq, id, data, leaf FROM countermark_entries WHERE seq >= :first AND seq < :stop ORDER BY seq"
        for start in range(first, stop, _FETCH):
            for seq, id_, data, leaf in self._ask(query, first=start, stop=min(start + _FETCH, stop)):
                yield seq, bytes(id_), bytes(data), bytes(leaf)

    def hashes(self, level: int, first: int, count: int) -> list[bytes]:
        query = (
            "SELECT leaf FROM countermark_entries WHERE seq >= :first AND seq < :stop ORDER BY seq"
            if level == 0
            else "SELECT hash FROM countermark_nodes WHERE level = :level AND position >= :first AND position < :stop "
            "ORDER BY position"
        )
        bounds = {"first": first, "stop": first + count} | ({"level": level} if level else {})
        return [bytes(found) for (found,) in self._ask(query, **bounds)]

    def nodes(self) -> Iterator[NodeRow]:
        query = "SELECT level, position, hash FROM countermark_nodes ORDER BY level, position"
        yield from ((level, position, bytes(found)) for level, position, found in self._ask(query))

    def misfiled(self, ids: bytes) -> Iterator[tuple[int, int]]:
        """Nothing: the look-up is a column of the entries and an index that the server keeps."""
        del ids
        return iter(())

    def notes(self) -> list[tuple[int, bytes]]:
        query = "SELECT size, note FROM countermark_checkpoints ORDER BY size, number"
        return [(size, bytes(note)) for size, note in self._ask(query)]

    def add_note(self, size: int, note: bytes) -> None:
        query = "INSERT INTO countermark_checkpoints (size, note) VALUES (:size, :note) ON CONFLICT DO NOTHING"
        self._run(query, size=size, note=note)

    def _ask(self, query: str, **values: Any) -> Sequence[Any]:  # noqa: ANN401
        found: Sequence[Any] = self._run(query, **values).fetchall()
        return found

    def _run(self, query: str, **values: Any) -> Any:  # noqa: ANN401
        from sqlalchemy import text

        return self._connection.execute(text(query), values)

    def _insert(self, into: str, columns: Sequence[str], rows: Sequence[tuple[Any, ...]]) -> None:
        """One statement for all rows: a round trip for each would be the price of every event."""
        arrays = {f"c{number}": list(column) for number, column in enumerate(zip(*rows, strict=True))}
        casts = ", ".join(f"CAST(:c{number} AS {kind}[])" for number, kind in enumerate(columns))
        self._run(f"INSERT INTO {into} SELECT * FROM unnest({casts})", **arrays)  # noqa: S608 - names of our own


class PostgresStore:
    """The store; see :class:`verification.ledger_store.Store`.

    Args:
        url: ``postgresql://user@host/database``, with ``?password_file=FILE`` (0600), ``?unix_sock=FILE`` (a socket) or
            ``?sslrootcert=FILE``. Anything but a socket and localhost is spoken to under verified TLS.
        create: makes the tables, in a database that has none.

    Raises:
        UsageError: a URL with a password, no ledger there, or one where ``create`` asks for none.
        MissingAssetError: the extra ``postgres`` is not installed.
        StorageError: no connection, or a server whose commits are not durable.
    """

    def __init__(self, url: str, *, create: bool = False) -> None:
        self._engine, self.place = _engine(url)
        try:
            with self._errors(), self._engine.connect() as connection:
                _require_durable(connection, self.place)
                if create:
                    self._create(connection)
                _require_ledger(connection, self.place)
        except BaseException:
            self.close()
            raise

    @contextmanager
    def writing(self) -> Iterator[PostgresSession]:
        from sqlalchemy import text

        with self._errors(), self._engine.connect() as connection:
            connection.execute(text("LOCK TABLE countermark_entries IN EXCLUSIVE MODE"))
            yield PostgresSession(connection)
            connection.commit()  # left without it, the block rolls back

    @contextmanager
    def reading(self) -> Iterator[PostgresSession]:
        with self._errors(), self._engine.connect() as connection:
            yield PostgresSession(connection.execution_options(isolation_level="REPEATABLE READ"))

    def close(self) -> None:
        self._engine.dispose()

    def _create(self, connection: Connection) -> None:
        from sqlalchemy import text

        if _has_tables(connection):
            raise UsageError(f"got {self.place}, which holds a ledger, expected a database without", hint="open it")
        for statement in _SCHEMA.strip().removesuffix(";").split(";\n"):
            connection.execute(text(statement))
        for table in _TABLES:
            connection.execute(text(_GUARD.format(table=table)))
        connection.execute(text("INSERT INTO countermark_meta VALUES ('format', :format)"), {"format": FORMAT})
        connection.commit()

    @contextmanager
    def _errors(self) -> Iterator[None]:
        """Whatever the driver says, without the statement and its values: they may be long."""
        from sqlalchemy.exc import SQLAlchemyError

        try:
            yield
        except (SQLAlchemyError, OSError) as error:
            said = " ".join(str(getattr(error, "orig", None) or error).split())[:200]
            raise StorageError(
                f"could not use {self.place}: got {said}, expected a durable commit",
                hint="a failed commit is never retried: see to the server, open the ledger again and verify it",
            ) from error


def _engine(url: str) -> tuple[Engine, str]:
    try:
        from sqlalchemy import create_engine, event, make_url
        from sqlalchemy.exc import ArgumentError
    except ImportError:
        hint = "pip install 'countermark[postgres]'"
        raise MissingAssetError(
            "got a PostgreSQL ledger without SQLAlchemy, expected it installed", hint=hint
        ) from None
    try:
        made = make_url(url)
    except ArgumentError:
        raise UsageError("got a ledger URL that cannot be read, expected postgresql://user@host/database") from None
    if made.password is not None:
        raise UsageError(
            "got a ledger URL with a password in it, expected none",
            hint="put the password into a 0600 file and append ?password_file=FILE",
        )
    place = made.set(query={}).render_as_string(hide_password=True)
    made, arguments = _arguments(made)
    try:
        engine = create_engine(made, hide_parameters=True, connect_args=arguments)
    except ImportError:
        raise MissingAssetError(
            f"got no driver for {made.drivername}, expected one", hint="pip install 'countermark[postgres]'"
        ) from None
    event.listen(engine, "connect", _ask_for_durability)
    return engine, place


def _ask_for_durability(connection: Any, _: object) -> None:  # noqa: ANN401 - a driver's connection
    """Once for each connection, and committed, or the next rollback would take it back."""
    cursor = connection.cursor()
    cursor.execute("SET synchronous_commit = on")
    cursor.close()
    connection.commit()


def _arguments(url: URL) -> tuple[URL, dict[str, Any]]:
    """What the driver is told besides the URL."""
    options = {name: value if isinstance(value, str) else value[-1] for name, value in url.query.items()}
    password, root = options.pop("password_file", None), options.pop("sslrootcert", None)
    arguments: dict[str, Any] = {}
    if url.drivername in ("postgresql", DRIVER):
        url = url.set(drivername=DRIVER)
        arguments |= {"unix_sock": options.pop("unix_sock")} if "unix_sock" in options else {}
        if "unix_sock" not in arguments and (root or url.host not in (None, "localhost", "127.0.0.1", "::1")):
            import ssl

            arguments["ssl_context"] = ssl.create_default_context(cafile=root)
    url = url.set(query=options)
    if password:
        url = url.set(password=read_secret_file(Path(password)).decode())
    return url, arguments


def _require_durable(connection: Connection, place: str) -> None:
    from sqlalchemy import text

    for name, allowed in _DURABLE.items():
        found = connection.execute(text(f"SHOW {name}")).scalar_one()
        if found not in allowed:
            raise StorageError(
                f"got a server {place} with {name} = {found}, expected {allowed[0]}",
                hint="a ledger must survive a power cut: turn it on in postgresql.conf",
            )


def _has_tables(connection: Connection) -> bool:
    from sqlalchemy import text

    return connection.execute(text("SELECT to_regclass('countermark_meta')")).scalar_one() is not None


def _require_ledger(connection: Connection, place: str) -> None:
    from sqlalchemy import text

    if not _has_tables(connection):
        hint = "make one with `countermark ledger init`"
        raise UsageError(f"got {place} without a ledger, expected one", hint=hint)
    found = connection.execute(text("SELECT value FROM countermark_meta WHERE name = 'format'")).scalar()
    if found != FORMAT:
        raise LedgerError(Fault.UNREADABLE, f"got format {found!r} in {place}, expected {FORMAT}")
