"""Make the virtual environment named on the command line, with this project and what its tests need."""

import subprocess
import sys
import tomllib
import venv
from pathlib import Path

root = Path(__file__).parents[1]


def main() -> None:
    environment = Path(sys.argv[1])
    if sys.version_info < (3, 11):
        sys.exit(f"Python 3.11 or newer is needed; this is {sys.version.split()[0]}. Try make PYTHON=python3.11 ...")
    if not (environment / "bin" / "pip").exists():
        try:
            venv.create(environment, with_pip=True)
        except subprocess.CalledProcessError:
            sys.exit("Python cannot make a virtual environment here; on Debian: apt-get install python3-venv")
    groups = tomllib.loads((root / "pyproject.toml").read_text())["dependency-groups"]
    pip = [str(environment / "bin" / "pip"), "install", "--quiet", "--disable-pip-version-check"]
    subprocess.run([*pip, "--editable", str(root), *groups["dev"]], check=True)


main()
