"""A PostgreSQL server for tests, started once for each of pytest's processes; each test gets a database of its own."""

import getpass
import os
import shutil
import signal
import subprocess
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cached_property, partial
from pathlib import Path
from typing import Any
from uuid import uuid4

import psycopg

from tests.support.loopback import free_port
from tests.support.waiting import until

# What tests store need not reach the disk.
QUICK = ("fsync=off", "synchronous_commit=off", "full_page_writes=off")


@dataclass
class Postgres:
    """A server, and the way to stop and start it."""

    folder: Path
    port: int
    settings: Sequence[str]
    process: "subprocess.Popen[bytes] | None" = None

    def start(self) -> None:
        """Start it, and wait until it answers."""
        settings = [f"port={self.port}", f"unix_socket_directories={self.folder}", "listen_addresses=127.0.0.1"]
        options = [word for setting in (*settings, *self.settings, "max_connections=200") for word in ("-c", setting)]
        log = (self.folder / "log").open("ab")
        self.process = subprocess.Popen([program("postgres"), "-D", self.data, *options], stderr=log, **not_as_root())
        log.close()
        until(partial(answers, self.url("postgres")), within=20)

    def stop(self, how: signal.Signals = signal.SIGQUIT) -> None:
        """End it: SIGINT in order, SIGQUIT at once, as in a crash."""
        if self.process:
            self.process.send_signal(how)
            self.process.wait(20)
            self.process = None

    def signal_all(self, number: signal.Signals) -> None:
        """Send a signal to the server and to each of its processes, which serve the connections."""
        assert self.process
        children = Path(f"/proc/{self.process.pid}/task/{self.process.pid}/children").read_text().split()
        for process in (self.process.pid, *map(int, children)):
            os.kill(process, number)

    def url(self, database: str) -> str:
        """Return the address of a database."""
        return f"postgresql://postgres@127.0.0.1:{self.port}/{database}"

    def new_database(self) -> str:
        """Make an empty database, and return its address."""
        name = f"test_{uuid4().hex}"
        self.execute(f"CREATE DATABASE {name}")
        return self.url(name)

    def execute(self, statement: str) -> None:
        """Execute a statement beside the databases of the tests."""
        self.execute_in(self.url("postgres"), statement)

    def execute_in(self, database: str, statement: str) -> None:
        """Execute a statement in a database."""
        with psycopg.connect(database, autocommit=True) as connection:
            connection.execute(statement.encode())

    @cached_property
    def data(self) -> str:
        """The folder of its files, which is made at first."""
        data = str(self.folder / "data")
        make = [program("initdb"), "--no-sync", "--username=postgres", "--auth=trust", "--encoding=UTF8", "-D", data]
        subprocess.run(make, check=True, stdout=subprocess.DEVNULL, **not_as_root())
        return data


def program(name: str) -> str:
    """Return the path of a program of PostgreSQL's, or of PgBouncer; Debian keeps them out of PATH."""
    places = [os.environ["PATH"], "/usr/sbin", *map(str, Path("/usr/lib/postgresql").glob("*/bin"))]
    found = shutil.which(name, path=os.pathsep.join(places))
    assert found, f"{name} is not installed: apt-get install postgresql pgbouncer"
    return found


def not_as_root() -> dict[str, Any]:
    """Return how a process is started that refuses to be root's."""
    if getpass.getuser() != "root":
        return {"cwd": "/"}
    return {"user": "postgres", "group": "postgres", "extra_groups": [], "cwd": "/"}


@contextmanager
def running_postgres(*, keeps: bool = False) -> Iterator[Postgres]:
    """Run a server of its own; one that keeps what it has syncs each commit to the disk."""
    folder = Path(tempfile.mkdtemp(prefix="pg-", dir="/tmp"))
    if os.getuid() == 0:
        shutil.chown(folder, "postgres", "postgres")
    server = Postgres(folder, free_port(), () if keeps else QUICK)
    server.start()
    try:
        yield server
    finally:
        server.stop()
        shutil.rmtree(folder)


@contextmanager
def running_pgbouncer(postgres: Postgres) -> Iterator[str]:
    """Run PgBouncer in transaction mode before a server, and yield the address to which a database's name is added."""
    folder, port = Path(tempfile.mkdtemp(prefix="pgbouncer-", dir="/tmp")), free_port()
    (folder / "users").write_text('"postgres" ""\n')
    (folder / "ini").write_text(
        f"[databases]\n* = host=127.0.0.1 port={postgres.port}\n"
        f"[pgbouncer]\nlisten_addr = 127.0.0.1\nlisten_port = {port}\nunix_socket_dir =\n"
        f"auth_type = trust\nauth_file = {folder}/users\npool_mode = transaction\nmax_client_conn = 500\n"
        "default_pool_size = 3\nserver_idle_timeout = 1\n"
    )
    if os.getuid() == 0:
        for path in (folder, *folder.iterdir()):
            shutil.chown(path, "postgres", "postgres")
    command = [program("pgbouncer"), "--quiet", str(folder / "ini")]
    process = subprocess.Popen(command, stderr=subprocess.DEVNULL, **not_as_root())
    try:
        until(partial(answers, f"postgresql://postgres@127.0.0.1:{port}/postgres"), within=20)
        yield f"postgresql://postgres@127.0.0.1:{port}"
    finally:
        process.terminate()
        process.wait(20)
        shutil.rmtree(folder)


def answers(url: str) -> bool:
    """Whether a server takes connections."""
    try:
        psycopg.connect(url, connect_timeout=1).close()
    except psycopg.OperationalError:
        return False
    return True
