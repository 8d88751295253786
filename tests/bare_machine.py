"""A machine that holds only what a test puts there, to drive ./run and ./test on."""

import re
import shutil
import subprocess
import sys
from pathlib import Path

CHECKOUT = Path(__file__).parents[1]
PLAIN_TOOLS = ["bash", "cat", "chmod", "cp", "dirname", "env", "getconf", "mkdir", "mv", "readlink", "rm", "sleep"]

# Stands for a Python and for the tools of the environment it makes: writes down what it is asked, installs nothing.
ACTOR = """#!{bash}
me=${{0##*/}}
[ "$me ${{*:1:2}}" != 'python -m pip' ] || me=pip
case "$me $*" in
  *find_spec*) echo ${{PROBE:-3.11 1 1}}; exit ;;
  *flock*) exec {python} "$@" ;;
esac
echo "$me $*" >>{diary}
bin=${{0%/*}}
case "$me $*" in
  *'-m venv --clear'*)
    rm -rf "${{@: -1}}"; mkdir -p "${{@: -1}}/bin"
    for tool in python ruff mypy lint-imports; do cp "$0" "${{@: -1}}/bin/$tool"; done ;;
  pip*--require-hashes*)
    sleep ${{PIP_SECONDS:-0}}
    [ -z "${{PIP_ERROR:-}}" ] || {{ echo "$PIP_ERROR"; exit 1; }} ;;
  pip*)
    printf '#!{bash}\\necho "pid=$$ cwd=$PWD words=$*"\\nexit 7\\n' >"$bin/kinfolk"
    chmod +x "$bin/kinfolk" ;;
esac
[ "$me" != "${{BROKEN:-}}" ]
"""


class Machine:
    """A checkout whose tools see folders of the machine's own, a PATH with little on it, a diary of what was asked."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self.checkout = root / "a check out"
        self.bin = root / "bin"
        self.diary = root / "diary"
        self.diary.touch()
        self.bin.mkdir()
        for tool in PLAIN_TOOLS:
            (self.bin / tool).symlink_to(shutil.which(tool) or f"/no/{tool}")
        shutil.copytree(CHECKOUT / "tools", self.checkout / "tools")
        shutil.copytree(CHECKOUT / ".ci", self.checkout / ".ci")
        for name in ["run", "test", "pyproject.toml", "requirements.txt", "requirements-dev.txt"]:
            shutil.copy(CHECKOUT / name, self.checkout)
        for name in ["test-servers", "environment.sh"]:
            script = self.checkout / "tools" / name
            first, rest = script.read_text().split("\n", 1)
            script.write_text(first + "\n" + re.sub(r"/(usr/(bin|sbin|lib)|etc|var/lib)/", rf"{root}\g<0>", rest))
        self.user(0)

    def command(self, name: str, body: str) -> Path:
        path = self.bin / name
        path.write_text(f"#!{self.bin}/bash\n{body}\n")
        path.chmod(0o755)
        return path

    def python(self, name: str = "python3.11") -> None:
        path = self.bin / name
        path.write_text(ACTOR.format(bash=self.bin / "bash", python=sys.executable, diary=self.diary))
        path.chmod(0o755)

    def user(self, uid: int) -> None:
        self.command("id", f"echo {uid}")

    def program(self, path: str) -> Path:
        program = self.root / path.lstrip("/")
        program.parent.mkdir(parents=True, exist_ok=True)
        program.touch()
        return program

    def start(self, *command: str, **environment: str) -> "subprocess.Popen[str]":
        return subprocess.Popen(
            [str(self.checkout / command[0]), *command[1:]],
            cwd=self.root,
            env={"PATH": str(self.bin), **environment},
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            start_new_session=True,
        )

    def run(self, *command: str, **environment: str) -> tuple[int, str, str]:
        """Exit code, standard output, standard error."""
        process = self.start(*command, **environment)
        out, err = process.communicate(timeout=60)
        return process.returncode, out, err

    def asked(self, what: str) -> list[str]:
        return [line for line in self.diary.read_text().splitlines() if what in line]
