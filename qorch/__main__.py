"""stub"""
import sys
from pathlib import Path
from qorch.paths import StateDir
from qorch.serve import serve
a = sys.argv
assert a[1] == "serve", a
fds = dict(x.split("=") for x in a[a.index("--inherit")+1].split(","))
serve(StateDir(Path(a[a.index("--run")+1]), Path(a[a.index("--data")+1])), api=int(fds["api"]), lock=int(fds["lock"]), linger=float(a[a.index("--linger")+1]))
